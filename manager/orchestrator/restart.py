"""Restart supervisor: which tasks are replaced elsewhere. Restarts on the same node are the worker's.

A task whose node is gone from the cluster is given up at once. A task on a node that is down is told to leave, so that
its slot is filled on another node that could take it: its row, with its addresses, stays until its worker is back and
has stopped it, or ORPHANED_SECONDS have passed. Where no other node could take it (one machine; a volume whose data is
there; a global service's task) it waits for its node's return and then simply goes on. What is stopped by request or
has ended is not run again elsewhere. A task that its node rejected goes where another node could take it.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from pycompose.manager.orchestrator.actions import Action, Orphan, Remove, leaving
from pycompose.manager.states import ENDED
from pycompose.proto.v1 import task_pb2

ORPHANED_SECONDS = 24 * 3600.0


def decide(
    tasks: Sequence[task_pb2.Task],
    known: Collection[str],
    down: Mapping[str, float],
    usable: Collection[str],
    at_once: bool,
    now: float,
) -> list[Action]:
    """Return tasks to give up, all of one service.

    Args:
        tasks: the service's.
        known: ids of all nodes.
        down: since when nodes are lost, by id, in seconds since the epoch.
        usable: ids of the nodes that could take one of these tasks.
        at_once: a lost node's rows are not kept: the service goes, or its next task needs the same address.
        now: seconds since the epoch.
    """
    actions: list[Action] = []
    for task in tasks:
        if not task.node_id:
            continue
        if task.node_id not in known:
            actions.append(Orphan(task.id, "its node was removed from the cluster"))
        elif task.node_id in down:
            if leaving(task) and (at_once or now >= down[task.node_id] + ORPHANED_SECONDS):
                actions.append(Orphan(task.id, "its node is down"))
            elif not leaving(task) and usable and _wants_to_run(task):
                actions.append(Remove(task.id, "its node is down"))
        elif (
            task.status.state == task_pb2.TASK_STATE_REJECTED
            and not leaving(task)
            and any(node != task.node_id for node in usable)
        ):
            actions.append(Remove(task.id, "rejected by its node, another one may take it"))
    return actions


def _wants_to_run(task: task_pb2.Task) -> bool:
    return task.desired_state == task_pb2.DESIRED_STATE_RUNNING and task.status.state not in ENDED


def orphaned_at(tasks: Sequence[task_pb2.Task], down: Mapping[str, float]) -> float | None:
    """Return when the first task of a lost node is given up for good; None: none waits for that."""
    waiting = [down[task.node_id] for task in tasks if leaving(task) and task.node_id in down]
    return min(waiting) + ORPHANED_SECONDS if waiting else None
