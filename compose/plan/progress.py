"""How far a container is, and whether it can still get where it should.

Every wait in the command line ends by these functions; they know what a state means to a person.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pycompose.proto.v1 import service_pb2, task_pb2

_ENDED = (task_pb2.TASK_STATE_COMPLETE, task_pb2.TASK_STATE_SHUTDOWN, task_pb2.TASK_STATE_FAILED)
_LOST = (task_pb2.TASK_STATE_REJECTED, task_pb2.TASK_STATE_ORPHANED)
_HEALTHY = service_pb2.DEPENDENCY_CONDITION_HEALTHY
_COMPLETED = service_pb2.DEPENDENCY_CONDITION_COMPLETED_SUCCESSFULLY
#: The manager's word for what `waits` says to people.
_GATE = re.compile(r"waiting for [^ ]+: (healthy|started|completed successfully)$")


@dataclass(frozen=True)
class Progress:
    """One container's progress.

    Attributes:
        word: for people: "Creating", "Waiting", "Started", "Healthy", …
        detail: what it waits for, or why it failed.
        done: it is where it should be.
        failed: it will not get there by itself.
    """

    word: str
    detail: str = ""
    done: bool = False
    failed: bool = False


def leaving(task: task_pb2.Task) -> bool:
    """Return whether the task is on its way out."""
    return task.desired_state == task_pb2.DESIRED_STATE_REMOVED or task.status.state == task_pb2.TASK_STATE_REMOVE


def stopped(task: task_pb2.Task) -> bool:
    """Return whether the task is down and stays so until somebody starts it."""
    if task.run_request > task.status.run_request:
        return task.desired_state in (task_pb2.DESIRED_STATE_STOPPED, task_pb2.DESIRED_STATE_CREATED)
    if task.desired_state in (task_pb2.DESIRED_STATE_STOPPED, task_pb2.DESIRED_STATE_CREATED):
        return True
    return task.status.state in (*_ENDED, *_LOST) and not task.status.HasField("next_restart_at")


def running(task: task_pb2.Task) -> bool:
    """Return whether the task's program runs now."""
    return task.status.state == task_pb2.TASK_STATE_RUNNING


def stop_done(task: task_pb2.Task) -> bool:
    """Return whether nothing of the task runs."""
    state = task.status.state
    return state in (*_ENDED, *_LOST, task_pb2.TASK_STATE_REMOVE) or state in (
        task_pb2.TASK_STATE_PENDING,
        task_pb2.TASK_STATE_READY,
    )


def failure(task: task_pb2.Task) -> str:
    """Return why the task failed for good, "" when it did not or will be restarted."""
    status = task.status
    if status.state not in (task_pb2.TASK_STATE_FAILED, *_LOST) or status.HasField("next_restart_at"):
        return ""
    if status.error:
        return status.error
    if status.oom_killed:
        return "killed for want of memory; raise its memory limit"
    return f"exited ({status.exit_code})" if status.HasField("exit_code") else status.message or "failed"


def start(task: task_pb2.Task, *, wait: bool, waits: str = "") -> Progress:
    """Return how far a task is on its way up.

    Args:
        task: the task.
        wait: it is there only when healthy (or ended with 0); else when it was started.
        waits: what its service waits for.
    """
    status = task.status
    if task.run_request > status.run_request:
        return Progress("Starting")
    if status.state == task_pb2.TASK_STATE_RUNNING:
        if status.health == task_pb2.HEALTH_STATE_HEALTHY:
            return Progress("Healthy", done=True)
        if not wait or status.health == task_pb2.HEALTH_STATE_UNSPECIFIED:
            return Progress("Started", done=True)
        if status.health == task_pb2.HEALTH_STATE_UNHEALTHY:
            return Progress("Unhealthy", status.health_output.strip(), failed=True)
        return Progress("Waiting", f"to be healthy{_in_brackets(checks(status))}")
    if status.state == task_pb2.TASK_STATE_COMPLETE:
        return Progress("Exited", "(0)", done=True)
    why = failure(task)
    if why:
        # an error of the worker's is about the start (it could not, or a hook failed), not about the program's end
        begun = (
            status.run > 0 and status.state == task_pb2.TASK_STATE_FAILED and (not status.error or status.oom_killed)
        )
        if begun and not wait:
            return Progress("Exited", f"({status.exit_code}){' for want of memory' * status.oom_killed}", done=True)
        return Progress("Error", why, failed=True)
    if status.state in (task_pb2.TASK_STATE_FAILED, task_pb2.TASK_STATE_SHUTDOWN):
        if status.run > 0 and not wait and not _never_began(status):
            return Progress("Restarting", status.error, done=True)
        return Progress("Restarting", status.error)
    if status.state == task_pb2.TASK_STATE_PENDING and not waits and _GATE.match(status.message):
        return Progress("Creating")  # what it waited for is there, and the manager has not said so yet
    if status.state == task_pb2.TASK_STATE_PENDING:
        return Progress("Waiting", waits or _placing(status.message))
    if status.state == task_pb2.TASK_STATE_PREPARING:
        return Progress("Creating", status.message)
    if status.state == task_pb2.TASK_STATE_READY and task.desired_state == task_pb2.DESIRED_STATE_CREATED:
        return Progress("Created", done=True)
    if status.state in (task_pb2.TASK_STATE_READY, task_pb2.TASK_STATE_STARTING):
        return Progress("Starting")
    return Progress("Creating")


def created(task: task_pb2.Task) -> Progress:
    """Return how far a task is that should exist and not run."""
    why = failure(task)
    if why:
        return Progress("Error", why, failed=True)
    if task.status.state == task_pb2.TASK_STATE_PENDING:
        return Progress("Waiting", _placing(task.status.message))
    done = task.status.state >= task_pb2.TASK_STATE_READY
    return Progress("Created" if done else "Creating", done=done)


def _never_began(status: task_pb2.TaskStatus) -> bool:
    """Return whether the program could not even be executed (Docker's 125 to 127 with a reason)."""
    return bool(status.error) and not status.oom_killed and status.exit_code in (125, 126, 127)


def _placing(message: str) -> str:
    """Return what a task that has no place waits for: "for a node: no suitable node: …"."""
    text = message.removeprefix("waiting ")
    return text if text.startswith("for ") or not text else f"for a node: {text}"


def checks(status: task_pb2.TaskStatus) -> str:
    """Return how the health checks go while they decide: "3rd check", "2 of 3 checks failed"; "" before the first."""
    if status.health_failures:
        return f"{status.health_failures} {'check' if status.health_failures == 1 else 'checks'} failed"
    return f"{ordinal(status.health_checks + 1)} check" if status.health_checks else ""


def ordinal(number: int) -> str:
    """Return "1st", "2nd", "3rd", "11th"."""
    ending = "th" if number % 100 in (11, 12, 13) else {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
    return f"{number}{ending}"


def _in_brackets(text: str) -> str:
    return f" ({text})" if text else ""


def waits(
    dependencies: Sequence[service_pb2.ServiceDependency],
    services: Mapping[str, service_pb2.Service],
    tasks: Sequence[task_pb2.Task],
) -> str:
    """Return what a service waits for, "for db to be healthy (3rd check), for setup to complete"; "" for nothing."""
    found = []
    for dependency in dependencies:
        is_open, why = gate(dependency, services, tasks)
        if is_open:
            continue
        verb = {_HEALTHY: "be healthy", _COMPLETED: "complete"}.get(dependency.condition, "start")
        detail = why
        if not why and dependency.condition == _HEALTHY and dependency.service in services:
            mine = services[dependency.service].id
            running_ = [task for task in tasks if task.service_id == mine and running(task)]
            detail = next((checks(task.status) for task in running_ if checks(task.status)), "")
        found.append(f"for {dependency.service} to {verb}{_in_brackets(detail)}")
    return ", ".join(found)


def gate(
    dependency: service_pb2.ServiceDependency,
    services: Mapping[str, service_pb2.Service],
    tasks: Sequence[task_pb2.Task],
) -> tuple[bool, str]:
    """Return (open, why it can never open) for one dependency, from what is seen now.

    Args:
        dependency: what must hold.
        services: the project's services by name.
        tasks: the project's tasks.
    """
    service = services.get(dependency.service)
    if service is None:
        return not dependency.required, ""
    if service.spec.WhichOneof("mode") == "replicated" and service.spec.replicated.replicas == 0:
        return True, ""
    mine = [
        task
        for task in tasks
        if task.service_id == service.id and task.revision == service.revision and not leaving(task)
    ]
    if not mine:
        return False, ""
    for task in mine:
        is_open, why = _task_gate(dependency.condition, task)
        if not is_open:
            if why and not dependency.required:
                continue
            return False, why
    return True, ""


def _task_gate(condition: int, task: task_pb2.Task) -> tuple[bool, str]:
    status = task.status
    why = failure(task)
    if task.run_request > status.run_request:
        return False, ""
    if condition == _COMPLETED:
        return status.state == task_pb2.TASK_STATE_COMPLETE, f"{task.name} {why}" if why else ""
    if condition == _HEALTHY:
        if status.state == task_pb2.TASK_STATE_RUNNING:
            if status.health == task_pb2.HEALTH_STATE_UNHEALTHY:
                said = " ".join(status.health_output.split())[-200:]
                return False, f"{task.name} is unhealthy" + (f" (its check said: {said})" if said else "")
            if status.health == task_pb2.HEALTH_STATE_UNSPECIFIED:
                return False, f"{task.name} has no healthcheck"
            return status.health == task_pb2.HEALTH_STATE_HEALTHY, ""
        return False, f"{task.name} {why}" if why else ""
    begun = status.run > 0 and not _never_began(status)
    return begun, "" if begun or not why else f"{task.name} {why}"
