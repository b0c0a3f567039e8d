"""The words of a plan.

::

    PlanError    the plan cannot be made; every reason in one message
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from pycompose.compose.plan.differences import Difference


class PlanError(Exception):
    """What should be cannot be made of what is."""

    def __init__(self, reasons: Sequence[str]) -> None:
        super().__init__("\n".join(reasons))
        self.reasons = tuple(reasons)


@dataclass(frozen=True)
class Step:
    """One thing to do.

    Attributes:
        action: "create", "update", "recreate", "remove", "start" or "keep".
        kind: "project", "network", "volume", "secret", "config" or "service".
        name: of the object, as people know it.
        reason: why, in plain words.
        keys: the keys of the file that differ.
        containers: of a service: the names of the containers that are made, made anew, started or removed.
        start_first: of recreate: new containers are up before old ones go.
        spec: what the object will be; None for remove, start and keep.
        current: the object as it is; None for create.
        task_ids: of start: what is started.
    """

    action: str
    kind: str
    name: str
    reason: str = ""
    keys: tuple[Difference, ...] = ()
    containers: tuple[str, ...] = ()
    start_first: bool = False
    spec: Any = None
    current: Any = None
    task_ids: tuple[str, ...] = field(default=())

    @property
    def changes(self) -> bool:
        """Whether the step does anything."""
        return self.action != "keep" and self.kind != "project"

    def __str__(self) -> str:
        return f"{self.action} {self.kind} {self.name}" + (f": {self.reason}" if self.reason else "")
