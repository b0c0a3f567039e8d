"""Before `up`: every image is on the node, or is pulled, and each service is pinned to what its name means now.

A name is resolved once: by the registry where the policy asks it or the node has no such image, and then a registry
that fails is an error; else by what the node has.
"""

from __future__ import annotations

import time
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

    wanted: Wanted
    policy: int
    refresh_after: float
    place: str
    build: str
    pinned: str


def ensure(client: Client, desired: Desired, policy: str | None, display: Display) -> None:
    """Find or pull the images of all services, and write their ids into the specs.

    Args:
        client: the node.
        desired: the project; its specs get `image_digest`, and keep one that they have.
        policy: in place of the services' own: always, missing, never or build.
        display: shows a line per pull.

    Raises:
        CliError: an image is missing and cannot be had; with the place in the file.
        CredentialError: an account for a registry cannot be read.
    """
    found, pulls = _sorted(client, desired, policy)
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
    for spec in desired.services.values():
        container = spec.task.container
        container.image_digest = container.image_digest or found[Wanted(container.image, container.platform)]


def look(client: Client, desired: Desired, policy: str | None) -> dict[str, str]:
    """Write the ids of images that are on the node into the specs; return why others would be pulled, by name.

    Raises:
        CliError: as `ensure`, as far as the node knows.
    """
    found, pulls = _sorted(client, desired, policy)
    missing = {}
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


def _sorted(client: Client, desired: Desired, policy: str | None) -> tuple[dict[Wanted, str], list[_Wish]]:
    """Return the ids of images that are taken as they are, and wishes to pull, one per image.

    Raises:
        CliError: an image cannot be had.
    """
    found: dict[Wanted, str] = {}
    pulls: dict[Wanted, _Wish] = {}
    errors = []
    for wish in _wishes(desired, policy):
        if wish.pinned or wish.wanted in pulls:
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
        elif verdict is Verdict.KEEP and local is not None and not (policy == "build" and wish.build):
            found[wish.wanted] = local.id
        else:
            errors.append(_absent(wish, local))
    if errors:
        raise CliError("\n".join(dict.fromkeys(errors)))
    return found, list(pulls.values())


def _absent(wish: _Wish, local: Local | None) -> str:
    """Return why an image cannot be had."""
    name, load = wish.wanted.reference, "pycompose image load -i FILE.tar"
    if wish.build:
        return (
            f"{wish.build}: image {name} would have to be built, and building images is not there yet; build it "
            f"elsewhere and load it: {load}"
        )
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
                Wanted(container.image, container.platform),
                asked,
                container.pull_refresh_after.ToNanoseconds() / 1e9,
                desired.places[name],
                build,
                container.image_digest,
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
