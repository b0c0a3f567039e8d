"""Replicated services: slots 1 to N each hold one task.

A task fills its slot whatever its state is (a stopped or failed container is kept, as Compose does; restarts are the
worker's) until it is told to leave. A slot whose old task is still leaving stays empty until that is gone, so that
names, addresses and volumes are never used twice; only start-first updates overlap.
"""

from __future__ import annotations

from collections.abc import Sequence

from pycompose.manager.orchestrator import update
from pycompose.manager.orchestrator.actions import Create, Decision, Remove, by_slot, leaving
from pycompose.proto.v1 import service_pb2, task_pb2


def decide(service: service_pb2.Service, tasks: Sequence[task_pb2.Task], now: float) -> Decision:
    """Return what brings the service's tasks to its spec. `now`: seconds since the epoch."""
    decision = Decision()
    wanted = 0 if service.removing else service.spec.replicated.replicas
    slots = by_slot(tasks)
    for slot in sorted(slots):
        if slot > wanted:
            reason = "service is removed" if service.removing else f"scaled to {wanted}"
            decision.actions += [Remove(task.id, reason) for task in slots[slot] if not leaving(task)]
    within = {slot: slots.get(slot, []) for slot in range(1, wanted + 1)}
    for slot, members in within.items():
        if not members:
            decision.actions.append(Create(slot, f"slot {slot} is empty"))
    update.decide(service, within, now, decision)
    return decision
