"""Before `up`: every image is on the node, or is pulled, and each service is pinned to what its name means now.

A name is resolved once: by the registry where the policy asks it or the node has no such image, and then a registry
that fails is an error; else by what the node has.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pycompose.compose.cli.display import Display
from pycompose.compose.cli.errors import CliError
from pycompose.compose.cli.pulling import Wanted, pull_all
from pycompose.compose.client import Client, NotThereError
from pycompose.compose.client.credentials import Wallet
from pycompose.compose.convert import Desired
from pycompose.compose.plan.images import Local, Verdict, decide
from pycompose.proto.v1 import container_pb2, image_pb2

POLICIES = {
    "always": container_pb2.PULL_POLICY_ALWAYS,
    "missing": container_pb2.PULL_POLICY_MISSING,
    "never": container_pb2.PULL_POLICY_NEVER,
}


@dataclass(frozen=True)
class _Wish:
    """What a service wants; `place` is where its image is written, `build` where its build, "" for none."""

    service: str
    wanted: Wanted
    policy: int
    refresh_after: float
    place: str
    build: str
    pinned: str
    always_built: bool


class Builds:
    """How images are built for a command; this one builds none.

    Attributes:
        every: all that can be built are.
        never: none is.
    """

    every, never = False, False

    def build(self, client: Client, services: Sequence[str]) -> Mapping[str, str]:
        """Build the images of services; returns their ids by service. Raises CliError."""
        return {}


def ensure(client: Client, desired: Desired, policy: str | None, display: Display, builds: Builds) -> None:
    """Find, pull or build the images of all services, and write their ids into the specs.

    Args:
        client: the node.
        desired: the project; its specs get `image_digest`, and keep one that they have.
        policy: in place of the services' own: always, missing, never or build.
        display: shows a line per pull.
        builds: makes the images that are built.

    Raises:
        CliError: an image is missing and cannot be had; with the place in the file.
        CredentialError: an account for a registry cannot be read.
    """
    found, pulls, built = _sorted(client, desired, policy, builds)
    if pulls:
        transfers = pull_all(client, [wish.wanted for wish in pulls], Wallet(), display)
        errors = []
        for wish in pulls:
            done = transfers[wish.wanted]
            if done.error is None:
                found[wish.wanted] = done.answer.image.id
            else:
                errors.append(f"{wish.place}: image {wish.wanted.reference} cannot be pulled: {done.error}")
        if errors:
            raise CliError("\n".join(errors))
    made = builds.build(client, built)
    by_name = {desired.services[name].task.container.image: image_id for name, image_id in made.items()}
    for spec in desired.services.values():
        container = spec.task.container
        wanted = Wanted(container.image, container.platform)
        container.image_digest = by_name.get(container.image) or container.image_digest or found[wanted]


def look(client: Client, desired: Desired, policy: str | None) -> dict[str, str]:
    """Write the ids of images that are on the node into the specs; return why others would be pulled, by name.

    Raises:
        CliError: as `ensure`, as far as the node knows.
    """
    found, pulls, built = _sorted(client, desired, policy, Builds())
    missing = {desired.services[name].task.container.image: "the file says how to build it" for name in built}
    for wish in pulls:
        local = find(client, wish.wanted.reference)
        why = "it is not on the node"
        if local is not None:
            found[wish.wanted] = local.id
            why = "its pull_policy asks the registry; a newer image would recreate its services"
        missing[wish.wanted.reference] = why
    for spec in desired.services.values():
        container = spec.task.container
        container.image_digest = found.get(Wanted(container.image, container.platform), "")
    return missing


def _sorted(
    client: Client, desired: Desired, policy: str | None, builds: Builds
) -> tuple[dict[Wanted, str], list[_Wish], list[str]]:
    """Return the ids of images that are taken as they are, wishes to pull, one per image, and services to build.

    Raises:
        CliError: an image cannot be had.
    """
    found: dict[Wanted, str] = {}
    pulls: dict[Wanted, _Wish] = {}
    errors: list[str] = []
    built: dict[str, str] = {}
    for wish in sorted(_wishes(desired, policy), key=lambda one: not one.build):
        if wish.pinned or wish.wanted in pulls or wish.wanted.reference in built.values():
            continue
        if wish.build and (builds.every or wish.always_built or policy == "build"):
            built[wish.service] = wish.wanted.reference
            continue
        local = find(client, wish.wanted.reference)
        verdict = decide(
            wish.policy,
            wish.refresh_after,
            local,
            wish.wanted.platform,
            buildable=bool(wish.build),
            now=time.time(),
        )
        if verdict is Verdict.PULL:
            pulls[wish.wanted] = wish
        elif verdict is Verdict.KEEP and local is not None:
            found[wish.wanted] = local.id
        elif verdict is Verdict.BUILD and not builds.never:
            built[wish.service] = wish.wanted.reference
        else:
            errors.append(_absent(wish, local))
    if errors:
        raise CliError("\n".join(dict.fromkeys(errors)))
    return found, list(pulls.values()), list(built)


def _absent(wish: _Wish, local: Local | None) -> str:
    """Return why an image cannot be had."""
    name, load = wish.wanted.reference, "pycompose image load -i FILE.tar"
    if wish.build:
        return f"{wish.build}: image {name} is not there, and --no-build was given; leave that out, or load it: {load}"
    if local is not None:
        return (
            f"{wish.place}: image {name} is there for {local.platform}, not for {wish.wanted.platform}, and "
            f"pull_policy is never; load the other: {load}"
        )
    return f"{wish.place}: image {name} is not there, and pull_policy is never; load it: {load}"


def _wishes(desired: Desired, policy: str | None) -> list[_Wish]:
    wishes = []
    for name, spec in desired.services.items():
        container, build = spec.task.container, desired.builds.get(name, "")
        asked = container.pull_policy
        if policy is not None and policy != "build":
            asked = POLICIES[policy]
        wishes.append(
            _Wish(
                name,
                Wanted(container.image, container.platform),
                asked,
                container.pull_refresh_after.ToNanoseconds() / 1e9,
                desired.places[name],
                build,
                container.image_digest,
                name in desired.always_built,
            )
        )
    return wishes


def find(client: Client, image: str) -> Local | None:
    """Return the image that the node has under a name, None when there is none."""
    try:
        found = client.images.InspectImage(image_pb2.InspectImageRequest(image=image)).image
    except NotThereError:
        return None
    named = [stamp.ToNanoseconds() / 1e9 for name, stamp in found.named_at.items() if _same(name, image)]
    return Local(found.id, found.platform, max(named, default=0.0))


def _same(familiar: str, written: str) -> bool:
    """Return whether a name as the node shows it is the one that was written."""
    name = written.removeprefix("docker.io/").removeprefix("library/")
    return familiar == name or familiar == f"{name}:latest"
