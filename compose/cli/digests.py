"""Images pinned to digests for `config` and `publish`: a tag is looked up at its registry, by the node."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

from pycompose.compose.cli.errors import CliError
from pycompose.compose.cli.settings import settings
from pycompose.compose.client import Client, ClientError
from pycompose.compose.client.credentials import Wallet
from pycompose.compose.client.references import ImageName, parse
from pycompose.compose.loader import Model, Project
from pycompose.proto.v1 import image_pb2

AT_ONCE = 8


def pinned(project: Project) -> Project:
    """Return a project whose services name their images in full and with a digest; one that is built stays.

    Raises:
        CliError: with a line for each image that cannot be resolved.
    """
    wanted = {name: one["image"] for name, one in project.services.items() if one.get("image")}
    found = _resolved(wanted, {name: project.place("services", name, "image") for name in wanted})
    services = {name: {**one, "image": found.get(name, one.get("image"))} for name, one in project.services.items()}
    for name, one in project.services.items():
        if "image" not in one:
            del services[name]["image"]
    return replace(project, model={**project.model, "services": services})


def pin_model(model: Model) -> None:
    """Pin the images of files that were not interpolated, in place.

    Raises:
        CliError: with a line for each image that cannot be resolved.
    """
    services = model.tree.get("services") or {}
    wanted = {name: one["image"] for name, one in services.items() if isinstance(one.get("image"), str)}
    for name, image in _resolved(wanted, {name: f"services.{name}.image: " for name in wanted}).items():
        services[name]["image"] = image


def _resolved(wanted: Mapping[str, str], places: Mapping[str, str]) -> dict[str, str]:
    """Return pinned images by service; what is pinned already costs no question."""
    names: dict[str, ImageName] = {}
    problems = []
    for service, text in wanted.items():
        try:
            names[service] = parse(text)
        except ValueError as error:
            hint = "; its variables have no values here: leave --no-interpolate out" if "$" in text else ""
            problems.append(f"{places[service]}{error}{hint}")
    if problems:
        raise CliError("\n".join(problems))
    open_ones = {str(name): name for name in names.values() if not name.digest}
    if not open_ones:
        return {service: str(name) for service, name in names.items()}
    answers: dict[str, str | ClientError] = {}
    wallet = Wallet()
    requests = {
        full: image_pb2.ResolveImageRequest(reference=full, credentials=wallet.of(full)) for full in sorted(open_ones)
    }
    with settings().client() as client, ThreadPoolExecutor(AT_ONCE) as threads:
        asked = {full: threads.submit(_ask, client, request) for full, request in requests.items()}
        answers = {full: one.result() for full, one in asked.items()}
    for service, name in names.items():
        answer = answers.get(str(name))
        if isinstance(answer, ClientError):
            problems.append(f"{places[service]}{wanted[service]} cannot be resolved: {answer}")
    if problems:
        raise CliError("\n".join(problems))
    return {
        service: str(name if name.digest else name.pinned(str(answers[str(name)]))) for service, name in names.items()
    }


def _ask(client: Client, request: image_pb2.ResolveImageRequest) -> str | ClientError:
    try:
        return client.images.ResolveImage(request).digest
    except ClientError as error:
        return error


def images_only(project: Project, form: str) -> Project:
    """Return a project of nothing but its services' images, in the form in which Docker Compose prints it."""
    # Docker's JSON shows what is never left out of a service, its YAML does not
    always: dict[str, Any] = {"command": None, "entrypoint": None} if form == "json" else {}
    services = {
        name: {**always, **({"image": one["image"]} if one.get("image") else {})}
        for name, one in project.services.items()
    }
    head: dict[str, Any] = {"name": ""} if form == "json" else {}
    return replace(project, model={**head, "services": services})


def only_images(model: Model) -> None:
    """Leave nothing in files that were not interpolated but their services' images, in place."""
    tree = model.tree
    for key in [key for key in tree if key != "services"]:
        del tree[key]
    for service in (tree.get("services") or {}).values():
        for key in [key for key in service if key != "image"]:
            del service[key]
