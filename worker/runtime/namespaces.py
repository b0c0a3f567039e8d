"""Namespaces: which are made, which are joined, in which order.

Source: namespaces(7), setns(2), unshare(2), OCI runtime-spec config-linux.md "Namespaces".
"""

from __future__ import annotations

import os

from pycompose.worker.runtime import syscalls
from pycompose.worker.runtime.errors import ConfigError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

FLAGS: dict[str, int] = {
    "cgroup": syscalls.CLONE_NEWCGROUP,
    "ipc": syscalls.CLONE_NEWIPC,
    "mount": syscalls.CLONE_NEWNS,
    "network": syscalls.CLONE_NEWNET,
    "pid": syscalls.CLONE_NEWPID,
    "uts": syscalls.CLONE_NEWUTS,
}
#: name in the OCI configuration -> name below /proc/PID/ns
PROC_NAMES: dict[str, str] = {
    "cgroup": "cgroup",
    "ipc": "ipc",
    "mount": "mnt",
    "network": "net",
    "pid": "pid",
    "uts": "uts",
}


class Plan:
    """What the configuration's namespace list asks for.

    ``new`` is a mask of CLONE_NEW* flags to unshare, ``join`` maps a flag to a path; a kind in
    neither is shared with the machine. The pid namespace is kept apart: it counts for children
    only, so the shim enters it before it forks.
    """

    __slots__ = ("join", "new", "pid_new", "pid_path")

    def __init__(self, namespaces: list[dict[str, Any]]) -> None:
        self.new = 0
        self.join: dict[int, str] = {}
        self.pid_new, self.pid_path = False, ""
        for entry in namespaces:
            kind, path = entry.get("type", ""), entry.get("path", "")
            if kind not in FLAGS:
                raise ConfigError(f"linux.namespaces: {kind!r} cannot be made here; known: {', '.join(sorted(FLAGS))}")
            if kind == "pid":
                self.pid_new, self.pid_path = not path, path
            elif path:
                self.join[FLAGS[kind]] = path
            else:
                self.new |= FLAGS[kind]
        if not self.new & syscalls.CLONE_NEWNS:
            raise ConfigError("linux.namespaces: a container needs a mount namespace of its own")


def join_path(path: str, flag: int) -> None:
    """Enter the namespace that ``path`` (a file of nsfs) stands for."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        syscalls.setns(fd, flag)
    finally:
        os.close(fd)


def enter_for_children(plan: Plan) -> None:
    """Make or join the pid namespace of this process's next children."""
    if plan.pid_path:
        join_path(plan.pid_path, syscalls.CLONE_NEWPID)
    elif plan.pid_new:
        syscalls.unshare(syscalls.CLONE_NEWPID)


def open_all(pid: int) -> list[tuple[int, int]]:
    """Descriptors of all namespaces of ``pid`` that an exec has to enter, mount namespace last."""
    order = ("cgroup", "ipc", "uts", "network", "mount")
    return [(os.open(f"/proc/{pid}/ns/{PROC_NAMES[kind]}", os.O_RDONLY | os.O_CLOEXEC), FLAGS[kind]) for kind in order]
