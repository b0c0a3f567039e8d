"""Values that cross the runtime's seam."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Rootfs:
    """Where the container's root comes from.

    ``lower``: layer directories, topmost first. ``upper`` and ``work``: the writable layer and
    overlay's work directory beside it, on one file system; both None for a root without
    writable layer (one lower directory is then used itself). ``idmap``: owners on the disk are ids of the container's
    user namespace.
    """

    lower: tuple[Path, ...]
    upper: Path | None = None
    work: Path | None = None
    readonly: bool = False
    idmap: bool = False

    def as_dict(self) -> dict[str, Any]:
        """As JSON for the shim."""
        return {
            "lower": [str(path) for path in self.lower],
            "upper": str(self.upper) if self.upper else None,
            "work": str(self.work) if self.work else None,
            "readonly": self.readonly,
            "idmap": self.idmap,
        }


@dataclass(frozen=True)
class LogOptions:
    """A json-file log: the current file's path, bytes per file (0: no limit), number of files kept."""

    path: Path
    max_bytes: int = 10_000_000
    max_files: int = 3

    def as_dict(self) -> dict[str, Any]:
        """As JSON for the shim."""
        return {"path": str(self.path), "max_bytes": self.max_bytes, "max_files": self.max_files}


@dataclass(frozen=True)
class ExitStatus:
    """How a run ended. ``code`` is 128 + ``signal`` when a signal ended it; times in ns since the epoch."""

    code: int
    signal: int
    oom_killed: bool
    started_ns: int
    finished_ns: int
    error: str = ""

    @classmethod
    def from_dict(cls, record: dict[str, Any]) -> ExitStatus:
        """From ``state.json``."""
        return cls(**record)


@dataclass(frozen=True)
class ContainerState:
    """``status`` is created, running, paused or stopped; ``run`` counts starts; ``started_ns`` since the epoch."""

    id: str
    status: str
    pid: int
    run: int
    exit: ExitStatus | None
    started_ns: int = 0


@dataclass(frozen=True)
class Usage:
    """Consumption: CPU time in ns; memory (without inactive page cache), its limit, reads and writes in bytes."""

    cpu_ns: int
    memory_bytes: int
    memory_limit: int
    pids: int
    read_bytes: int
    write_bytes: int
