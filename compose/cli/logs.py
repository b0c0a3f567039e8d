"""`logs`: output of a project's containers, merged by time."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Sequence

import click
from google.protobuf.timestamp_pb2 import Timestamp

from pycompose.compose.cli.display import Display
from pycompose.compose.cli.flags import command
from pycompose.compose.cli.interrupts import interrupts_into
from pycompose.compose.cli.logflags import LogWish, log_flags
from pycompose.compose.cli.logprint import LogPrinter, short_name
from pycompose.compose.cli.settings import settings
from pycompose.compose.cli.watching import follow_project, read_log, see
from pycompose.compose.client import Client
from pycompose.compose.client.state import services_and_tasks
from pycompose.compose.client.streams import Ended, Streams
from pycompose.compose.plan.observed import Observed
from pycompose.proto.v1 import access_pb2, task_pb2


@command()
@click.argument("services", nargs=-1)
@log_flags
@click.option("--no-color", is_flag=True, help="No colours.")
@click.option("--no-log-prefix", is_flag=True, help="No names before lines.")
@click.option("--index", type=int, default=0, metavar="N", help="Only container number N of a service.")
def logs(services: tuple[str, ...], no_color: bool, no_log_prefix: bool, index: int, wish: LogWish) -> None:
    """Print the output of containers, that of several merged by time.

    \b
    pycompose logs -f web            what web says, as it says it
    pycompose logs -n 20 --grep 500  of the last 20 lines of each container those with 500
    """
    chosen = settings()
    name = chosen.name()
    request = wish.request
    with chosen.client(start=False) as client:
        _, tasks = services_and_tasks(client, name, services)
        tasks = [task for task in tasks if not index or task.slot == index]
        colour = not no_color and chosen.colour(sys.stdout.isatty())
        printer = LogPrinter(colour=colour, prefix=not no_log_prefix, timestamps=wish.timestamps, grep=wish.grep)
        for task in tasks:
            printer.know(task.id, short_name(task.name, name), task.service_name)
        if request.follow:
            _follow(client, name, services, index, tasks, request, printer)
        elif tasks:
            request.task_ids.extend(task.id for task in tasks if task.status.run)
            printer.entries(_merged(client, request))
        printer.flush()


def _merged(client: Client, request: access_pb2.ReadLogsRequest) -> Iterable[access_pb2.LogEntry]:
    """Return all entries by time; those of one container keep their order."""
    if not request.task_ids:
        return []
    entries = [entry for answer in client.access.ReadLogs(request) for entry in answer.entries]
    if len(request.task_ids) > 1:
        entries.sort(key=lambda entry: (entry.time.seconds, entry.time.nanos))
    return entries


def _follow(
    client: Client,
    project: str,
    names: Sequence[str],
    index: int,
    tasks: Sequence[task_pb2.Task],
    request: access_pb2.ReadLogsRequest,
    printer: LogPrinter,
) -> None:
    """Print what is there merged by time, then what comes, of new containers too, until interrupted."""
    known: set[str] = set()
    open_: set[str] = set()
    with interrupts_into(Streams()) as streams:
        now = Timestamp()
        now.FromNanoseconds(time.time_ns())
        old = access_pb2.ReadLogsRequest()
        old.CopyFrom(request)
        old.follow = False
        old.task_ids.extend(task.id for task in tasks if task.status.run)
        if not request.HasField("until"):
            old.until.CopyFrom(now)
        printer.entries(_merged(client, old))
        until = request.until if request.HasField("until") else None

        def read(task: task_pb2.Task) -> None:
            if task.id in known or not task.status.run:
                return
            known.add(task.id)
            open_.add(f"log {task.id}")
            printer.know(task.id, short_name(task.name, project), task.service_name)
            read_log(client, streams, f"log {task.id}", task.id, now, until=until)

        for task in tasks:
            read(task)
        observed = Observed()
        follow_project(client, streams, project)
        notices = Display()
        while True:
            item = streams.get(None)
            if item is None:
                continue
            name, answer = item
            if name == "interrupt":
                return printer.flush()
            if name == "watch":
                see(answer, observed, notices, "containers go on running")
                for task in observed.tasks.values():
                    if (not names or task.service_name in names) and (not index or task.slot == index):
                        read(task)
            elif isinstance(answer, access_pb2.ReadLogsResponse):
                printer.entries(answer.entries)
            elif isinstance(answer, Ended):
                printer.flush(name.removeprefix("log "))
                open_.discard(name)
                if until is not None and not open_:
                    return None
                if answer.error is not None and getattr(answer.error, "code", "") != "NOT_FOUND":
                    print(f"warning: {answer.error}", file=sys.stderr)
