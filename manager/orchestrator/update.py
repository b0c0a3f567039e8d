"""Updates: tasks of an older template are replaced, some slots at a time, in the order that the spec says.

Stop-first: the old task leaves, and when it is gone the slot is empty and gets a new one. Start-first: the new task
comes beside the old one, which leaves once the new one is up; where both cannot be at once (a fixed address, a port
of the task's own) it is stop-first. `parallelism` slots are between old and new at a time; `delay` passes after a
slot is done. A new task has failed when it could not start, ended with an error or was restarted by policy within
`monitor` after its start, or is unhealthy; when more than `max_failure_ratio` of the slots failed, the update pauses,
goes on, or goes back to the template before, as `failure_action` says. On the way back the rollback's settings hold,
and too many failures pause it. The update is complete when every new task was watched for its time.

States: none -> UPDATING -> COMPLETED | PAUSED; UPDATING -> ROLLING_BACK -> ROLLED_BACK | ROLLBACK_PAUSED. A paused
update goes on when the service is updated again (the control API clears the state).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from pycompose.manager import states
from pycompose.manager.allocator import own_range
from pycompose.manager.orchestrator.actions import Create, Decision, Remove, leaving
from pycompose.proto.v1 import service_pb2, task_pb2

FAILED = (task_pb2.TASK_STATE_FAILED, task_pb2.TASK_STATE_REJECTED)
PAUSED = (service_pb2.UPDATE_STATE_PAUSED, service_pb2.UPDATE_STATE_ROLLBACK_PAUSED)
MOVING = (service_pb2.UPDATE_STATE_UPDATING, service_pb2.UPDATE_STATE_ROLLING_BACK)
MONITOR_SECONDS = 5.0
Slots = Mapping[int, Sequence[task_pb2.Task]]


@dataclass
class Progress:
    """Where the slots are.

    `outdated`: only old tasks; `busy`: on the way; `failed`: new tasks of this update that failed; `beside`: failed new
    tasks whose old ones go on (start-first); `last`: when the last slot was done; times in seconds since the epoch.
    """

    outdated: list[int] = field(default_factory=list)
    busy: int = 0
    failed: list[task_pb2.Task] = field(default_factory=list)
    beside: list[task_pb2.Task] = field(default_factory=list)
    last: float = 0.0
    watched_until: float = 0.0


def decide(service: service_pb2.Service, slots: Slots, now: float, decision: Decision) -> None:
    """Add to `decision` what carries the update on. `slots`: the wanted slots with their tasks."""
    state = service.update_status.state
    back = state in (service_pb2.UPDATE_STATE_ROLLING_BACK, service_pb2.UPDATE_STATE_ROLLBACK_PAUSED)
    configured = service.spec.HasField("update") or (back and service.spec.HasField("rollback"))
    config = service.spec.rollback if back and service.spec.HasField("rollback") else service.spec.update
    monitor = seconds(config.monitor, MONITOR_SECONDS) if configured else 0.0
    progress = _look(service, slots, monitor, now, decision)
    if state in PAUSED:
        return
    if not progress.outdated and state not in MOVING:
        return
    too_many = configured and len(progress.failed) > config.max_failure_ratio * len(slots)
    if too_many and _stops(config, back, progress, decision):
        return
    if not progress.outdated:
        _finish(service, progress, now, decision)
        return
    decision.update_state = service_pb2.UPDATE_STATE_ROLLING_BACK if back else service_pb2.UPDATE_STATE_UPDATING
    told = f"{len(progress.outdated)} of {len(slots)} tasks are of another revision"
    decision.update_message = service.update_status.message if back else told
    _replace(service, config, slots, progress, now, decision)


def _look(service: service_pb2.Service, slots: Slots, monitor: float, now: float, decision: Decision) -> Progress:
    """Tell how far each slot is; what is replaced or double goes."""
    progress = Progress()
    # What failed before this update began is not its fault.
    begun = _at(service.update_status.started_at) if service.update_status.state in MOVING else now
    for slot, members in slots.items():
        live = [task for task in members if not leaving(task)]
        new = [task for task in live if task.revision == service.revision]
        old = [task for task in live if task.revision != service.revision]
        if len(new) > 1:
            keep = max(new, key=lambda task: (states.up(task.status), task.id))
            decision.actions += [Remove(t.id, f"slot {slot} holds two tasks") for t in new if t is not keep]
            new = [keep]
        if old and not new:
            progress.outdated.append(slot)
            continue
        failed = [task for task in new if _failed(task, monitor, now)]
        if old and not _settled(new[0]):
            progress.beside += failed
        elif old:
            decision.actions += [Remove(task.id, "replaced by a new task that is up") for task in old]
        progress.failed += [task for task in failed if _at(task.meta.created_at) >= begun]
        waits = any(not _settled(task) and task.status.state not in FAILED for task in new)
        progress.busy += not failed and (not new or bool(old) or len(live) != len(members) or waits)
        for task in new:
            if _settled(task):
                progress.last = max(progress.last, _at(task.status.since))
            if task.status.state == task_pb2.TASK_STATE_RUNNING:
                progress.watched_until = max(progress.watched_until, _at(task.status.started_at) + monitor)
    return progress


def _stops(config: service_pb2.UpdateConfig, back: bool, progress: Progress, decision: Decision) -> bool:
    """Too many new tasks failed: returns whether the update stops here."""
    action = config.failure_action
    if action == service_pb2.UPDATE_FAILURE_ACTION_CONTINUE:
        return False
    first = progress.failed[0]
    what = f"{len(progress.failed)} of the new tasks failed ({first.name}: {_why(first)})"
    if action == service_pb2.UPDATE_FAILURE_ACTION_ROLLBACK and not back:
        decision.rollback = True
        decision.update_state = service_pb2.UPDATE_STATE_ROLLING_BACK
        decision.update_message = what
    else:
        decision.update_state = PAUSED[back]
        decision.update_message = f"paused: {what}; update the service again to go on"
    return True


def _why(task: task_pb2.Task) -> str:
    status = task.status
    if status.error:
        return str(status.error)
    if status.health == task_pb2.HEALTH_STATE_UNHEALTHY:
        return "unhealthy"
    return f"exit status {status.exit_code}" if status.HasField("exit_code") else states.name(status.state)


def _finish(service: service_pb2.Service, progress: Progress, now: float, decision: Decision) -> None:
    """Every slot is new: complete once all are up and were watched."""
    if progress.busy:
        return
    if progress.beside:
        first = progress.beside[0]
        what = f"{len(progress.beside)} new tasks failed ({first.name}: {_why(first)})"
        back = service.update_status.state == service_pb2.UPDATE_STATE_ROLLING_BACK
        comes_again = any(_comes_again(task) for task in progress.beside)
        decision.update_state = service.update_status.state if comes_again else PAUSED[back]
        decision.update_message = f"{what}; the old ones beside them go on"
        return
    if now < progress.watched_until:
        decision.wake(progress.watched_until)
        return
    back = service.update_status.state == service_pb2.UPDATE_STATE_ROLLING_BACK
    decision.update_state = service_pb2.UPDATE_STATE_ROLLED_BACK if back else service_pb2.UPDATE_STATE_COMPLETED
    decision.update_message = service.update_status.message if back else "update completed"


def _replace(
    service: service_pb2.Service,
    config: service_pb2.UpdateConfig,
    slots: Slots,
    progress: Progress,
    now: float,
    decision: Decision,
) -> None:
    """Begin with as many slots as may be on the way at once."""
    delay = seconds(config.delay, 0.0)
    if delay and progress.last and now < progress.last + delay:
        decision.wake(progress.last + delay)
        return
    room = len(progress.outdated) if not config.parallelism else max(0, config.parallelism - progress.busy)
    start_first = config.order == service_pb2.UPDATE_ORDER_START_FIRST and not needs_stop_first(service.spec)
    for slot in progress.outdated[:room]:
        if start_first:
            decision.actions.append(Create(slot, "update, start-first"))
        else:
            decision.actions += [Remove(t.id, "update, stop-first") for t in slots[slot] if not leaving(t)]


def needs_stop_first(spec: service_pb2.ServiceSpec) -> bool:
    """Return whether old and new task cannot be at once: both want the same address or port."""
    fixed = any(a.ipv4_address or a.ipv6_address or a.mac_address for a in spec.task.networks)
    return fixed or any(port.published_port and own_range(port) for port in spec.endpoint.ports)


def _failed(task: task_pb2.Task, monitor: float, now: float) -> bool:
    """Whether a new task failed in its time; a run that lasted for `monitor` was good, whatever came later."""
    status = task.status
    begun, ended = _at(status.started_at), _at(status.finished_at)
    if status.state == task_pb2.TASK_STATE_RUNNING:
        again = status.restarts > 0 and now < begun + monitor
        return again or status.health == task_pb2.HEALTH_STATE_UNHEALTHY
    return status.state in FAILED and (not status.run or ended < begun + monitor)


def _comes_again(task: task_pb2.Task) -> bool:
    """Whether a new task that failed may still come up by itself."""
    runs = task.status.state == task_pb2.TASK_STATE_RUNNING
    return runs or task.status.HasField("next_restart_at") or task.run_request > task.status.run_request


def _settled(task: task_pb2.Task) -> bool:
    """Whether a new task needs no more waiting: it is up, or was never meant to run."""
    return states.up(task.status) or (
        task.desired_state != task_pb2.DESIRED_STATE_RUNNING or task.status.state == task_pb2.TASK_STATE_COMPLETE
    )


def _at(stamp: Timestamp) -> float:
    """Return seconds since the epoch; 0.0: not set."""
    return float(stamp.seconds + stamp.nanos / 1e9)


def seconds(duration: Duration, absent: float) -> float:
    """Return a duration in seconds; an empty one stands for `absent`."""
    return duration.ToNanoseconds() / 1e9 if duration.ByteSize() else absent
