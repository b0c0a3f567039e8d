"""What orchestrators decide: values that the engine turns into writes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from pycompose.proto.v1 import service_pb2, task_pb2


@dataclass(frozen=True, slots=True)
class Create:
    """A new task in `slot` (0: a global service's, then `node_id` says where)."""

    slot: int
    reason: str
    node_id: str = ""


@dataclass(frozen=True, slots=True)
class Remove:
    """The task's container goes, then the task."""

    task_id: str
    reason: str


@dataclass(frozen=True, slots=True)
class Orphan:
    """The task's node is lost: the task goes without its worker's word."""

    task_id: str
    reason: str


Action = Create | Remove | Orphan


@dataclass(slots=True)
class Decision:
    """Actions, and when to look again although nothing changed (seconds since the epoch).

    `rollback`: the template before the present one shall come back.
    """

    actions: list[Action] = field(default_factory=list)
    wake_at: float | None = None
    update_state: int | None = None
    update_message: str = ""
    rollback: bool = False

    def wake(self, at: float) -> None:
        """Look again at `at` at the latest."""
        self.wake_at = at if self.wake_at is None else min(self.wake_at, at)


def leaving(task: task_pb2.Task) -> bool:
    """Return whether the task is on its way out."""
    return task.desired_state == task_pb2.DESIRED_STATE_REMOVED


def task_name(spec: service_pb2.ServiceSpec, slot: int) -> str:
    """Return the container's name for a slot."""
    if spec.task.container_name:
        return str(spec.task.container_name)
    if spec.project:
        parts = [spec.project, spec.name, *([str(slot)] if slot else [])]
        return (spec.task.name_separator or "-").join(parts)
    single = spec.WhichOneof("mode") != "replicated" or spec.replicated.replicas <= 1
    return str(spec.name) if single and slot <= 1 else f"{spec.name}-{slot}"


def by_slot(tasks: Sequence[task_pb2.Task]) -> dict[int, list[task_pb2.Task]]:
    """Return tasks grouped by slot."""
    slots: dict[int, list[task_pb2.Task]] = {}
    for task in tasks:
        slots.setdefault(task.slot, []).append(task)
    return slots
