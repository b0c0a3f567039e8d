"""Restart supervisor: which tasks are replaced elsewhere. Restarts on the same node are the worker's.

A task whose node is gone from the cluster is given up at once. A task on a node that is down, or that its node
rejected, is replaced only where another node could take it: on one machine it waits for the node's return.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from pycompose.manager.orchestrator.actions import Action, Orphan, Remove, leaving
from pycompose.proto.v1 import task_pb2


def decide(
    tasks: Sequence[task_pb2.Task], known: Collection[str], down: Collection[str], usable: Collection[str]
) -> list[Action]:
    """Return tasks to give up. `known`: ids of all nodes; `down`: of lost ones; `usable`: of those that take tasks."""
    actions: list[Action] = []
    for task in tasks:
        if not task.node_id:
            continue
        if task.node_id not in known:
            actions.append(Orphan(task.id, "its node was removed from the cluster"))
        elif task.node_id in down and usable:
            actions.append(Orphan(task.id, "its node is down"))
        elif (
            task.status.state == task_pb2.TASK_STATE_REJECTED
            and not leaving(task)
            and any(node != task.node_id for node in usable)
        ):
            actions.append(Remove(task.id, "rejected by its node, another one may take it"))
    return actions
