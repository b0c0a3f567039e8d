"""Who holds a port: /proc/net/{tcp,udp}{,6} (proc(5)) gives the socket's inode, /proc/PID/fd the process."""

from __future__ import annotations

import os
from pathlib import Path

_LISTEN = "0A"


def find_holder(protocol: str, port: int) -> str | None:
    """``name (pid N)`` of a process that holds the port in the calling thread's namespace, or None if unknown."""
    inodes: set[str] = set()
    for table in (protocol, protocol + "6"):
        try:
            text = Path(f"/proc/thread-self/net/{table}").read_text()
        except OSError:
            continue
        inodes |= inodes_of(text, port, listening=protocol == "tcp")
    return _process_with({f"socket:[{inode}]" for inode in inodes}) if inodes else None


def inodes_of(table: str, port: int, *, listening: bool) -> set[str]:
    """Socket inodes in the text of a /proc/net table that are bound to ``port``."""
    found = set()
    for line in table.splitlines()[1:]:
        fields = line.split()
        if len(fields) > 9 and int(fields[1].rsplit(":", 1)[1], 16) == port and (not listening or fields[3] == _LISTEN):
            found.add(fields[9])
    return found


def _process_with(targets: set[str]) -> str | None:
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            for descriptor in os.scandir(f"/proc/{pid}/fd"):
                if os.readlink(descriptor.path) in targets:
                    return f"{Path(f'/proc/{pid}/comm').read_text().strip()} (pid {pid})"
        except OSError:
            continue
    return None
