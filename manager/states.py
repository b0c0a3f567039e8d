"""The task state machine, as a table.

Everything that affects state transitions lives here. A task is one container that may run many times. Within a run
the state only moves forward; a new run (its counter is higher, or a run request was carried out) goes back to
preparing or starting. Workers own the state from `accepted` on; the manager writes it before, and when the node is
lost. `remove` is the end of everything: the container is gone.
"""

from __future__ import annotations

from pycompose.proto.v1 import task_pb2 as pb

S = pb.TaskState
ORDER = (
    pb.TASK_STATE_NEW,
    pb.TASK_STATE_PENDING,
    pb.TASK_STATE_ASSIGNED,
    pb.TASK_STATE_ACCEPTED,
    pb.TASK_STATE_PREPARING,
    pb.TASK_STATE_READY,
    pb.TASK_STATE_STARTING,
    pb.TASK_STATE_RUNNING,
)
ENDED = frozenset(
    (
        pb.TASK_STATE_COMPLETE,
        pb.TASK_STATE_SHUTDOWN,
        pb.TASK_STATE_FAILED,
        pb.TASK_STATE_REJECTED,
        pb.TASK_STATE_ORPHANED,
        pb.TASK_STATE_REMOVE,
    )
)
MANAGERS = frozenset((pb.TASK_STATE_NEW, pb.TASK_STATE_PENDING, pb.TASK_STATE_ASSIGNED, pb.TASK_STATE_ORPHANED))
NAMES = {value: name.removeprefix("TASK_STATE_").lower() for name, value in S.items()}
RANK = {state: rank for rank, state in enumerate(ORDER)} | dict.fromkeys(ENDED, len(ORDER))
RANK[pb.TASK_STATE_REMOVE] = len(ORDER) + 1
RANK[pb.TASK_STATE_UNSPECIFIED] = -1


def name(state: int) -> str:
    """Return the state's plain word: "running"."""
    return NAMES.get(state, str(state))  # type: ignore[call-overload, no-any-return]


def may_follow(old: pb.TaskStatus, new: pb.TaskStatus) -> bool:
    """Return whether a worker's status `new` may replace `old`.

    A higher run or run request always may (unless the container is gone); a lower run never; within a run the
    state only moves forward, and the same state may come with other details.
    """
    if new.state in MANAGERS or new.state == pb.TASK_STATE_UNSPECIFIED:
        return False
    if old.state == pb.TASK_STATE_REMOVE:
        return False
    if (new.run, new.run_request) != (old.run, old.run_request):
        return new.run >= old.run and new.run_request >= old.run_request
    if old.state == pb.TASK_STATE_ORPHANED:
        return True
    if old.state in ENDED and old.restarts != new.restarts:
        return True
    # An ended run whose next one is being prepared keeps its counter until the program starts.
    if old.state in ENDED and new.state in (pb.TASK_STATE_PREPARING, pb.TASK_STATE_READY, pb.TASK_STATE_STARTING):
        return True
    if old.state in ENDED and new.state in ENDED and new.state != pb.TASK_STATE_REMOVE:
        return old.state == new.state or new.state == pb.TASK_STATE_SHUTDOWN
    return RANK[new.state] >= RANK[old.state]


def up(status: pb.TaskStatus) -> bool:
    """Return whether the task serves: running, and healthy where there is a healthcheck."""
    return status.state == pb.TASK_STATE_RUNNING and status.health in (
        pb.HEALTH_STATE_UNSPECIFIED,
        pb.HEALTH_STATE_HEALTHY,
    )


def check_invariants(tasks: list[pb.Task]) -> list[str]:
    """Return what is wrong with a set of tasks, in plain words; empty: nothing."""
    wrong = []
    addresses: dict[tuple[str, str], str] = {}
    for task in tasks:
        if task.status.state >= pb.TASK_STATE_ASSIGNED and not task.node_id and task.status.state not in ENDED:
            wrong.append(f"task {task.name} is {name(task.status.state)} and has no node")
        if task.node_id and task.slot and task.status.state in (pb.TASK_STATE_NEW, pb.TASK_STATE_PENDING):
            wrong.append(f"task {task.name} has a node and is {name(task.status.state)}")
        for attachment in task.attachments:
            if not attachment.address:
                continue
            place = (attachment.network_id, attachment.address)
            if place in addresses:
                wrong.append(f"address {attachment.address} is held by {addresses[place]} and {task.name}")
            addresses[place] = task.name
    return wrong
