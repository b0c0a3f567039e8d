"""What is being done with each layer, as the API reports it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum


class Phase(StrEnum):
    """The names of the API's LayerPhase, without its prefix."""

    WAITING = "WAITING"
    DOWNLOADING = "DOWNLOADING"
    UNPACKING = "UNPACKING"
    DONE = "DONE"
    EXISTS = "EXISTS"
    COMPRESSING = "COMPRESSING"
    UPLOADING = "UPLOADING"
    MOUNTED = "MOUNTED"


@dataclass(frozen=True)
class LayerState:
    """`current` and `total` in bytes; `total` 0 when unknown."""

    digest: str
    phase: Phase
    current: int = 0
    total: int = 0


Report = Callable[[LayerState], None]
