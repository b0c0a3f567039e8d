"""Updates: tasks of an older template are replaced, some slots at a time, in the order that the spec says.

Stop-first: the old task leaves, and when it is gone the slot is empty and gets a new one. Start-first: the new task
comes beside the old one, which leaves once the new one is up. `parallelism` slots are between old and new at a time,
`delay` passes after a slot is done, and a failed new task pauses the update when the spec's ratio is exceeded.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pycompose.manager import states
from pycompose.manager.orchestrator.actions import Create, Decision, Remove, leaving
from pycompose.proto.v1 import service_pb2, task_pb2

FAILED = (task_pb2.TASK_STATE_FAILED, task_pb2.TASK_STATE_REJECTED)


def decide(
    service: service_pb2.Service, slots: Mapping[int, Sequence[task_pb2.Task]], now: float, decision: Decision
) -> None:
    """Add to `decision` what carries the update on. `slots`: the wanted slots with their tasks."""
    config = service.spec.update
    outdated: list[int] = []
    busy = failed = 0
    last = 0.0
    for slot, members in slots.items():
        live = [task for task in members if not leaving(task)]
        new = [task for task in live if task.revision == service.revision]
        old = [task for task in live if task.revision != service.revision]
        if len(new) > 1:
            keep = max(new, key=lambda task: (states.up(task.status), task.id))
            decision.actions += [Remove(t.id, f"slot {slot} holds two tasks") for t in new if t is not keep]
            new = [keep]
        if new and old and _settled(new[0]):
            decision.actions += [Remove(task.id, "replaced by a new task that is up") for task in old]
        elif old and not new:
            outdated.append(slot)
            continue
        failed += any(task.status.state in FAILED for task in new)
        busy += not new or bool(old) or len(live) != len(members) or not _settled(new[0])
        last = max([last, *(_since(task) for task in new if _settled(task))])
    if not outdated:
        updating = service.update_status.state == service_pb2.UPDATE_STATE_UPDATING
        if updating and not busy:
            decision.update_state = service_pb2.UPDATE_STATE_COMPLETED
            decision.update_message = "update completed"
        return
    pauses = service.spec.HasField("update") and config.failure_action != service_pb2.UPDATE_FAILURE_ACTION_CONTINUE
    if pauses and failed > config.max_failure_ratio * len(slots):
        decision.update_state = service_pb2.UPDATE_STATE_PAUSED
        decision.update_message = f"update paused: {failed} of the new tasks failed; update the service again"
        return
    decision.update_state = service_pb2.UPDATE_STATE_UPDATING
    decision.update_message = f"{len(outdated)} of {len(slots)} tasks are of an older revision"
    delay = config.delay.ToTimedelta().total_seconds()
    if delay and last and now < last + delay:
        decision.wake(last + delay)
        return
    room = len(outdated) if not config.parallelism else max(0, config.parallelism - busy)
    for slot in outdated[:room]:
        if config.order == service_pb2.UPDATE_ORDER_START_FIRST:
            decision.actions.append(Create(slot, "update, start-first"))
        else:
            decision.actions += [Remove(t.id, "update, stop-first") for t in slots[slot] if not leaving(t)]


def _settled(task: task_pb2.Task) -> bool:
    """Whether a new task needs no more waiting: it is up, or was never meant to run."""
    return states.up(task.status) or (
        task.desired_state != task_pb2.DESIRED_STATE_RUNNING or task.status.state == task_pb2.TASK_STATE_COMPLETE
    )


def _since(task: task_pb2.Task) -> float:
    return float(task.status.since.seconds + task.status.since.nanos / 1e9)
