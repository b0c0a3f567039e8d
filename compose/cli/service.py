"""`service`: services by id, name, or PROJECT/NAME."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Mapping
from typing import Any

import click

from pycompose.compose.cli import words
from pycompose.compose.cli.display import Display
from pycompose.compose.cli.down import remove_services
from pycompose.compose.cli.errors import UsageError
from pycompose.compose.cli.flags import LISTS, group
from pycompose.compose.cli.interrupts import interrupts_into
from pycompose.compose.cli.listing import Listing, listing
from pycompose.compose.cli.logflags import LogWish, log_flags
from pycompose.compose.cli.logprint import LogPrinter
from pycompose.compose.cli.objects import as_dict, each, has_labels, inspect, outline
from pycompose.compose.cli.servicechange import create, full_name, update, wait_for
from pycompose.compose.cli.settings import scales, settings
from pycompose.compose.cli.tables import show
from pycompose.compose.client import Client
from pycompose.compose.client.streams import Ended, Streams
from pycompose.proto.v1 import control_pb2, service_pb2, task_pb2

COLUMNS = {"ID": "ID", "Name": "NAME", "Mode": "MODE", "Replicas": "REPLICAS", "Image": "IMAGE", "Ports": "PORTS"}
TASKS = {
    "ID": "ID",
    "Name": "NAME",
    "Image": "IMAGE",
    "Node": "NODE",
    "DesiredState": "DESIRED STATE",
    "CurrentState": "CURRENT STATE",
    "Error": "ERROR",
}


@group(aliases=LISTS)
def service() -> None:
    """Manage services."""


def _get(client: Client, name: str) -> service_pb2.Service:
    return client.control.GetService(control_pb2.GetServiceRequest(service=name)).service


def _mode(one: service_pb2.Service) -> str:
    return (one.spec.WhichOneof("mode") or "replicated").replace("_", "-")


def _row(one: service_pb2.Service, listing_: Listing) -> dict[str, Any]:
    ports = ", ".join(
        f"{port.host_ip or '*'}:{port.published_port}->{port.target_port}/{words.PROTOCOLS[port.protocol]}"
        for port in one.endpoint.ports
    )
    return {
        "ID": listing_.id(one.id),
        "Name": full_name(one),
        "Mode": _mode(one),
        "Replicas": f"{one.counts.running}/{one.counts.desired}",
        "Image": one.spec.task.container.image,
        "Ports": ports,
    }


for _command, _name in ((create, "create"), (update, "update")):
    service.add_command(_command, _name)


@service.command("ls")
@listing("name", "label", "id", "mode", "project", short=True)
def ls(listing_: Listing) -> None:
    """List services."""
    with settings().client(start=False) as client:
        found = client.control.ListServices(control_pb2.ListServicesRequest()).services
    rows = [_row(one, listing_) for one in sorted(found, key=full_name) if _matches(one, listing_)]
    listing_.print(rows, COLUMNS)


def _matches(one: service_pb2.Service, listing_: Listing) -> bool:
    return (
        listing_.part("name", full_name(one))
        and listing_.start("id", one.id)
        and listing_.equal("mode", _mode(one))
        and listing_.equal("project", one.spec.project)
        and has_labels(one.spec.labels, listing_.wanted.get("label", ()))
    )


@service.command("ps")
@listing("id", "name", "node", "desired-state", short=True)
@click.option("--no-resolve", is_flag=True, help="Ids of nodes in place of names.")
@click.argument("names", nargs=-1, required=True, metavar="SERVICE...")
def ps(names: tuple[str, ...], no_resolve: bool, listing_: Listing) -> None:
    """List the tasks of services, and why they are where they are."""
    with settings().client(start=False) as client:
        found = [_get(client, name) for name in names]
        request = control_pb2.ListTasksRequest(service_ids=[one.id for one in found])
        tasks = sorted(client.control.ListTasks(request).tasks, key=lambda task: (task.service_name, task.slot))
        nodes = {one.id: one for one in client.control.ListNodes(control_pb2.ListNodesRequest()).nodes}
    images = {one.id: one.spec.task.container.image for one in found}
    now = time.time()
    hosts = {} if no_resolve else {one.id: one.description.hostname for one in nodes.values()}
    listing_.print(task_rows(tasks, images, hosts, now, listing_), TASKS)


def task_rows(
    tasks: Iterable[task_pb2.Task],
    images: Mapping[str, str],
    hosts: Mapping[str, str],
    now: float,
    listing_: Listing,
) -> list[dict[str, Any]]:
    """Return the rows of tasks that the filters take.

    Args:
        tasks: in the order of the rows.
        images: by service id.
        hosts: names of nodes by id; the id stands for one that is missing.
        now: seconds since the epoch.
        listing_: how the list is wanted.
    """
    rows = [
        {
            "ID": listing_.id(task.id),
            "Name": task.name,
            "Image": images.get(task.service_id, ""),
            "Node": hosts.get(task.node_id, task.node_id),
            "DesiredState": _word(task_pb2.DesiredState.Name(task.desired_state)),
            "CurrentState": _since(task.status, now),
            "Error": words.reason(task),
        }
        for task in tasks
        if listing_.start("id", task.id) and listing_.part("name", task.name)
    ]
    return [
        row
        for row in rows
        if listing_.equal("node", row["Node"]) and listing_.equal("desired-state", row["DesiredState"].lower())
    ]


def _since(status: task_pb2.TaskStatus, now: float) -> str:
    return f"{_word(task_pb2.TaskState.Name(status.state))} {words.since(status.since, now)} ago"


def _word(name: str) -> str:
    return name.rpartition("STATE_")[2].capitalize()


@service.command("inspect")
@click.argument("names", nargs=-1, required=True, metavar="SERVICE...")
@click.option("-f", "--format", "form", metavar="TEMPLATE", help="A template, or json.")
@click.option("--pretty", is_flag=True, help="For people.")
def inspect_(names: tuple[str, ...], form: str | None, pretty: bool) -> None:
    """Print services as JSON."""
    with settings().client(start=False) as client:
        if pretty:
            return print("\n".join(outline(as_dict(_get(client, name))) for name in names))
        return inspect(names, lambda name: as_dict(_get(client, name)), form)


@service.command("logs")
@log_flags
@click.option("--raw", is_flag=True, help="No names before lines.")
@click.option("--details", is_flag=True, help="Accepted: output has no attributes here.")
@click.option("--no-resolve", is_flag=True, help="Ids in place of names.")
@click.option("--no-task-ids", is_flag=True, help="Accepted: ids are never shown beside names.")
@click.option("--no-trunc", is_flag=True, help="Whole ids.")
@click.argument("name", metavar="SERVICE")
def logs(
    raw: bool,
    details: bool,
    no_resolve: bool,
    no_task_ids: bool,
    no_trunc: bool,
    name: str,
    wish: LogWish,
) -> None:
    """Print the output of a service's tasks."""
    chosen, request = settings(), wish.request
    with chosen.client(start=False) as client, interrupts_into(Streams()) as streams:
        one = _get(client, name)
        tasks = client.control.ListTasks(control_pb2.ListTasksRequest(service_ids=[one.id])).tasks
        colour = chosen.colour(sys.stdout.isatty())
        printer = LogPrinter(colour=colour, prefix=not raw, timestamps=wish.timestamps, grep=wish.grep)
        for task in tasks:
            shown = task.name if not no_resolve else task.id if no_trunc else task.id[:12]
            printer.know(task.id, shown, task.service_name)
        request.task_ids.extend(task.id for task in tasks if task.status.run)
        if not request.task_ids:
            return
        streams.add("log", client.access.ReadLogs(request))
        while (item := streams.get(None)) is not None and item[0] != "interrupt":
            if isinstance(item[1], Ended):
                printer.flush()
                if item[1].error is not None:
                    raise item[1].error
                return
            printer.entries(item[1].entries)


@service.command("scale")
@click.option("-d", "--detach", is_flag=True, help="Do not wait.")
@click.argument("texts", nargs=-1, required=True, metavar="SERVICE=N...")
def scale(detach: bool, texts: tuple[str, ...]) -> None:
    """Change how many tasks services have."""
    chosen = settings()
    with chosen.client(start=False) as client:
        for name, number in scales(texts, "").items():
            one = _get(client, name)
            if one.spec.WhichOneof("mode") != "replicated":
                raise UsageError(f"service {full_name(one)} is not replicated: it cannot be scaled")
            one.spec.replicated.replicas = number
            request = control_pb2.UpdateServiceRequest(service_id=one.id, version=one.meta.version, spec=one.spec)
            client.control.UpdateService(request)
            if not detach:
                wait_for(chosen, client, one)
            print(f"{name} scaled to {number}")


@service.command("rm")
@click.argument("names", nargs=-1, required=True, metavar="SERVICE...")
def rm(names: tuple[str, ...]) -> None:
    """Remove services, with their containers."""
    chosen = settings()
    with chosen.client(start=False) as client:

        def remove(name: str) -> None:
            one = _get(client, name)
            with interrupts_into(Streams()) as streams:
                remove_services(client, streams, one.spec.project, [one], Display("quiet"))

        each(names, remove)


@service.command("history")
@click.argument("name", metavar="SERVICE")
def history(name: str) -> None:
    """List the revisions that a service has had."""
    with settings().client(start=False) as client:
        one = _get(client, name)
        request = control_pb2.ListServiceRevisionsRequest(service_id=one.id)
        revisions = client.control.ListServiceRevisions(request).revisions
    rows = [
        {"Revision": each_.revision, "Image": each_.task.container.image, "Version": each_.version.number}
        for each_ in revisions
    ]
    print(show("table", rows, {"Revision": "REVISION", "Image": "IMAGE", "Version": "VERSION"}))


@service.command("explain")
@click.argument("name", metavar="TASK")
def explain(name: str) -> None:
    """Say why a task is where it is, or why it waits, node by node."""
    with settings().client(start=False) as client:
        task = client.control.GetTask(control_pb2.GetTaskRequest(task=name)).task
        answer = client.control.ExplainTask(control_pb2.ExplainTaskRequest(task_id=task.id))
    print(answer.summary)
    rows = [
        {
            "Node": one.hostname or one.node_id,
            "Suitable": "yes" if one.suitable else "no",
            "Score": f"{one.score:.2f}" if one.suitable else "",
            "Reasons": "; ".join(one.reasons),
        }
        for one in answer.nodes
    ]
    if rows:
        print(show("table", rows, {"Node": "NODE", "Suitable": "SUITABLE", "Score": "SCORE", "Reasons": "REASONS"}))


@service.command("rollback")
@click.option("-d", "--detach", is_flag=True, help="Do not wait.")
@click.option("-q", "--quiet", is_flag=True, help="No progress.")
@click.argument("name", metavar="SERVICE")
@click.argument("revision", type=int, default=0, metavar="[REVISION]")
def rollback(detach: bool, quiet: bool, name: str, revision: int) -> None:
    """Go back to the revision before, or to a given one."""
    chosen = settings()
    with chosen.client(start=False) as client:
        one = _get(client, name)
        request = control_pb2.RollbackServiceRequest(service_id=one.id, version=one.meta.version, revision=revision)
        back = client.control.RollbackService(request).service
        if not detach:
            wait_for(chosen, client, back, quiet=quiet)
        print(name)
