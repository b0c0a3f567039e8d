"""The task state machine, as a table.

Everything that affects state transitions lives here. A task is one container that may run many times. Rules:

- Workers own the state from `accepted` on; the manager writes `pending` and `assigned` before that.
- Within a run the state only moves forward, along NEXT; since workers batch, states in between may be left out.
- A status of a higher run, or of a later run request, replaces any other, and one of a lower run none.
- The counter of runs rises when the program starts: while the next run is prepared the old counter stays, so an
  ended run may be followed by `preparing`, `ready` and `starting` under the same counter.
- `remove` is the end of everything: the container is gone.

`python -m pycompose.manager.states` prints the table for docs/task-states.md.
"""

from __future__ import annotations

import sys
from collections.abc import Collection, Iterable, Sequence

from pycompose.proto.v1 import task_pb2 as pb

S = pb.TaskState
NEW, PENDING, ASSIGNED = pb.TASK_STATE_NEW, pb.TASK_STATE_PENDING, pb.TASK_STATE_ASSIGNED
ACCEPTED, PREPARING, READY = pb.TASK_STATE_ACCEPTED, pb.TASK_STATE_PREPARING, pb.TASK_STATE_READY
STARTING, RUNNING = pb.TASK_STATE_STARTING, pb.TASK_STATE_RUNNING
COMPLETE, SHUTDOWN, FAILED = pb.TASK_STATE_COMPLETE, pb.TASK_STATE_SHUTDOWN, pb.TASK_STATE_FAILED
REJECTED, ORPHANED, REMOVE = pb.TASK_STATE_REJECTED, pb.TASK_STATE_ORPHANED, pb.TASK_STATE_REMOVE

ENDED = frozenset((COMPLETE, SHUTDOWN, FAILED, REJECTED, ORPHANED, REMOVE))
#: States that only a manager writes.
MANAGERS = frozenset((NEW, PENDING, ASSIGNED, ORPHANED))
_ENDINGS = (COMPLETE, SHUTDOWN, FAILED, REJECTED, REMOVE)
_AGAIN = (PREPARING, READY, STARTING, RUNNING)
#: What may follow a state within a run, besides itself.
NEXT: dict[int, tuple[int, ...]] = {
    NEW: (PENDING, ASSIGNED),
    PENDING: (ASSIGNED,),
    ASSIGNED: (ACCEPTED, *_AGAIN, *_ENDINGS),
    ACCEPTED: (*_AGAIN, *_ENDINGS),
    PREPARING: (READY, STARTING, RUNNING, *_ENDINGS),
    READY: (STARTING, RUNNING, *_ENDINGS),
    STARTING: (RUNNING, *_ENDINGS),
    RUNNING: _ENDINGS,
    COMPLETE: (PREPARING, READY, STARTING, SHUTDOWN, REMOVE),
    SHUTDOWN: (PREPARING, READY, STARTING, REMOVE),
    FAILED: (PREPARING, READY, STARTING, SHUTDOWN, REMOVE),
    REJECTED: (PREPARING, READY, STARTING, SHUTDOWN, REMOVE),
    ORPHANED: (ACCEPTED, *_AGAIN, *_ENDINGS),
    REMOVE: (),
}
NAMES = {value: name.removeprefix("TASK_STATE_").lower() for name, value in S.items()}


def name(state: int) -> str:
    """Return the state's plain word: "running"."""
    return NAMES.get(state, str(state))  # type: ignore[call-overload, no-any-return]


def may_follow(old: pb.TaskStatus, new: pb.TaskStatus) -> bool:
    """Return whether a worker's status `new` may replace `old`."""
    if new.state in MANAGERS or new.state not in NEXT or old.state == REMOVE:
        return False
    before, after = (old.run, old.run_request), (new.run, new.run_request)
    if before != after:
        return new.run >= old.run and new.run_request >= old.run_request
    if old.state in ENDED and old.restarts != new.restarts:
        return new.restarts > old.restarts
    return new.state == old.state or new.state in NEXT[old.state]


def up(status: pb.TaskStatus) -> bool:
    """Return whether the task serves: running, and healthy where there is a healthcheck."""
    return status.state == RUNNING and status.health in (pb.HEALTH_STATE_UNSPECIFIED, pb.HEALTH_STATE_HEALTHY)


def check_invariants(tasks: Sequence[pb.Task], drained: Collection[str] = ()) -> list[str]:
    """Return what is wrong with all tasks of a store, in plain words; empty: nothing. `drained`: ids of such nodes."""
    wrong = []
    for task in tasks:
        state, placed = task.status.state, task.status.state not in (NEW, PENDING)
        if placed and not task.node_id:
            wrong.append(f"task {task.name} is {name(state)} and has no node")
        if not placed and task.slot and task.node_id:
            wrong.append(f"task {task.name} has a node and is {name(state)}")
        if not placed and (task.attachments or task.ports):
            wrong.append(f"task {task.name} has addresses or ports and is {name(state)}")
        if state == REMOVE:
            wrong.append(f"task {task.name} is gone and still stored")
    return wrong + _doubles(tasks) + _crowded([task for task in tasks if task.node_id not in drained])


def _doubles(tasks: Iterable[pb.Task]) -> list[str]:
    """Return addresses and ports that two tasks hold."""
    wrong = []
    held: dict[tuple[str, ...], str] = {}
    for task in tasks:
        places: list[tuple[str, ...]] = [
            ("address", a.network_id, a.address.split("/")[0]) for a in task.attachments if a.address
        ]
        places += [("port", task.node_id, port.protocol, str(port.published_port)) for port in task.ports]
        for place in places:
            if place in held:
                wrong.append(f"{place[0]} {place[-1]} is held by {held[place]} and {task.name}")
            held[place] = task.name
    return wrong


def _crowded(tasks: Iterable[pb.Task]) -> list[str]:
    """Return slots that hold two tasks of one revision that both should be."""
    staying: dict[tuple[str, int, str, int], str] = {}
    wrong = []
    for task in tasks:
        if task.desired_state == pb.DESIRED_STATE_REMOVED:
            continue
        place = (task.service_id, task.slot, "" if task.slot else task.node_id, task.revision)
        if place in staying:
            wrong.append(f"slot {task.slot} of {task.service_name} holds {staying[place][:12]} and {task.id[:12]}")
        staying[place] = task.id
    return wrong


def table() -> str:
    """Return the table in Markdown."""
    lines = ["| state | written by | may be followed by, within a run |", "|---|---|---|"]
    for state, following in NEXT.items():
        writer = "manager" if state in MANAGERS else "worker"
        words = ", ".join(name(each) for each in following) or "nothing: the container is gone"
        lines.append(f"| {name(state)} | {writer} | {words} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.stdout.write(table())
