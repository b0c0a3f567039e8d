"""The mounts of this process's namespace as the kernel lists them (proc_pid_mountinfo(5))."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Place:
    """A mount: where, and whether it is a peer or a slave of others (mount_namespaces(7), "SHARED SUBTREES")."""

    point: str
    shared: bool
    slave: bool


def holding(path: Path) -> Place:
    """The mount that a path lies on; links in it are followed."""
    return find(Path("/proc/self/mountinfo").read_text(), os.path.realpath(path))


def find(table: str, path: str) -> Place:
    """The last mount of the table whose point is the path or above it. Pure."""
    best = Place("/", shared=False, slave=False)
    for line in table.splitlines():
        fields = line.split(" - ")[0].split()
        point, optional = _unescape(fields[4]), fields[6:]
        above = point == "/" or path == point or path.startswith(f"{point}/")
        if above and len(point) >= len(best.point):
            shared = any(word.startswith("shared:") for word in optional)
            best = Place(point, shared, any(word.startswith("master:") for word in optional))
    return best


def _unescape(text: str) -> str:
    """Spaces and the like are written as octal numbers."""
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), text)
