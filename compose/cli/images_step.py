"""Before `up`: every image is on the node, or is pulled, and each service is pinned to what its name means now."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from pycompose.compose.cli.display import Display
from pycompose.compose.cli.errors import CliError
from pycompose.compose.cli.words import size
from pycompose.compose.client import ApiError, Client, NotThereError
from pycompose.compose.convert import Desired
from pycompose.proto.v1 import container_pb2, image_pb2

POLICIES = {
    "always": container_pb2.PULL_POLICY_ALWAYS,
    "missing": container_pb2.PULL_POLICY_MISSING,
    "never": container_pb2.PULL_POLICY_NEVER,
    "build": container_pb2.PULL_POLICY_MISSING,
}


@dataclass(frozen=True)
class _Wish:
    image: str
    platform: str
    policy: int
    place: str
    build: str
    service: str


def ensure(client: Client, desired: Desired, policy: str | None, display: Display) -> None:
    """Find or pull the images of all services, and write their ids into the specs.

    Args:
        client: the node.
        desired: the project; its specs get `image_digest`.
        policy: in place of the services' own: always, missing or never.
        display: shows a line per pull.

    Raises:
        CliError: an image is missing and cannot be had; with the place in the file.
    """
    found: dict[tuple[str, str], str] = {}
    pulls: dict[tuple[str, str], _Wish] = {}
    errors = []
    for wish in _wishes(desired, policy):
        key = (wish.image, wish.platform)
        if key in found or key in pulls:
            continue
        local = None if wish.policy == container_pb2.PULL_POLICY_ALWAYS and not wish.build else find(client, wish.image)
        if local is not None:
            found[key] = local
        elif wish.build or wish.policy == container_pb2.PULL_POLICY_NEVER:
            errors.append(_absent(wish))
        else:
            pulls[key] = wish
    if errors:
        raise CliError("\n".join(errors))
    found.update(_pull_all(client, pulls, display))
    for spec in desired.services.values():
        container = spec.task.container
        container.image_digest = found[container.image, container.platform]


def look(client: Client, desired: Desired, policy: str | None) -> dict[str, str]:
    """Write the ids of images that are on the node into the specs; return why others would be pulled, by name.

    Raises:
        CliError: as `ensure`, as far as the node knows.
    """
    missing: dict[str, str] = {}
    errors = []
    for wish in _wishes(desired, policy):
        identity = find(client, wish.image)
        if identity is not None:
            for spec in desired.services.values():
                if spec.task.container.image == wish.image:
                    spec.task.container.image_digest = identity
        elif wish.build or wish.policy == container_pb2.PULL_POLICY_NEVER:
            errors.append(_absent(wish))
        if identity is None:
            missing[wish.image] = "it is not on the node"
        elif wish.policy == container_pb2.PULL_POLICY_ALWAYS and not wish.build:
            missing[wish.image] = "pull_policy is always; a newer image would recreate its services"
    if errors:
        raise CliError("\n".join(dict.fromkeys(errors)))
    return missing


def _absent(wish: _Wish) -> str:
    """Return why an image that is not there cannot be had."""
    load = "pycompose image load -i FILE.tar"
    if wish.build:
        return (
            f"{wish.build}: image {wish.image} is not there, and building images is not there yet; build it elsewhere "
            f"and load it: {load}"
        )
    return f"{wish.place}: image {wish.image} is not there, and pull_policy is never; load it: {load}"


def _wishes(desired: Desired, policy: str | None) -> list[_Wish]:
    return [
        _Wish(
            spec.task.container.image,
            spec.task.container.platform,
            POLICIES[policy] if policy else spec.task.container.pull_policy,
            desired.places[name],
            desired.builds.get(name, ""),
            name,
        )
        for name, spec in desired.services.items()
    ]


def find(client: Client, image: str) -> str | None:
    """Return the id of an image on the node, None when there is none."""
    try:
        return str(client.images.InspectImage(image_pb2.InspectImageRequest(image=image)).image.id)
    except NotThereError:
        return None


def _pull_all(client: Client, pulls: dict[tuple[str, str], _Wish], display: Display) -> dict[tuple[str, str], str]:
    if not pulls:
        return {}
    errors, found = [], {}
    with ThreadPoolExecutor(4) as pool:
        waiting = {key: pool.submit(pull, client, wish.image, wish.platform, display) for key, wish in pulls.items()}
        for key, future in waiting.items():
            try:
                found[key] = future.result()
            except ApiError as error:
                wish = pulls[key]
                display.set(f"Image {wish.image}", "Error", error.message, "failed")
                errors.append(
                    f"{wish.place}: image {wish.image} is not on the node and cannot be pulled: {error.message}"
                )
    if errors:
        raise CliError("\n".join(errors))
    return found


def pull(client: Client, image: str, platform: str, display: Display) -> str:
    """Pull an image and return its id.

    Raises:
        ApiError: the registry refuses, or cannot be reached.
    """
    layers: dict[str, image_pb2.LayerProgress] = {}
    display.set(f"Image {image}", "Pulling")
    request = image_pb2.PullImageRequest(reference=image, platform=platform)
    identity = ""
    for answer in client.images.PullImage(request):
        layers.update({layer.layer: layer for layer in answer.layers})
        if answer.image.id:
            identity = answer.image.id
        elif layers:
            current = sum(layer.current_bytes for layer in layers.values())
            total = sum(layer.total_bytes for layer in layers.values())
            display.set(f"Image {image}", "Pulling", f"{size(current)} of {size(total)}")
            display.tick()
    if not identity:
        raise ApiError(f"the node ended the pull of {image} without an image", "INTERNAL")
    display.set(f"Image {image}", "Pulled", state="done")
    return identity
