"""Waiting until services are up: shows each container's way, starts what waited for others, and knows when to give up.

The manager holds new containers back until what they depend on is ready. Containers that were stopped are started by
request, which the manager carries out at once: their order is kept here, by the same conditions.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from pycompose.compose.cli.display import TICK, Display
from pycompose.compose.cli.errors import Exit
from pycompose.compose.cli.failure import UnreadyError
from pycompose.compose.cli.watching import see
from pycompose.compose.client import Client
from pycompose.compose.client.streams import Streams
from pycompose.compose.plan.observed import Observed
from pycompose.compose.plan.progress import Progress, gate, leaving, running
from pycompose.proto.v1 import control_pb2, task_pb2

PLACING_SECONDS = 5.0
STEADY_SECONDS = 0.5
"""How long a container without a healthcheck must run before `--wait` lets it pass."""
NOT_PLACED = 4


@dataclass
class Goal:
    """What to wait for.

    Attributes:
        services: ids.
        wait: until healthy, not only started.
        started: False: containers need only exist.
        starts: task ids to start by service id, as soon as what it depends on is ready.
        revisions: least revision by service id; an older one seen in a watch is not the answer yet.
        untouched: ids of tasks that ran before and run on.
        timeout: seconds; None: for ever.
        place: gives "FILE:LINE:COLUMN: services.NAME.KEY: " of a service's key, "" when that is not known.
    """

    services: list[str]
    wait: bool = False
    started: bool = True
    starts: dict[str, tuple[str, ...]] = field(default_factory=dict)
    untouched: set[str] = field(default_factory=set)
    timeout: float | None = None
    place: Callable[[str, str], str] = lambda service, key: ""


def converge(
    client: Client,
    streams: Streams,
    observed: Observed,
    goal: Goal,
    display: Display,
    other: Callable[[str, object], None] = lambda name, item: None,
) -> None:
    """Wait until the goal is reached.

    Args:
        client: the node.
        streams: gets "watch" answers, "interrupt", and anything else for `other`.
        observed: the project; kept up to date here.
        goal: what to wait for.
        display: shows a line per container.
        other: is given items of other streams.

    Raises:
        UnreadyError: it cannot be reached, or was not in time; status 4 when a container could not be placed.
        Exit: interrupted (130).
    """
    deadline = None if goal.timeout is None else time.monotonic() + goal.timeout
    waits: dict[str, tuple[str, float]] = {}
    view = _View(observed, goal, display)
    while True:
        if observed.synchronized:
            _start_what_may(client, observed, goal)
            left, failures = view.look()
            if failures:
                raise UnreadyError("\n".join(failures), tasks=_failed(observed, goal))
            if not left and not goal.starts:
                display.tick()
                return
            _check_placing(observed, goal, waits)
        display.tick()
        if deadline is not None and time.monotonic() > deadline:
            text = f"not ready after {goal.timeout:.0f} s: {_what_is_left(observed, goal)}"
            raise UnreadyError(text, tasks=_failed(observed, goal), goes_on=True)
        item = streams.get(TICK if display.live or goal.wait else 0.5)
        if item is None:
            continue
        name, answer = item
        if name == "watch":
            see(answer, observed, display, "containers go on starting")
        elif name == "interrupt":
            raise Exit(130)
        else:
            other(name, answer)


def warnings_of(observed: Observed, services: Iterable[str]) -> list[str]:
    """Return what nodes could not honour of the services' (ids) specs, by container."""
    wanted = set(services)
    return [
        f"{task.name}: {text}"
        for task in sorted(observed.tasks.values(), key=lambda task: task.name)
        if task.service_id in wanted
        for text in task.status.warnings
    ]


def _failed(observed: Observed, goal: Goal) -> list[task_pb2.Task]:
    """Return the tasks whose output may tell why the goal is not reached: they ended badly, or are unhealthy."""
    services = {*goal.services}
    for one in goal.services:
        if one in observed.services:
            needed = [dependency.service for dependency in observed.services[one].spec.dependencies]
            services |= {service.id for service in observed.services.values() if service.spec.name in needed}
    found = [task for task in observed.tasks.values() if task.service_id in services and not leaving(task)]
    return [
        task
        for task in found
        if task.status.run
        and (
            task.status.state == task_pb2.TASK_STATE_FAILED
            or (running(task) and task.status.health == task_pb2.HEALTH_STATE_UNHEALTHY)
        )
    ]


def said_once(failures: Iterable[str]) -> list[str]:
    """Return the reasons without what a check said where it stands before, or in a container's own line."""
    lines = list(failures)
    known = {" ".join(line.split()) for line in lines if not _SAID.search(line)}
    found = []
    for line in lines:
        said = _SAID.search(line)
        if said is not None:
            if said[1] in known or any(one.endswith(said[1]) for one in known):
                line = line[: said.start()]
            known.add(said[1])
        found.append(line)
    return found


_SAID = re.compile(r" \(its check said: (.*)\)$", re.DOTALL)
_NOTHING = Progress("")


class _View:
    """What is seen of a goal, look by look."""

    def __init__(self, observed: Observed, goal: Goal, display: Display) -> None:
        self._observed, self._goal, self._display = observed, goal, display
        self._going: set[str] = set()
        self._up: dict[tuple[str, int], float] = {}

    def look(self) -> tuple[list[str], list[str]]:
        """Show every container; return the ids of services that are not there yet, and what failed."""
        left, failures = [], []
        before, there = self._going, set[str]()
        self._going = set()
        for service_id in self._goal.services:
            held = self._goal.starts.get(service_id, ())
            done, rows = self._observed.up(service_id, wait=self._goal.wait, started=self._goal.started, held=held)
            for name, row in self._told(service_id, rows).items():
                self._show(name, row)
                done = done and row.done
                there.add(name)
                if row.failed:
                    place = _place(self._observed, service_id, name, self._goal)
                    failures.append(f"{place}container {name}: {_sentence(row)}")
            if not done or service_id in self._goal.starts:
                left.append(service_id)
                if service_id in self._observed.services and self._goal.started:
                    failures += hopeless(self._observed, service_id)
        for name in before - there:
            self._display.set(f"Container {name}", "Removed", state="done")
        return left, said_once(dict.fromkeys(failures))

    def _show(self, name: str, row: Progress) -> None:
        if row.word == "Removing":
            self._going.add(name)
        ended_badly = row.word == "Exited" and row.detail != "(0)"
        state = "failed" if row.failed or ended_badly else "done" if row.done else "busy"
        self._display.set(f"Container {name}", row.word, row.detail, state)

    def _told(self, service_id: str, rows: Mapping[str, Progress]) -> dict[str, Progress]:
        """Return the rows as they are told.

        What ran before is said to run. When waiting, a container without a healthcheck that was just started is not
        there yet: many programs that fail do so in their first moment.
        """
        found = dict(rows)
        now = time.monotonic()
        for task in self._observed.of(service_id):
            row = found.get(task.name, _NOTHING)
            if not row.done or row.word not in ("Started", "Healthy"):
                continue
            if task.id in self._goal.untouched:
                found[task.name] = Progress("Running", done=True)
            elif self._goal.wait and row.word == "Started":
                since = self._up.setdefault((task.id, task.status.run), now)
                if now - since < STEADY_SECONDS:
                    found[task.name] = Progress("Waiting", "to stay up")
        return found


def _place(observed: Observed, service_id: str, name: str, goal: Goal) -> str:
    """Return where the file names the program of a container that could not be executed."""
    for task in observed.of(service_id):
        if task.name == name and not task.status.run and task.status.exit_code in (126, 127):
            spec = observed.services[service_id].spec.task.container
            return goal.place(task.service_name, "entrypoint" if spec.entrypoint.args else "command")
    return ""


def _sentence(row: Progress) -> str:
    return row.detail if row.word == "Error" and row.detail else f"{row.word.lower()}: {row.detail}".rstrip(": ")


def hopeless(observed: Observed, service_id: str) -> list[str]:
    """Return why a service waits for something that can never be."""
    service = observed.services[service_id]
    services, tasks = observed.by_name(), list(observed.tasks.values())
    found = []
    for dependency in service.spec.dependencies:
        _, why = gate(dependency, services, tasks)
        if why and dependency.required:
            found.append(f"service {service.spec.name} cannot start: it depends on {dependency.service}, and {why}")
    return found


def _start_what_may(client: Client, observed: Observed, goal: Goal) -> None:
    services, tasks = observed.by_name(), list(observed.tasks.values())
    for service_id, ids in list(goal.starts.items()):
        service = observed.services.get(service_id)
        if service is None:
            del goal.starts[service_id]
            continue
        # what is to be started in this same run is not ready yet, whatever its last run left behind
        pending = {observed.services[one].spec.name for one in goal.starts if one in observed.services}
        gates = [
            dependency.service not in pending and gate(dependency, services, tasks)[0]
            for dependency in service.spec.dependencies
        ]
        if all(gates):
            del goal.starts[service_id]
            version = client.control.StartTasks(control_pb2.StartTasksRequest(task_ids=ids)).version
            _requested(observed, ids, version.number)


def _requested(observed: Observed, ids: Iterable[str], number: int) -> None:
    """Note that tasks were asked to start, until the watch says so itself."""
    for one in ids:
        task = observed.tasks.get(one)
        if task is not None and task.meta.version.number < number:
            copy = task_pb2.Task()
            copy.CopyFrom(task)
            copy.desired_state = task_pb2.DESIRED_STATE_RUNNING
            copy.run_request = max(copy.run_request, copy.status.run_request) + 1
            observed.tasks[one] = copy


def _check_placing(observed: Observed, goal: Goal, waits: dict[str, tuple[str, float]]) -> None:
    """Give up on a container that has waited for a place for some time, with the scheduler's reason."""
    now = time.monotonic()
    for service_id in goal.services:
        service = observed.services.get(service_id)
        names = [dependency.service for dependency in service.spec.dependencies] if service is not None else []
        for task in observed.of(service_id):
            message = task.status.message
            gated = any(message.startswith(f"waiting for {name}:") for name in names)
            if task.status.state != task_pb2.TASK_STATE_PENDING or gated or not message:
                waits.pop(task.id, None)
                continue
            since = waits.setdefault(task.id, (message, now))[1]
            if now - since > PLACING_SECONDS:
                raise UnreadyError(f"container {task.name} could not be placed: {message}", NOT_PLACED)


def _what_is_left(observed: Observed, goal: Goal) -> str:
    parts = []
    for service_id in goal.services:
        held = goal.starts.get(service_id, ())
        _, rows = observed.up(service_id, wait=goal.wait, started=goal.started, held=held)
        parts += [f"{name} is {row.word.lower()} {row.detail}".strip() for name, row in rows.items() if not row.done]
    return "; ".join(parts) or "nothing was seen of it"


def names_of(observed: Observed, services: Mapping[str, str]) -> list[str]:
    """Return the names of the containers of services."""
    return [task.name for one in services for task in observed.of(one)]
