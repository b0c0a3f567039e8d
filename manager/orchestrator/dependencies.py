"""`depends_on` gates: a task is not placed before what its service depends on is as the condition says.

The answer is a reason in plain words, shown as the task's message; an empty one opens the gate. A dependency that
cannot become what is asked says so.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from pycompose.manager import states
from pycompose.manager.orchestrator.actions import leaving
from pycompose.proto.v1 import service_pb2, task_pb2

Lookup = Callable[[str], tuple[service_pb2.Service, Sequence[task_pb2.Task]] | None]

HEALTHY = service_pb2.DEPENDENCY_CONDITION_HEALTHY
COMPLETED = service_pb2.DEPENDENCY_CONDITION_COMPLETED_SUCCESSFULLY


def waits_for(spec: service_pb2.ServiceSpec, lookup: Lookup) -> str:
    """Return why the service's tasks must wait; "" when nothing holds them back.

    `lookup` gives a service of the same project by name, with its tasks, or None.
    """
    reasons = []
    for dependency in spec.dependencies:
        found = lookup(dependency.service)
        if found is None:
            if dependency.required:
                reasons.append(f"waiting for {dependency.service}: no such service in project {spec.project!r}")
            continue
        reason, final = _gate(dependency, *found)
        if reason and (dependency.required or not final):
            reasons.append(reason)
    return "; ".join(reasons)


def _gate(
    dependency: service_pb2.ServiceDependency, service: service_pb2.Service, tasks: Sequence[task_pb2.Task]
) -> tuple[str, bool]:
    """Return (why to wait or "", whether it failed for good)."""
    word = {HEALTHY: "healthy", COMPLETED: "completed successfully"}.get(dependency.condition, "started")
    waiting = f"waiting for {dependency.service}: {word}"
    current = [task for task in tasks if not leaving(task) and task.revision == service.revision]
    if service.spec.WhichOneof("mode") == "replicated" and service.spec.replicated.replicas == 0:
        return "", False
    if not current:
        return waiting, False
    for task in current:
        reason, final = _task_gate(dependency.condition, task)
        if reason:
            return f"{waiting} ({reason})" if final or reason != "-" else waiting, final
    return "", False


def _task_gate(condition: int, task: task_pb2.Task) -> tuple[str, bool]:
    status = task.status
    if condition == COMPLETED:
        if status.state == task_pb2.TASK_STATE_COMPLETE:
            return "", False
        return _failure(task) or ("-", False)
    if condition == HEALTHY:
        if status.state == task_pb2.TASK_STATE_RUNNING:
            if status.health == task_pb2.HEALTH_STATE_HEALTHY:
                return "", False
            if status.health == task_pb2.HEALTH_STATE_UNHEALTHY:
                return f"{task.name} is unhealthy", True
            if status.health == task_pb2.HEALTH_STATE_UNSPECIFIED:
                return f"{task.name} has no healthcheck", True
        if status.state == task_pb2.TASK_STATE_COMPLETE and not status.HasField("next_restart_at"):
            return f"{task.name} exited (0)", True
        return _failure(task) or ("-", False)
    if status.run > 0 or status.state in (task_pb2.TASK_STATE_RUNNING, task_pb2.TASK_STATE_COMPLETE):
        return "", False
    return _failure(task) or ("-", False)


def _failure(task: task_pb2.Task) -> tuple[str, bool] | None:
    """Return what failed for good; a restart that is due is no failure."""
    status = task.status
    if status.state not in (task_pb2.TASK_STATE_FAILED, task_pb2.TASK_STATE_REJECTED):
        return None
    if status.HasField("next_restart_at"):
        return None
    what = status.error or (f"exit status {status.exit_code}" if status.HasField("exit_code") else "no reason given")
    return f"{task.name} {states.name(status.state)}: {what}", True
