"""RUN/rootless.json: what a rootless node's programs know of the world around them, and the processes that make it."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path

NAME, DOORS = "rootless.json", "ports.sock"


@dataclass(frozen=True)
class Process:
    """A process that is known again: `start` is its start time in clock ticks after boot (proc_pid_stat(5))."""

    pid: int
    start: int

    def lives(self) -> bool:
        """Whether it still is that process, and no zombie."""
        return start_time(self.pid) == self.start != 0


@dataclass(frozen=True)
class Around:
    """Attributes: keeper: holds the namespaces; way_out: the network program, None: there is none; means: its name;
    warnings: what cannot be done here, for people; cgroup: below which containers' cgroups are made, "" for none;
    controllers: what can be limited there."""

    keeper: Process
    way_out: Process | None
    means: str
    warnings: tuple[str, ...]
    cgroup: str
    controllers: tuple[str, ...]


def start_time(pid: int) -> int:
    """Return a process's start time, 0 when there is none or it is a zombie."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()
    except OSError:
        return 0
    return 0 if fields[0] in "ZX" else int(fields[19])


def process(pid: int) -> Process:
    """Return a process that runs now."""
    return Process(pid, start_time(pid))


def save(run: Path, around: Around) -> None:
    """Write it down."""
    unfinished = run / f".{NAME}"
    unfinished.write_text(json.dumps(asdict(around)))
    os.rename(unfinished, run / NAME)


def load(run: Path) -> Around | None:
    """Return what was written down, None: this is no rootless node."""
    try:
        found = json.loads((run / NAME).read_text())
        way_out = Process(**found["way_out"]) if found["way_out"] else None
        return Around(
            Process(**found["keeper"]),
            way_out,
            found["means"],
            tuple(found["warnings"]),
            found["cgroup"],
            tuple(found["controllers"]),
        )
    except (OSError, ValueError, KeyError, TypeError):
        return None
