"""One task: what should be and what is give the next step. Pure; the table of steps is the whole behaviour.

==========  ===========================================================
desired     step
==========  ===========================================================
removed     REMOVE, whatever it is doing; then nothing more
created     CREATE when there is no container; else wait
stopped     STOP when it runs; CREATE when a reboot took what it was; else wait
running     CREATE when there is no container; START when it never ran, or a higher run request asks for it
            (STOP first when it runs), or the restart policy says so and the pause is over; else wait
==========  ===========================================================

The pause before a restart doubles from `delay` to a minute while runs are shorter than `window`, as Docker's does.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from pycompose.proto.v1 import service_pb2, task_pb2
from pycompose.worker.agent.record import Record

SECOND = 1_000_000_000
LONGEST_NS = 60 * SECOND


class Step(Enum):
    """What to do next."""

    CREATE = "create"
    START = "start"
    STOP = "stop"
    REMOVE = "remove"
    WAIT = "wait"


@dataclass(frozen=True)
class Next:
    """A step; for WAIT the time (ns since the epoch) at which to look again, 0: only when something changes."""

    step: Step
    until_ns: int = 0


def decide(task: task_pb2.Task, policy: service_pb2.RestartPolicy, record: Record, running: bool, now_ns: int) -> Next:
    """Return the next step of a task."""
    desired = task.desired_state
    if desired == task_pb2.DESIRED_STATE_REMOVED:
        return Next(Step.WAIT if record.state == task_pb2.TASK_STATE_REMOVE else Step.REMOVE)
    asked = task.run_request > record.run_request
    if running:
        stop = desired == task_pb2.DESIRED_STATE_STOPPED or (asked and desired == task_pb2.DESIRED_STATE_RUNNING)
        return Next(Step.STOP if stop else Step.WAIT)
    if desired == task_pb2.DESIRED_STATE_STOPPED and (record.created or not record.run):
        return Next(Step.WAIT)
    if not record.created:
        gave_up = record.state == task_pb2.TASK_STATE_REJECTED and not asked
        return Next(Step.WAIT if gave_up else Step.CREATE)
    if desired == task_pb2.DESIRED_STATE_CREATED:
        return Next(Step.WAIT)
    if asked or (record.run == 0 and not record.start_failed):
        return Next(Step.START)
    due = restart_at(policy, record)
    if due is None:
        return Next(Step.WAIT)
    return Next(Step.START) if now_ns >= due else Next(Step.WAIT, due)


def restart_at(policy: service_pb2.RestartPolicy, record: Record) -> int | None:
    """Return when an ended run is to be repeated by policy (ns since the epoch); None: never."""
    if record.start_failed or record.state == task_pb2.TASK_STATE_SHUTDOWN or not record.finished_ns:
        return None
    condition = policy.condition
    if condition in (service_pb2.RESTART_CONDITION_UNSPECIFIED, service_pb2.RESTART_CONDITION_NONE):
        return None
    if condition == service_pb2.RESTART_CONDITION_ON_FAILURE and record.exit_code == 0:
        return None
    if policy.max_attempts and record.restarts >= policy.max_attempts:
        return None
    first = policy.delay.ToNanoseconds() if policy.HasField("delay") else SECOND // 10
    return record.finished_ns + min(first << min(record.restarts, 20), LONGEST_NS)


def good_run(policy: service_pb2.RestartPolicy, record: Record) -> bool:
    """Return whether the last run was long enough for the pauses to begin anew."""
    window = policy.window.ToNanoseconds() if policy.HasField("window") else 10 * SECOND
    return record.finished_ns - record.started_ns >= window
