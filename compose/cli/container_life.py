"""`container start`, `stop`, `restart`, `kill`, `pause`, `unpause`, `rm`, `prune` and `wait`."""

from __future__ import annotations

import time
from typing import Any

import click
from google.protobuf.timestamp_pb2 import Timestamp

from pycompose.compose.cli.asking import confirm
from pycompose.compose.cli.attach import DETACH_KEYS, detach_sequence
from pycompose.compose.cli.containers import get, is_single, service_of
from pycompose.compose.cli.errors import CliError, Exit, UsageError
from pycompose.compose.cli.flags import command
from pycompose.compose.cli.interrupts import interrupts_into
from pycompose.compose.cli.objects import Pruning, each
from pycompose.compose.cli.oneoff import Attachment, LeftError
from pycompose.compose.cli.settings import settings
from pycompose.compose.cli.stopping import grace
from pycompose.compose.client import ApiError, Client
from pycompose.compose.client.streams import Streams, watch
from pycompose.compose.plan.observed import Observed
from pycompose.compose.plan.progress import running, stop_done, stopped
from pycompose.proto.v1 import access_pb2, control_pb2, task_pb2

_NAMES = click.argument("names", nargs=-1, required=True, metavar="CONTAINER...")
_TIME = click.option(
    "-t", "--time", "--timeout", "timeout", type=int, metavar="SECONDS", help="Grace before a kill (default 10)."
)


@command()
@click.option("-a", "--attach", "join", is_flag=True, help="Print its output and wait for its end.")
@click.option("--detach-keys", metavar="KEYS", default=DETACH_KEYS, help=f"Keys that leave (default {DETACH_KEYS}).")
@click.option("-i", "--interactive", is_flag=True, help="Send standard input.")
@_NAMES
def start(join: bool, detach_keys: str, interactive: bool, names: tuple[str, ...]) -> None:
    """Start containers."""
    keys = detach_sequence(detach_keys)
    with settings().client(start=False) as client:
        if not join and not interactive:
            return each(names, lambda name: _change(client, name, "Start", None))
        if len(names) > 1:
            raise UsageError("one container only can be attached to")
        return _start_joined(client, get(client, names[0]), keys, interactive)


def _start_joined(client: Client, task: task_pb2.Task, keys: bytes, stdin: bool) -> None:
    """Start a container and stay until it ends.

    Raises:
        Exit: its status is not 0.
    """
    service = client.control.GetService(control_pb2.GetServiceRequest(service=task.service_id)).service
    now = Timestamp()
    now.FromNanoseconds(time.time_ns())
    asked = client.control.StartTasks(control_pb2.StartTasksRequest(task_ids=[task.id])).version.number
    with interrupts_into(Streams()) as streams:
        streams.keep("watch", lambda last: watch(client, "", [service.id]))
        observed = _Since(asked)
        try:
            attachment = Attachment(
                client,
                streams,
                observed,
                service,
                tty=service.spec.task.container.tty,
                stdin=stdin and service.spec.task.container.open_stdin,
                since=now,
                keys=keys,
            )
            status = attachment.run()
        except LeftError:
            return
    if status:
        raise Exit(status)


class _Since(Observed):
    """A service from a request on: a task is there once the worker has carried the request out."""

    def __init__(self, asked: int) -> None:
        super().__init__()
        self._asked = asked

    def of(self, service_id: str) -> list[task_pb2.Task]:
        return [
            task
            for task in super().of(service_id)
            if task.meta.version.number >= self._asked and task.run_request <= task.status.run_request
        ]


@command()
@_TIME
@click.option("-s", "--signal", help="Signal in place of the container's own.")
@_NAMES
def stop(timeout: int | None, signal: str | None, names: tuple[str, ...]) -> None:
    """Stop containers."""
    with settings().client(start=False) as client:
        each(names, lambda name: _change(client, name, "Stop", timeout, signal))


@command()
@_TIME
@click.option("-s", "--signal", help="Signal in place of the container's own.")
@_NAMES
def restart(timeout: int | None, signal: str | None, names: tuple[str, ...]) -> None:
    """Restart containers."""
    with settings().client(start=False) as client:
        each(names, lambda name: _change(client, name, "Restart", timeout, signal))


def _change(client: Client, name: str, verb: str, timeout: int | None, signal: str | None = None) -> None:
    """Ask for a start, stop or restart of a task, and wait until it is so."""
    task = get(client, name)
    if signal and running(task):
        client.access.SignalTask(access_pb2.SignalTaskRequest(task_id=task.id, signal=signal))
    request: Any = getattr(control_pb2, f"{verb}TasksRequest")(task_ids=[task.id])
    if timeout is not None:
        request.grace_period.CopyFrom(grace(timeout))
    asked = getattr(client.control, f"{verb}Tasks")(request).version.number
    kinds = [control_pb2.OBJECT_KIND_TASK]
    changes = client.control.Watch(control_pb2.WatchRequest(kinds=kinds, service_ids=[task.service_id]))
    try:
        for answer in changes:
            for event in answer.events:
                one = event.task
                if one.id != task.id or one.meta.version.number < asked:
                    continue
                if _reached(one, verb):
                    return
                if verb != "Stop" and stopped(one) and one.status.error:
                    raise ApiError(f"container {task.name}: {one.status.error}", "FAILED_PRECONDITION")
    finally:
        changes.cancel()


def _reached(task: task_pb2.Task, verb: str) -> bool:
    if task.run_request > task.status.run_request:
        return False
    if verb == "Stop":
        return stop_done(task)
    return running(task) or (stopped(task) and task.status.run > 0 and not task.status.error)


@command()
@click.option("-s", "--signal", default="KILL", help="Signal to send (default KILL).")
@_NAMES
def kill(signal: str, names: tuple[str, ...]) -> None:
    """Send a signal to containers."""
    with settings().client(start=False) as client:

        def send(name: str) -> None:
            client.access.SignalTask(access_pb2.SignalTaskRequest(task_id=get(client, name).id, signal=signal))

        each(names, send)


@command()
@_NAMES
def pause(names: tuple[str, ...]) -> None:
    """Freeze containers."""
    with settings().client(start=False) as client:
        each(names, lambda name: client.access.PauseTask(access_pb2.PauseTaskRequest(task_id=get(client, name).id)))


@command()
@_NAMES
def unpause(names: tuple[str, ...]) -> None:
    """Thaw containers."""
    with settings().client(start=False) as client:
        each(names, lambda name: client.access.UnpauseTask(access_pb2.UnpauseTaskRequest(task_id=get(client, name).id)))


@command()
@click.option("-f", "--force", is_flag=True, help="Also when it runs.")
@click.option("-l", "--link", is_flag=True, help="Not possible: there are no links.")
@click.option("-v", "--volumes", is_flag=True, help="Also anonymous volumes (they always go with it).")
@_NAMES
def rm(force: bool, link: bool, volumes: bool, names: tuple[str, ...]) -> None:
    """Remove containers; a service that misses one makes a new one."""
    if link:
        raise UsageError("--link: there are no links between containers to remove")
    with settings().client(start=False) as client:

        def remove(name: str) -> None:
            task = get(client, name)
            if not force and not stop_done(task):
                raise ApiError(f"container {task.name} runs; stop it first, or use --force", "FAILED_PRECONDITION")
            remove_task(client, task)

        each(names, remove)


def remove_task(client: Client, task: task_pb2.Task) -> None:
    """Remove a container; the service of a single one goes with it."""
    service = service_of(client, task)
    if service is not None and service.spec.WhichOneof("mode") == "replicated_job":
        client.control.RemoveService(control_pb2.RemoveServiceRequest(service_id=service.id))
    else:
        client.control.RemoveTasks(control_pb2.RemoveTasksRequest(task_ids=[task.id]))


@command()
@click.option("--filter", "words", multiple=True, metavar="KEY=VALUE", help="By until, label, label!.")
@click.option("-f", "--force", is_flag=True, help="Do not ask.")
def prune(words: tuple[str, ...], force: bool) -> None:
    """Remove containers that ended and belong to no service: those of run and container run."""
    wanted = Pruning(words, until=True)
    with settings().client(start=False) as client:
        services = {one.id: one for one in client.control.ListServices(control_pb2.ListServicesRequest()).services}
        tasks = client.control.ListTasks(control_pb2.ListTasksRequest()).tasks
        ended = [
            task
            for task in tasks
            if stopped(task)
            and task.service_id in services
            and is_single(services[task.service_id])
            and wanted.takes(task.meta, services[task.service_id].spec.task.container.labels)
        ]
        if ended and not force:
            confirm(f"remove {', '.join(task.name for task in ended)}?", "--force")
        for task in ended:
            remove_task(client, task)
            print(task.name)


@command()
@_NAMES
def wait(names: tuple[str, ...]) -> None:
    """Wait until containers stop; print their exit status."""
    with settings().client(start=False) as client:

        def until(name: str) -> None:
            task = get(client, name)
            kinds = [control_pb2.OBJECT_KIND_TASK]
            changes = client.control.Watch(control_pb2.WatchRequest(kinds=kinds, service_ids=[task.service_id]))
            try:
                for answer in changes:
                    for event in answer.events:
                        gone = event.type == control_pb2.EVENT_TYPE_REMOVED
                        if event.task.id == task.id and (gone or stop_done(event.task)):
                            print(event.task.status.exit_code)
                            return
            finally:
                changes.cancel()

        each(names, until, say=False)


@command()
@click.argument("name", metavar="CONTAINER")
@click.argument("new_name")
def rename(name: str, new_name: str) -> None:
    """Rename a container (not there)."""
    raise CliError(
        f"container {name} keeps its name: it is the service's, so that every new container has it again; "
        "give another with container_name in the file, or make the container anew with container run --name"
    )


@command(context_settings={"ignore_unknown_options": True})
@click.argument("words", nargs=-1, type=click.UNPROCESSED, metavar="[OPTIONS] CONTAINER...")
def update(words: tuple[str, ...]) -> None:
    """Change the limits of a container (not there)."""
    raise CliError(
        "the limits of a container are what its service says; change them in the file and run pycompose up, or make "
        "the container anew with container run"
    )
