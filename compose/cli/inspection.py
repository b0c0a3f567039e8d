"""`images`, `port`, `top`, `ls`, `stats`, `events` and `volumes`: questions about a project."""

from __future__ import annotations

import sys
import time
from collections import Counter
from typing import Any

import click

from pycompose.compose.cli import words
from pycompose.compose.cli.errors import CliError
from pycompose.compose.cli.flags import command
from pycompose.compose.cli.interrupts import interrupts_into
from pycompose.compose.cli.listing import FORMS, Listing, listing
from pycompose.compose.cli.objects import has_labels
from pycompose.compose.cli.settings import settings
from pycompose.compose.cli.tables import show, table
from pycompose.compose.cli.volume import row as volume_row
from pycompose.compose.client import Client, NotThereError
from pycompose.compose.client.state import services_and_tasks, task_of
from pycompose.compose.client.streams import Ended, Streams
from pycompose.compose.plan.progress import leaving, running
from pycompose.proto.v1 import access_pb2, control_pb2, image_pb2, task_pb2

IMAGES = {
    "ContainerName": "CONTAINER",
    "Repository": "REPOSITORY",
    "Tag": "TAG",
    "Platform": "PLATFORM",
    "ID": "IMAGE ID",
    "Size": "SIZE",
    "Created": "CREATED",
}
PROJECTS = {"Name": "NAME", "Status": "STATUS", "ConfigFiles": "CONFIG FILES"}
VOLUMES = {"Driver": "DRIVER", "Name": "VOLUME NAME"}


@command()
@click.argument("services", nargs=-1)
@listing("service", "repository")
def images(services: tuple[str, ...], listing_: Listing) -> None:
    """List the images that containers use."""
    chosen = settings()
    with chosen.client(start=False) as client:
        found, tasks = services_and_tasks(client, chosen.name(), services)
        specs = {service.id: service.spec.task.container for service in found}
        rows = []
        for task in tasks:
            spec = specs[task.service_id]
            image = task.status.image_digest or spec.image_digest or spec.image
            row = _image_row(client, task, image, spec.image, listing_)
            if listing_.equal("service", task.service_name) and listing_.equal("repository", row["Repository"]):
                rows.append(row)
    listing_.print(rows, IMAGES)


def _image_row(client: Client, task: task_pb2.Task, image: str, reference: str, listing_: Listing) -> dict[str, Any]:
    repository, tag = split_reference(reference)
    row = {"ContainerName": task.name, "Repository": repository, "Tag": tag, "Platform": "", "ID": "", "Size": ""}
    row["Created"] = "N/A"
    try:
        found = client.images.InspectImage(image_pb2.InspectImageRequest(image=image)).image
    except NotThereError:
        return row
    row.update(ID=listing_.id(found.id), Size=words.size(found.size_bytes), Platform=found.platform)
    if found.HasField("created_at"):
        row["Created"] = f"{words.since(found.created_at, time.time())} ago"
    return row


def split_reference(reference: str) -> tuple[str, str]:
    """Return (repository, tag) of an image reference."""
    name, _, digest = reference.partition("@")
    head, colon, tag = name.rpartition(":")
    if colon and "/" not in tag:
        return head, tag
    return name, "<none>" if digest else "latest"


@command()
@click.option("--index", type=int, default=0, metavar="N", help="Container number N of the service.")
@click.option("--protocol", type=click.Choice(["tcp", "udp", "sctp"]), default="tcp", help="tcp or udp.")
@click.argument("service")
@click.argument("private_port", type=int)
def port(index: int, protocol: str, service: str, private_port: int) -> None:
    """Print the public address of a container's port."""
    chosen = settings()
    name = chosen.name()
    with chosen.client(start=False) as client:
        found, _ = services_and_tasks(client, name, (service,))
        task = task_of(client, name, service, index)
    for address, public, target, kind in words.published(found[0], task):
        if (target, kind) == (private_port, protocol):
            print(f"{address or '0.0.0.0'}:{public}")
            return
    published = ", ".join(f"{target}/{kind}" for _, _, target, kind in words.published(found[0], task))
    raise CliError(
        f"service {service} does not publish port {private_port}/{protocol}; it publishes {published or 'none'}"
    )


@command()
@click.argument("services", nargs=-1)
def top(services: tuple[str, ...]) -> None:
    """List the processes of containers."""
    chosen = settings()
    with chosen.client(start=False) as client:
        _, tasks = services_and_tasks(client, chosen.name(), services)
        for task in tasks:
            if running(task):
                print(f"{task.name}\n{processes(client, task)}\n")


def processes(client: Client, task: task_pb2.Task) -> str:
    """Return a table of a container's processes."""
    answer = client.access.ListProcesses(access_pb2.ListProcessesRequest(task_id=task.id))
    rows = [
        [
            one.user,
            str(one.pid),
            str(one.parent_pid),
            time.strftime("%H:%M", time.localtime(one.started_at.seconds)),
            one.tty or "?",
            time.strftime("%H:%M:%S", time.gmtime(one.cpu_time.seconds)),
            one.command,
        ]
        for one in answer.processes
    ]
    return table(["UID", "PID", "PPID", "STIME", "TTY", "TIME", "CMD"], rows)


@command()
@click.option("-a", "--all", "everything", is_flag=True, help="Also projects of which nothing runs.")
@listing("name", quiet="names")
def ls(everything: bool, listing_: Listing) -> None:
    """List projects."""
    with settings().client(start=False) as client:
        projects = client.control.ListProjects(control_pb2.ListProjectsRequest()).projects
        tasks = client.control.ListTasks(control_pb2.ListTasksRequest()).tasks
    rows = []
    for project in projects:
        counts = Counter(words.state(task) for task in tasks if task.project == project.spec.name)
        if (not everything and not counts.get("running")) or not listing_.equal("name", project.spec.name):
            continue
        status = ", ".join(f"{word}({count})" for word, count in sorted(counts.items()))
        rows.append({"Name": project.spec.name, "Status": status, "ConfigFiles": ",".join(project.spec.config_files)})
    listing_.print(rows, PROJECTS, name="Name")


@command()
@click.argument("services", nargs=-1)
@listing("name", "label", quiet="names")
def volumes(services: tuple[str, ...], listing_: Listing) -> None:
    """List volumes of the project."""
    chosen = settings()
    name = chosen.name()
    with chosen.client(start=False) as client:
        request = control_pb2.ListVolumesRequest(filter=control_pb2.ObjectFilter(project=name))
        found = list(client.control.ListVolumes(request).volumes)
        if services:
            used, _ = services_and_tasks(client, name, services)
            names = {mount.source for one in used for mount in one.spec.task.container.mounts}
            found = [volume for volume in found if volume.spec.name in names]
    rows = [
        volume_row(one)
        for one in found
        if listing_.part("name", one.spec.name) and has_labels(one.spec.labels, listing_.wanted.get("label", ()))
    ]
    listing_.print(rows, VOLUMES, name="Name", lines=True)


@command()
@click.argument("services", nargs=-1)
@click.option("-a", "--all", "everything", is_flag=True, help="Also containers that do not run.")
@click.option("--format", "form", default="table", metavar="FORM", help=f"{FORMS}.")
@click.option("--no-stream", is_flag=True, help="One sample.")
@click.option("--no-trunc", is_flag=True, help="Do not cut ids.")
def stats(services: tuple[str, ...], everything: bool, form: str, no_stream: bool, no_trunc: bool) -> None:
    """Print what containers use."""
    chosen = settings()
    with chosen.client(start=False) as client:
        _, tasks = services_and_tasks(client, chosen.name(), services)
        shown = [task for task in tasks if not leaving(task) and (everything or running(task))]
        show_stats(client, shown, form, once=no_stream, whole=no_trunc)


STATS = {
    "ID": "CONTAINER ID",
    "Name": "NAME",
    "CPUPerc": "CPU %",
    "MemUsage": "MEM USAGE / LIMIT",
    "MemPerc": "MEM %",
    "NetIO": "NET I/O",
    "BlockIO": "BLOCK I/O",
    "PIDs": "PIDS",
}


def show_stats(client: Client, tasks: list[task_pb2.Task], form: str, *, once: bool, whole: bool) -> None:
    """Print usage of tasks: a second's for `once`, else each second until interrupted."""
    if not tasks:
        print(show(form, [], STATS))
        return
    names = {task.id: task.name for task in tasks}
    request = access_pb2.WatchStatsRequest(task_ids=list(names))
    before: dict[str, access_pb2.TaskStats] = {}
    with interrupts_into(Streams()) as streams:
        streams.add("stats", client.access.WatchStats(request))
        while True:
            item = streams.get(None)
            if item is None or item[0] == "interrupt":
                return
            if isinstance(item[1], Ended):
                if item[1].error is not None:
                    raise item[1].error
                return
            rows = [_stats_row(one, before.get(one.task_id), names, whole=whole) for one in item[1].stats]
            there = {one.task_id for one in item[1].stats}
            rows += [_no_stats(one, name, whole=whole) for one, name in names.items() if one not in there]
            first = not before
            before = {one.task_id: one for one in item[1].stats}
            if once and first:
                # the share of a CPU takes two samples
                continue
            if not once and form == "table" and sys.stdout.isatty():
                print("\x1b[H\x1b[2J", end="")
            # what does not end is no array
            print(show("ndjson" if form == "json" and not once else form, rows, STATS, whole=whole), flush=True)
            if once:
                return


def _no_stats(task_id: str, name: str, *, whole: bool) -> dict[str, Any]:
    """Return the row of a container that does not run."""
    row = dict.fromkeys(STATS, "--")
    return {**row, "ID": task_id if whole else task_id[:12], "Container": task_id, "Name": name}


def _stats_row(
    now: access_pb2.TaskStats, before: access_pb2.TaskStats | None, names: dict[str, str], *, whole: bool
) -> dict[str, Any]:
    percent = 0.0
    if before is not None:
        passed = now.time.ToNanoseconds() - before.time.ToNanoseconds()
        used = now.cpu_time.ToNanoseconds() - before.cpu_time.ToNanoseconds()
        percent = 100 * used / passed if passed > 0 else 0.0
    memory = 100 * now.memory_bytes / now.memory_limit_bytes if now.memory_limit_bytes else 0.0
    return {
        "ID": now.task_id if whole else now.task_id[:12],
        "Container": now.task_id,
        "Name": names.get(now.task_id, ""),
        "CPUPerc": f"{percent:.2f}%",
        "MemUsage": f"{words.binary_size(now.memory_bytes)} / {words.binary_size(now.memory_limit_bytes)}",
        "MemPerc": f"{memory:.2f}%",
        "NetIO": f"{words.size(now.network_received_bytes)} / {words.size(now.network_sent_bytes)}",
        "BlockIO": f"{words.size(now.block_read_bytes)} / {words.size(now.block_written_bytes)}",
        "PIDs": str(now.pids),
    }
