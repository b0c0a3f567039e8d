"""`ps`: a project's containers."""

from __future__ import annotations

import time
from typing import Any

import click

from pycompose.compose.cli import words
from pycompose.compose.cli.errors import UsageError
from pycompose.compose.cli.flags import command
from pycompose.compose.cli.listing import Listing, listing
from pycompose.compose.cli.objects import has_labels
from pycompose.compose.cli.settings import Settings, settings
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
    "Reason": "REASON",
}
EVERYTHING = Listing(form="json")
STATES = ("paused", "restarting", "removing", "running", "dead", "created", "exited", "pending")


@command()
@click.argument("services", nargs=-1)
@click.option("-a", "--all", "everything", is_flag=True, help="Also containers that do not run.")
@click.option("--services", "only_services", is_flag=True, help="Only names of services.")
@click.option("--status", "states", multiple=True, type=click.Choice(STATES), help="Only of this status.")
@click.option("--orphans/--no-orphans", default=True, help="Also services that are not in the files.")
@listing("status", "name", "service", "label", "health", "id")
def ps(
    services: tuple[str, ...],
    everything: bool,
    only_services: bool,
    states: tuple[str, ...],
    orphans: bool,
    listing_: Listing,
) -> None:
    """List containers."""
    chosen = settings()
    project = None if orphans else chosen.known_project()
    name = project.name if project else chosen.name()
    wanted = {*states, *listing_.wanted.get("status", ())}
    if unknown := wanted - set(STATES):
        raise UsageError(f"--filter status={min(unknown)}: no such status; want {', '.join(STATES)}")
    with chosen.client(start=False) as client:
        found, tasks = services_and_tasks(client, name, services)
    by_id = {service.id: service for service in found}
    if project is not None:
        tasks = [task for task in tasks if task.service_name in project.services]
    tasks = [task for task in tasks if matches(task, by_id.get(task.service_id), listing_)]
    tasks.sort(key=lambda task: (task.name, task.slot))
    shown = [task for task in tasks if (words.state(task) in wanted if wanted else everything or alive(task))]
    if only_services:
        names = list(dict.fromkeys(task.service_name for task in shown))
        print("\n".join(names), end="\n" if names else "")
        return
    now = time.time()
    listing_.print([row(task, by_id.get(task.service_id), now, listing_) for task in shown], COLUMNS, lines=True)
    if not shown and listing_.form == "table" and not listing_.quiet:
        _say_where(chosen, name, len(tasks), bool(found))


def _say_where(chosen: Settings, name: str, hidden: int, known: bool) -> None:
    """Say what an empty table hides."""
    if hidden:
        chosen.tell(f"nothing of project {name} runs; pycompose ps -a shows {hidden} that {_does(hidden)} not")
    elif not known:
        chosen.tell(f"nothing of project {name} is there; pycompose up starts it, pycompose ls lists projects")


def _does(number: int) -> str:
    return "does" if number == 1 else "do"


def alive(task: task_pb2.Task) -> bool:
    """Return whether a list without -a has the task."""
    return words.state(task) not in ("exited", "created", "dead")


def matches(task: task_pb2.Task, service: service_pb2.Service | None, listing_: Listing) -> bool:
    """Return whether a container passes the filters that all lists of containers share."""
    labels = dict(service.spec.task.container.labels) if service is not None else {}
    return (
        listing_.equal("status", words.state(task))
        and listing_.part("name", task.name)
        and listing_.equal("service", task.service_name)
        and listing_.equal("project", task.project)
        and listing_.equal("health", (words.health(task) or "none"))
        and listing_.start("id", task.id)
        and has_labels(labels, listing_.wanted.get("label", ()))
    )


def row(
    task: task_pb2.Task, service: service_pb2.Service | None, now: float, listing_: Listing = EVERYTHING
) -> dict[str, Any]:
    """Return one container's fields, named as Docker Compose's `ps --format json`, and `Reason`: why it is so."""
    spec = service.spec.task.container if service is not None else None
    cut = listing_.form == "table" and not listing_.whole
    created = task.meta.created_at
    labels = dict(spec.labels) if spec else {}
    labels["com.docker.compose.container-number"] = str(task.slot)
    return {
        "Command": words.command(command_words(service), 20 if cut else None),
        "CreatedAt": _clock(created.seconds),
        "ExitCode": task.status.exit_code,
        "Health": words.health(task),
        "ID": listing_.id(task.id),
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
        "Reason": words.reason(task),
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
