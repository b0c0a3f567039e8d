"""Letting others than root reach files that lie in a folder that is root's alone, in a mount namespace's view of it."""

from __future__ import annotations

import os
import shlex
from pathlib import Path


def reachable(*paths: str, more: str = "") -> str:
    """A shell script for a new mount namespace in which others than root can reach the paths; `more` goes with it."""
    above: dict[str, list[str]] = {}
    for path in dict.fromkeys(os.path.realpath(path) for path in paths):
        closed = [str(place) for place in reversed(Path(path).parents) if not place.stat().st_mode & 1]
        if closed:
            above.setdefault(closed[0], []).append(path)
    lines = ["set -e", "stage=$(mktemp -d)", "mount -t tmpfs -o mode=755 none $stage"]
    for number, (closed_one, below) in enumerate(above.items()):
        for index, path in enumerate(below):
            lines += [f"mkdir $stage/{number}-{index}", f"mount --bind {shlex.quote(path)} $stage/{number}-{index}"]
        lines.append(f"mount -t tmpfs -o mode=755 none {shlex.quote(closed_one)}")
        for index, path in enumerate(below):
            lines += [f"mkdir -p {shlex.quote(path)}", f"mount --bind $stage/{number}-{index} {shlex.quote(path)}"]
    return "\n".join([*lines, "umount -R -l $stage; rmdir $stage", more, 'exec "$@"'])
