"""Namespaces: which are made, which are joined, in which order.

Source: namespaces(7), setns(2), unshare(2), OCI runtime-spec config-linux.md "Namespaces".
"""

from __future__ import annotations

import contextlib
import os

from pycompose.worker.runtime import syscalls
from pycompose.worker.runtime.errors import ConfigError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

FLAGS: dict[str, int] = {
    "cgroup": syscalls.CLONE_NEWCGROUP,
    "ipc": syscalls.CLONE_NEWIPC,
    "mount": syscalls.CLONE_NEWNS,
    "network": syscalls.CLONE_NEWNET,
    "pid": syscalls.CLONE_NEWPID,
    "time": syscalls.CLONE_NEWTIME,
    "user": syscalls.CLONE_NEWUSER,
    "uts": syscalls.CLONE_NEWUTS,
}
#: name in the OCI configuration -> name below /proc/PID/ns
PROC_NAMES: dict[str, str] = {
    "cgroup": "cgroup",
    "ipc": "ipc",
    "mount": "mnt",
    "network": "net",
    "pid": "pid",
    "time": "time",
    "user": "user",
    "uts": "uts",
}


class Plan:
    """What the configuration's namespace list asks for.

    ``new`` is a mask of CLONE_NEW* flags to unshare, ``join`` maps a flag to a path; a kind in
    neither is shared with the machine. Pid and time namespaces are kept apart (``children_new``,
    ``children_join``): they count for children only, so whoever forks enters them before.
    ``time_offsets`` are the lines of /proc/PID/timens_offsets (time_namespaces(7)). ``user`` is the path of a user
    namespace to join, "" for a new one, None for the machine's; the others are then made inside of it (``userns``).
    """

    __slots__ = ("children_join", "children_new", "join", "new", "time_offsets", "user")

    def __init__(self, namespaces: list[dict[str, Any]], time_offsets: dict[str, Any] | None = None) -> None:
        self.new = self.children_new = 0
        self.user: str | None = None
        self.join: dict[int, str] = {}
        self.children_join: dict[int, str] = {}
        self.time_offsets = [
            f"{clock} {offset.get('secs', 0)} {offset.get('nanosecs', 0)}"
            for clock, offset in (time_offsets or {}).items()
        ]
        for entry in namespaces:
            kind, path = entry.get("type", ""), entry.get("path", "")
            if kind not in FLAGS:
                raise ConfigError(f"linux.namespaces: {kind!r} cannot be made here; known: {', '.join(sorted(FLAGS))}")
            flag = FLAGS[kind]
            if flag == syscalls.CLONE_NEWUSER:
                self.user = path
                continue
            for_children = flag in (syscalls.CLONE_NEWPID, syscalls.CLONE_NEWTIME)
            if path:
                (self.children_join if for_children else self.join)[flag] = path
            elif for_children:
                self.children_new |= flag
            else:
                self.new |= flag
        if not self.new & syscalls.CLONE_NEWNS:
            raise ConfigError("linux.namespaces: a container needs a mount namespace of its own")

    def joined(self) -> int:
        """The flags of those that this process joins."""
        return sum(self.join)


def join_path(path: str, flag: int) -> None:
    """Enter the namespace that ``path`` (a file of nsfs) stands for."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        syscalls.setns(fd, flag)
    finally:
        os.close(fd)


def enter_for_children(plan: Plan) -> None:
    """Make or join the pid and time namespaces of this process's next children, unless ``userns`` does."""
    if plan.user is not None:
        return
    join_for_children(plan)
    make_for_children(plan)


def join_for_children(plan: Plan) -> None:
    """Join those pid and time namespaces that exist."""
    for flag, path in plan.children_join.items():
        join_path(path, flag)


def make_for_children(plan: Plan, offsets: int = -1) -> None:
    """Make the new ones; ``offsets`` is /proc/self/timens_offsets where this process may not open it any more."""
    if plan.children_new:
        syscalls.unshare(plan.children_new)
    if plan.time_offsets:
        fd = os.dup(offsets) if offsets >= 0 else open_offsets()
        try:
            os.write(fd, "\n".join(plan.time_offsets).encode())
        finally:
            os.close(fd)


def open_offsets() -> int:
    """Where a new time namespace's clocks are set (time_namespaces(7))."""
    return os.open("/proc/self/timens_offsets", os.O_WRONLY | os.O_CLOEXEC)


@contextlib.contextmanager
def for_children(plan: Plan) -> Iterator[None]:
    """Fork children into the pid and time namespaces of the plan; ones forked later are in this process's own."""
    if plan.user is not None:  # then another process forks (userns)
        yield
        return
    own = [
        (os.open(f"/proc/self/ns/{name}", os.O_RDONLY | os.O_CLOEXEC), flag)
        for name, flag in (("pid", syscalls.CLONE_NEWPID), ("time", syscalls.CLONE_NEWTIME))
        if flag & plan.children_new or flag in plan.children_join
    ]
    try:
        enter_for_children(plan)
        yield
    finally:
        for fd, flag in own:
            syscalls.setns(fd, flag)
            os.close(fd)


def open_all(pid: int) -> list[tuple[int, int]]:
    """Descriptors of all namespaces of ``pid`` that an exec has to enter.

    The mount namespace comes late, since paths are the container's then; those for the next child, pid and time, after
    it; the user namespace last, since the rights to enter the others are the machine's. An ordinary user has rights in
    that one only: it comes first. What is this process's own already is left out: setns(2) refuses that
    for the user namespace, and for others where there are no rights.
    """
    kinds = ["cgroup", "ipc", "uts", "network", "mount", "pid", "time", "user"]
    if os.geteuid():
        kinds = ["user", *kinds[:-1]]
    names = [(PROC_NAMES[kind], FLAGS[kind]) for kind in kinds]
    there = [
        (f"/proc/{pid}/ns/{name}", flag)
        for name, flag in names
        if not _same(f"/proc/{pid}/ns/{name}", f"/proc/self/ns/{name}")
    ]
    return [(os.open(path, os.O_RDONLY | os.O_CLOEXEC), flag) for path, flag in there]


def _same(one: str, other: str) -> bool:
    """Whether two files of nsfs are of one namespace, or this kernel does not have the kind."""
    try:
        return os.stat(one).st_ino == os.stat(other).st_ino
    except FileNotFoundError:
        return True
