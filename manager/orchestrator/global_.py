"""Global services: one task on each node that the service's placement allows."""

from __future__ import annotations

from collections.abc import Sequence

from pycompose.manager.orchestrator import update
from pycompose.manager.orchestrator.actions import Create, Decision, Remove, leaving
from pycompose.proto.v1 import service_pb2, task_pb2


def decide(
    service: service_pb2.Service, tasks: Sequence[task_pb2.Task], eligible: Sequence[str], now: float
) -> Decision:
    """Return what gives each eligible node (by id) its task."""
    decision = Decision()
    nodes = set() if service.removing else set(eligible)
    groups: dict[str, list[task_pb2.Task]] = {}
    for task in tasks:
        groups.setdefault(task.node_id, []).append(task)
    for node_id in sorted(set(groups) - nodes):
        reason = "service is removed" if service.removing else "the node is not eligible"
        decision.actions += [Remove(task.id, reason) for task in groups[node_id] if not leaving(task)]
    ordered = sorted(nodes)
    for node_id in ordered:
        if not groups.get(node_id):
            decision.actions.append(Create(0, "the node has none", node_id))
    inner = Decision()
    update.decide(service, {place: groups.get(node_id, []) for place, node_id in enumerate(ordered)}, now, inner)
    for action in inner.actions:
        decision.actions.append(
            Create(0, action.reason, ordered[action.slot]) if isinstance(action, Create) else action
        )
    decision.wake_at, decision.update_state = inner.wake_at, inner.update_state
    decision.update_message, decision.rollback = inner.update_message, inner.rollback
    return decision
