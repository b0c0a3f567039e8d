"""`down`: stop and remove a project's containers and networks, and what else is asked for."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

import click

from pycompose.compose.cli import asking, providers
from pycompose.compose.cli.display import TICK, Display
from pycompose.compose.cli.errors import CliError, Exit
from pycompose.compose.cli.flags import command, option
from pycompose.compose.cli.interrupts import interrupts_into
from pycompose.compose.cli.ordering import levels
from pycompose.compose.cli.projectlock import LOCK_WAIT, holding
from pycompose.compose.cli.settings import Settings, settings
from pycompose.compose.cli.stopping import by_id, kill, stop
from pycompose.compose.cli.upflags import REMOVE_ORPHANS, orphan_default
from pycompose.compose.cli.watching import follow_project, see
from pycompose.compose.cli.words import size
from pycompose.compose.client import ApiError, Client, NotThereError
from pycompose.compose.client.state import fetch
from pycompose.compose.client.streams import Streams
from pycompose.compose.loader import Project
from pycompose.compose.plan.current import Current, is_oneoff
from pycompose.compose.plan.observed import Observed
from pycompose.compose.plan.progress import stop_done
from pycompose.proto.v1 import access_pb2, control_pb2, image_pb2, service_pb2


@command()
@click.argument("services", nargs=-1)
@option("-v", "--volumes", also=["--volume"], is_flag=True, help="Also remove named volumes, with their data.")
@click.option("--rmi", type=click.Choice(["local", "all"]), help="Also remove images: all, or those without a name.")
@REMOVE_ORPHANS
@click.option("-t", "--timeout", type=int, metavar="SECONDS", help="Grace when containers are stopped.")
@option("-y", "--yes", also=["--y"], is_flag=True, help="Answer every question with yes.")
@LOCK_WAIT
def down(
    services: tuple[str, ...],
    volumes: bool,
    rmi: str | None,
    remove_orphans: bool | None,
    timeout: int | None,
    yes: bool,
) -> None:
    """Stop and remove containers and networks.

    Volumes stay with their data unless -v is given; then they are listed with their sizes, and on a terminal you are
    asked first.

    \b
    pycompose down         containers and networks
    pycompose down -v -y   also volumes, without a question
    """
    chosen = settings()
    project = chosen.known_project()
    name = project.name if project else chosen.name()
    with chosen.client(start=False) as client, interrupts_into(Streams()) as streams:
        current = fetch(client, name)
        targets = _targets(chosen, current, project, services, orphan_default(remove_orphans))
        if chosen.dry_run:
            return _show(current, name, targets, volumes=volumes, everything=not services)
        if not yes and asking.can_ask():
            _ask(client, name, current, project, targets, volumes=volumes and not services)
        with holding(chosen, client, name, streams) as waited, chosen.display("Removing") as display:
            if waited:
                current = fetch(client, name)
                targets = _targets(chosen, current, project, services, orphan_default(remove_orphans))
            images = _images(current, targets, rmi)
            remove_services(client, streams, name, targets, display, timeout)
            if not services:
                stay = sorted(set(current.services) - {one.spec.name for one in targets})
                _remove_rest(client, current, name, display, volumes=volumes, stay=stay)
            if project is not None:
                providers.down(project, services, display)
            _remove_images(client, images, display)
            if not targets and not display.shown:
                chosen.tell(f"nothing of project {name} is there")
    if not volumes and not services:
        mine = [one.spec for one in current.volumes.values() if one.spec.project == name]
        kept = [spec.name for spec in mine if not spec.anonymous]
        if kept:
            chosen.tell(f"volumes stay with their data: {', '.join(sorted(kept))} (down -v removes them)")
    return None


def _ask(
    client: Client,
    name: str,
    current: Current,
    project: Project | None,
    targets: Sequence[service_pb2.Service],
    *,
    volumes: bool,
) -> None:
    """Ask before data is deleted, and before containers go that the files do not know.

    Raises:
        Exit: the answer is no.
    """
    known = {*project.services, *project.disabled_services} if project is not None else None
    orphans = [one.spec.name for one in targets if known is not None and one.spec.name not in known]
    orphans = [one for one in orphans if not is_oneoff(current.services[one])]
    if orphans:
        asking.confirm(f"Also remove {', '.join(orphans)}, which the files do not know?", "--yes")
    mine = [one.spec.name for one in current.volumes.values() if volumes and one.spec.project == name]
    usages = client.access.MeasureVolumes(access_pb2.MeasureVolumesRequest(volumes=sorted(mine))).usages if mine else ()
    full = [usage for usage in usages if usage.entries]
    if full:
        print("down -v deletes the data of these volumes:", file=sys.stderr)
        width = max(len(usage.volume) for usage in full)
        for usage in full:
            what = "1 file or folder" if usage.entries == 1 else f"{usage.entries} files and folders"
            print(f"  {usage.volume.ljust(width)}   {size(usage.bytes)} in {what}", file=sys.stderr)
        asking.confirm("Delete them?", "--yes")


def _targets(
    chosen: Settings, current: Current, project: Project | None, names: Sequence[str], orphans: bool
) -> list[service_pb2.Service]:
    """Return the services to remove; orphans that stay are named."""
    if names:
        for name in names:
            if name not in current.services and (project is None or name not in project.services):
                raise CliError(f'no service "{name}" in project; it has {", ".join(current.services) or "none"}')
        return [service for name, service in current.services.items() if name in names]
    if project is None or orphans:
        return list(current.services.values())
    known = {*project.services, *project.disabled_services}
    left = [one.spec.name for one in current.services.values() if one.spec.name not in known and not is_oneoff(one)]
    if left:
        chosen.warn(f"services that are not in the files stay: {', '.join(left)}; down --remove-orphans removes them")
    return [one for one in current.services.values() if one.spec.name in known or is_oneoff(one)]


def remove_services(
    client: Client,
    streams: Streams,
    project: str,
    services: Sequence[service_pb2.Service],
    display: Display,
    timeout: int | None = None,
) -> None:
    """Stop and remove services, dependents first, and wait until they are gone."""
    if not services:
        return
    observed = Observed()
    follow_project(client, streams, project)
    while not observed.synchronized:
        _take(streams.get(None), observed, display)
    if timeout is not None:
        stop(client, streams, observed, by_id(services), display, timeout)
    for group in levels(services):
        for service in group:
            try:
                client.control.RemoveService(control_pb2.RemoveServiceRequest(service_id=service.id))
            except NotThereError:
                continue
        _until_gone(client, streams, observed, group, display)


def _until_gone(
    client: Client, streams: Streams, observed: Observed, group: Sequence[service_pb2.Service], display: Display
) -> None:
    ids = {service.id for service in group}
    names: dict[str, str] = {}
    while True:
        names.update({task.id: task.name for one in ids for task in observed.of(one)})
        for identity, name in names.items():
            task = observed.tasks.get(identity)
            if task is None:
                display.set(f"Container {name}", "Removed", state="done")
            else:
                display.set(f"Container {name}", "Removing" if stop_done(task) else "Stopping")
        display.tick()
        left = any(one in observed.services for one in ids) or any(one in observed.tasks for one in names)
        if observed.synchronized and not left:
            return
        item = streams.get(TICK if display.live else None)
        if item is not None and item[0] == "interrupt":
            kill(client, [one for one in names if one in observed.tasks and not stop_done(observed.tasks[one])])
        else:
            _take(item, observed, display)


def _take(item: tuple[str, object] | None, observed: Observed, display: Display) -> None:
    if item is None:
        return
    name, answer = item
    if name == "interrupt":
        raise Exit(130)
    if name == "watch":
        see(answer, observed, display, "what was asked to go goes")


def _remove_rest(
    client: Client, current: Current, project: str, display: Display, *, volumes: bool, stay: Sequence[str]
) -> None:
    """Remove the project's networks, secrets, configs and record; with `volumes`, its volumes.

    What services that stay use stays, too, and so does the record.
    """
    kinds: list[tuple[str, Mapping[str, Any]]] = [
        ("network", current.networks),
        ("secret", current.secrets),
        ("config", current.configs),
    ]
    if volumes:
        kinds.append(("volume", current.volumes))
    for kind, objects in kinds:
        for name, one in objects.items():
            if one.spec.project == project:
                _remove_one(client, kind, name, one.id, display)
    if current.project is not None and not stay:
        with suppress(NotThereError):
            client.control.RemoveProject(control_pb2.RemoveProjectRequest(project_id=project))


def _remove_one(client: Client, kind: str, name: str, identity: str, display: Display) -> None:
    label = f"{kind.capitalize()} {name}"
    display.set(label, "Removing")
    request = getattr(control_pb2, f"Remove{kind.capitalize()}Request")()
    setattr(request, f"{kind}_id", identity)
    try:
        getattr(client.control, f"Remove{kind.capitalize()}")(request)
    except NotThereError:
        pass
    except ApiError as error:
        if error.code != "FAILED_PRECONDITION":
            raise
        display.set(label, "Kept", error.message, "failed")
        return
    display.set(label, "Removed", state="done")
    display.tick()


def _images(current: Current, targets: Sequence[service_pb2.Service], rmi: str | None) -> list[str]:
    if rmi is None:
        return []
    names = []
    for service in targets:
        image = service.spec.task.container.image
        own = image == f"{service.spec.project}-{service.spec.name}"
        if image not in names and (rmi == "all" or own):
            names.append(image)
    return names


def _remove_images(client: Client, images: Sequence[str], display: Display) -> None:
    for image in images:
        display.set(f"Image {image}", "Removing")
        try:
            client.images.RemoveImage(image_pb2.RemoveImageRequest(image=image))
        except ApiError as error:
            if error.code not in ("FAILED_PRECONDITION", "NOT_FOUND"):
                raise
            display.set(f"Image {image}", "Kept", error.message, "failed")
            continue
        display.set(f"Image {image}", "Removed", state="done")


def _show(
    current: Current, project: str, targets: Sequence[service_pb2.Service], *, volumes: bool, everything: bool
) -> None:
    for group in levels(targets):
        for service in group:
            print(f"remove service {service.spec.name}")
    if not everything:
        return
    for network in current.networks.values():
        if network.spec.project == project:
            print(f"remove network {network.spec.name}")
    for volume in current.volumes.values() if volumes else ():
        if volume.spec.project == project:
            print(f"remove volume {volume.spec.name}")
