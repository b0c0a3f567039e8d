"""`ps`: a project's containers."""

from __future__ import annotations

import time
from typing import Any

import click

from pycompose.compose.cli import words
from pycompose.compose.cli.errors import UsageError
from pycompose.compose.cli.flags import command
from pycompose.compose.cli.settings import settings
from pycompose.compose.cli.tables import show
from pycompose.compose.client.state import services_and_tasks
from pycompose.proto.v1 import service_pb2, task_pb2

COLUMNS = {
    "Name": "NAME",
    "Image": "IMAGE",
    "Command": "COMMAND",
    "Service": "SERVICE",
    "RunningFor": "CREATED",
    "Status": "STATUS",
    "Ports": "PORTS",
}
STATES = ("paused", "restarting", "removing", "running", "dead", "created", "exited", "pending")


@command()
@click.argument("services", nargs=-1)
@click.option("-a", "--all", "everything", is_flag=True, help="Also containers that do not run.")
@click.option("-q", "--quiet", is_flag=True, help="Only ids.")
@click.option("--services", "only_services", is_flag=True, help="Only names of services.")
@click.option("--format", "form", default="table", metavar="FORM", help="table, json, or a template.")
@click.option("--filter", "filters", multiple=True, metavar="KEY=VALUE", help="Only some: status=running.")
@click.option("--status", "states", multiple=True, type=click.Choice(STATES), help="Only of this status.")
@click.option("--no-trunc", is_flag=True, help="Do not cut columns.")
@click.option("--orphans/--no-orphans", default=True, help="Also services that are not in the files.")
def ps(
    services: tuple[str, ...],
    everything: bool,
    quiet: bool,
    only_services: bool,
    form: str,
    filters: tuple[str, ...],
    states: tuple[str, ...],
    no_trunc: bool,
    orphans: bool,
) -> None:
    """List containers."""
    chosen = settings()
    project = None if orphans else chosen.known_project()
    name = project.name if project else chosen.name()
    wanted = set(states) | {_status_of(one) for one in filters}
    with chosen.client(start=False) as client:
        found, tasks = services_and_tasks(client, name, services)
    by_id = {service.id: service for service in found}
    if project is not None:
        tasks = [task for task in tasks if task.service_name in project.services]
    if wanted:
        tasks = [task for task in tasks if words.state(task) in wanted]
    elif not everything:
        tasks = [task for task in tasks if words.state(task) not in ("exited", "created", "dead")]
    tasks.sort(key=lambda task: (task.name, task.slot))
    if quiet:
        lines = [task.id if no_trunc else task.id[:12] for task in tasks]
        print("\n".join(lines), end="\n" if lines else "")
        return
    if only_services:
        lines = list(dict.fromkeys(task.service_name for task in tasks))
        print("\n".join(lines), end="\n" if lines else "")
        return
    rows = [row(task, by_id.get(task.service_id), time.time(), cut=form == "table" and not no_trunc) for task in tasks]
    text = show(form, rows, COLUMNS)
    if text:
        print(text)


def _status_of(text: str) -> str:
    key, equals, value = text.partition("=")
    if key != "status" or not equals:
        raise UsageError(f"--filter {text}: the only filter is status=STATE, with {', '.join(STATES)}")
    if value not in STATES:
        raise UsageError(f"--filter {text}: no such status; want {', '.join(STATES)}")
    return value


def row(task: task_pb2.Task, service: service_pb2.Service | None, now: float, *, cut: bool = True) -> dict[str, Any]:
    """Return one container's fields, named as Docker Compose's `ps --format json`."""
    spec = service.spec.task.container if service is not None else None
    command = words.command(command_words(service))
    created = task.meta.created_at
    labels = dict(spec.labels) if spec else {}
    labels["com.docker.compose.container-number"] = str(task.slot)
    return {
        "Command": words.ending(command, 22) if cut else command,
        "CreatedAt": _clock(created.seconds),
        "ExitCode": task.status.exit_code,
        "Health": words.health(task),
        "ID": task.id[:12] if cut else task.id,
        "Image": spec.image if spec else "",
        "Labels": ",".join(f"{key}={value}" for key, value in sorted(labels.items())),
        "LocalVolumes": str(sum(1 for mount in spec.mounts if mount.type == 2)) if spec else "0",
        "Mounts": ",".join(mount.source or mount.target for mount in spec.mounts) if spec else "",
        "Name": task.name,
        "Names": task.name,
        "Networks": ",".join(one.network for one in service.spec.task.networks) if service else "",
        "Ports": words.ports(service, task) if words.state(task) in ("running", "paused") else "",
        "Project": task.project,
        "Publishers": publishers(service, task),
        "RunningFor": f"{words.since(created, now)} ago",
        "Service": task.service_name,
        "Size": "0B",
        "State": words.state(task),
        "Status": words.status(task, now),
    }


def command_words(service: service_pb2.Service | None) -> list[str]:
    """Return what the spec says of the command; the image's own is not known here."""
    if service is None:
        return []
    spec = service.spec.task.container
    return [*spec.entrypoint.args, *spec.command.args]


def publishers(service: service_pb2.Service | None, task: task_pb2.Task) -> list[dict[str, Any]]:
    """Return the ports as Docker Compose's JSON has them."""
    return [
        {"URL": address or "0.0.0.0", "TargetPort": target, "PublishedPort": public, "Protocol": protocol}
        for address, public, target, protocol in words.published(service, task)
    ]


def _clock(seconds: int) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S %z %Z", time.localtime(seconds))
