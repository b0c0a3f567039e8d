"""Stopping containers in the order of their dependencies, with a display, and killing when asked twice."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from google.protobuf.duration_pb2 import Duration

from pycompose.compose.cli.display import TICK, Display
from pycompose.compose.cli.ordering import levels
from pycompose.compose.cli.watching import see
from pycompose.compose.client import Client, ClientError
from pycompose.compose.client.streams import Streams
from pycompose.compose.plan.observed import Observed
from pycompose.compose.plan.progress import stop_done
from pycompose.proto.v1 import access_pb2, control_pb2, service_pb2


def grace(seconds: int | None) -> Duration | None:
    """Return a grace period for a request; None leaves the service's own."""
    return None if seconds is None else Duration(seconds=max(0, seconds))


def stop(
    client: Client,
    streams: Streams,
    observed: Observed,
    service_ids: Iterable[str],
    display: Display,
    timeout: int | None = None,
    other: Callable[[str, object], None] = lambda name, item: None,
) -> None:
    """Stop all containers of the services; what depends on others goes first.

    Args:
        client: the node.
        streams: gets "watch" answers of the project, "interrupt" to kill at once, and anything else for `other`.
        observed: the project; kept up to date here.
        service_ids: which services.
        display: shows a line per container.
        timeout: seconds of grace in place of the services' own.
        other: is given items of other streams.
    """
    chosen = [observed.services[one] for one in service_ids if one in observed.services]
    for group in levels(chosen):
        ids = [task.id for service in group for task in observed.of(service.id) if not stop_done(task)]
        if not ids:
            continue
        client.control.StopTasks(control_pb2.StopTasksRequest(task_ids=ids, grace_period=grace(timeout)))
        if _wait(client, streams, observed, ids, display, other):
            timeout = 0


def _wait(
    client: Client,
    streams: Streams,
    observed: Observed,
    ids: list[str],
    display: Display,
    other: Callable[[str, object], None],
) -> bool:
    """Wait until the tasks are down; return whether they had to be killed."""
    killed = False
    while True:
        left = 0
        for one in ids:
            task = observed.tasks.get(one)
            if task is None or stop_done(task):
                name = task.name if task is not None else None
                if name:
                    display.set(f"Container {name}", "Stopped", state="done")
                continue
            left += 1
            display.set(f"Container {task.name}", "Killing" if killed else "Stopping")
        display.tick()
        if not left and observed.synchronized:
            return killed
        item = streams.get(TICK if display.live else None)
        if item is None:
            continue
        name, answer = item
        if name == "watch":
            see(answer, observed, display, "what was asked to stop stops")
        elif name == "interrupt":
            killed = True
            kill(client, [one for one in ids if one in observed.tasks and not stop_done(observed.tasks[one])])
        else:
            other(name, answer)


def kill(client: Client, ids: Iterable[str], signal: str = "SIGKILL") -> None:
    """Send a signal to tasks; one that has just ended is no failure."""
    for one in ids:
        try:
            client.access.SignalTask(access_pb2.SignalTaskRequest(task_id=one, signal=signal))
        except ClientError as error:
            if getattr(error, "code", "") not in ("FAILED_PRECONDITION", "NOT_FOUND"):
                raise


def remove_single(client: Client, service: service_pb2.Service) -> None:
    """Remove a service of one container, stop what runs of it, and wait until it is gone."""
    from pycompose.compose.cli.down import remove_services
    from pycompose.compose.cli.interrupts import interrupts_into

    with interrupts_into(Streams()) as streams:
        remove_services(client, streams, service.spec.project, [service], Display("quiet"))


def by_id(services: Iterable[service_pb2.Service]) -> list[str]:
    """Return the ids of services."""
    return [service.id for service in services]
