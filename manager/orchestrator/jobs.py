"""Jobs: slots 1 to `completions` each run to their end, at most `max_concurrent` at a time.

A changed template runs the whole job again. A task that failed for good (the worker gave up restarting) keeps its slot.
"""

from __future__ import annotations

from collections.abc import Sequence

from pycompose.manager.orchestrator.actions import Create, Decision, Remove, by_slot, leaving
from pycompose.manager.states import ENDED
from pycompose.proto.v1 import service_pb2, task_pb2


def decide(service: service_pb2.Service, tasks: Sequence[task_pb2.Task]) -> Decision:
    """Return what brings the job on."""
    decision = Decision()
    mode = service.spec.replicated_job
    wanted = 0 if service.removing else mode.completions
    for task in tasks:
        if not leaving(task) and (task.slot > wanted or task.revision != service.revision):
            decision.actions.append(Remove(task.id, "service is removed" if service.removing else "job changed"))
    slots = by_slot(tasks)
    active = sum(1 for task in tasks if task.status.state not in ENDED)
    room = (mode.max_concurrent or wanted) - active
    for slot in range(1, wanted + 1):
        if room <= 0:
            break
        if slot not in slots:
            decision.actions.append(Create(slot, f"run {slot} of {wanted}"))
            room -= 1
    return decision
