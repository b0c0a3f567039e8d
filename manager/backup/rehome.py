"""What is different when a store's content begins anew, perhaps on another machine: decisions over single objects.

A backup has what was, and a node that comes back has what is. So no task's observed state is believed: what ran is
told to run, and the node that has it says so, or makes it. What had ended by itself is not run again. Numbers of
revisions are of another epoch and are forgotten.

A machine takes the place of another where nobody else can: when the backup knows one node only, and it is not this one.
Data of volumes stays where it is; a volume whose only copy was on the machine that is replaced begins empty.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from pycompose.manager.model import NODE, REVISION, TASK, VOLUME, Kind, Object
from pycompose.manager.states import COMPLETE, FAILED, ORPHANED, REMOVE, SHUTDOWN
from pycompose.proto.v1 import node_pb2, task_pb2

RESTORED = "restored from a backup"


@dataclass(frozen=True)
class Move:
    """Attributes: here: this node's id; replaced: the id whose place it takes, "" for none; now: ns since the epoch."""

    here: str
    replaced: str
    now: int

    def node(self, identity: str) -> str:
        """Return the id that stands for a node now."""
        return self.here if identity and identity == self.replaced else identity


def replaces(here: str, nodes: Collection[str]) -> str:
    """Return the id of the node whose place this one takes, of those that a backup knows; "" for none."""
    return next(iter(nodes)) if len(nodes) == 1 and here not in nodes else ""


def rehomed(kind: Kind, identity: str, message: Object, move: Move) -> tuple[str, Object] | None:
    """Return an object's id and what it is from now on; None: it is no more. Changes `message`."""
    if kind is REVISION:
        message.ClearField("version")
    elif message.HasField("meta"):
        message.meta.ClearField("version")
        message.meta.ClearField("spec_after")
    if kind is NODE:
        identity = message.id = move.node(identity)
        message.status.state = node_pb2.NODE_STATE_DOWN
        message.status.message = f"{RESTORED}; has not connected since"
        message.status.since.FromNanoseconds(move.now)
    elif kind is VOLUME and move.replaced:
        kept = [place for place in message.locations if place.node_id != move.replaced]
        del message.locations[:]
        message.locations.extend(kept)
    elif kind is TASK:
        return (identity, message) if _task(message, move) else None
    return identity, message


def _task(task: task_pb2.Task, move: Move) -> bool:
    """Returns whether the task stays."""
    gone = task.desired_state == task_pb2.DESIRED_STATE_REMOVED or task.status.state in (ORPHANED, REMOVE)
    if not task.node_id:
        return not gone
    task.node_id = move.node(task.node_id)
    if gone and task.node_id == move.here:
        return False
    ended = task.status.state in (COMPLETE, FAILED) and not task.status.HasField("next_restart_at")
    if ended and not gone:
        task.desired_state = task_pb2.DESIRED_STATE_STOPPED
    elif gone or task.status.state != SHUTDOWN:
        task.status.Clear()
        task.status.state, task.status.message = task_pb2.TASK_STATE_ASSIGNED, RESTORED
        task.status.since.FromNanoseconds(move.now)
    return True
