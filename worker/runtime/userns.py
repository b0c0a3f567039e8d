"""A container's user namespace: who makes it, who enters it, and who is whose parent.

A container without one has a single process of ours before its program. With one there are two, since what a user
namespace owns must be made inside of it, and a pid namespace counts only for children::

    shim ──fork──► outer process: cgroup, namespaces to join, mounts of the machine's files (all with the
                     │  machine's rights), then enters the user namespace, makes the pid namespace
                     └──fork──► first process: the other new namespaces, attaches the mounts, runs the program

The outer process ends at once; the shim, being a subreaper, is then the parent (PR_SET_CHILD_SUBREAPER of prctl(2)),
and lets the first process go on: only from then on does a lost shim end it.

Sources: user_namespaces(7) ("Interaction of user namespaces and other types of namespaces"), pid_namespaces(7),
OCI runtime-spec config-linux.md "User namespace mappings".
"""

from __future__ import annotations

import contextlib
import json
import os
import resource
import socket

from pycompose.worker.runtime import idmap, namespaces, syscalls
from pycompose.worker.runtime.errors import ConfigError, StartError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

_GO = b"go"


class Users:
    """A user namespace and its mappings.

    Attributes:
        fd: descriptor of the namespace.
        uids, gids: OCI mappings: containerID, hostID, size.
    """

    __slots__ = ("_layers", "fd", "gids", "uids")

    def __init__(self, path: str, linux: dict[str, Any]) -> None:
        """Open the namespace at ``path``, or make one with the mappings of ``linux`` ("").

        Raises:
            ConfigError: the kernel refuses.
        """
        self._layers = -1
        self.uids, self.gids = linux.get("uidMappings") or [], linux.get("gidMappings") or []
        if not path:
            self.fd = idmap.user_namespace(idmap.lines(self.uids), idmap.lines(self.gids))
            return
        self.fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        if not self.uids or not self.gids:
            self.uids, self.gids = idmap.mappings_of(self.fd)

    def layers(self) -> int:
        """Descriptor of a namespace by which an overlay's layers are mapped.

        The machine's root is in it, too, as an id on the disk that the container does not have: overlayfs makes its
        work directory with the rights of whoever mounts it, and without that id falls back to a read-only mount.
        """
        if self._layers < 0:
            tables = [idmap.lines(idmap.with_root(found)) for found in (self.uids, self.gids)]
            self._layers = idmap.user_namespace(*tables)
        return self._layers

    def outside(self, uid: int, gid: int) -> tuple[int, int]:
        """The machine's numbers of a user and a group of the container."""
        return outside({"uidMappings": self.uids, "gidMappings": self.gids}, uid, gid)

    def own(self, mount: dict[str, Any]) -> bool:
        """Whether an id-mapped mount is to be mapped as the container is."""
        uids, gids = mount.get("uidMappings") or self.uids, mount.get("gidMappings") or self.gids
        return bool(uids == self.uids and gids == self.gids)


def outside(linux: dict[str, Any], uid: int, gid: int) -> tuple[int, int]:
    """The machine's numbers of a user and a group by the mappings of OCI ``linux``. Raises ConfigError."""
    return idmap.outside(linux["uidMappings"], uid), idmap.outside(linux["gidMappings"], gid)


def enter(fd: int) -> None:
    """Be root of the user namespace; other processes of it cannot look into this one."""
    if os.geteuid() == 0:
        os.setgroups([])
    syscalls.setns(fd, syscalls.CLONE_NEWUSER)
    os.setresgid(0, 0, 0)
    os.setresuid(0, 0, 0)
    syscalls.prctl(syscalls.PR_SET_DUMPABLE, 0)


@contextlib.contextmanager
def making_files(users: Users | None) -> Iterator[None]:
    """Files that are made meanwhile belong to the container's root; the rights to mount stay (setfsuid(2))."""
    if users is None:
        yield
        return
    uid, gid = users.outside(0, 0)
    syscalls.set_file_ids(uid, gid)
    try:
        yield
    finally:
        syscalls.set_file_ids(0, 0)


def raise_limits(limits: list[tuple[int, tuple[int, int]]]) -> None:
    """Hard limits that are higher than the present ones: inside of a user namespace nobody may raise them."""
    for number, (_, hard) in limits:
        soft, present = resource.getrlimit(number)
        if present != resource.RLIM_INFINITY and (hard == resource.RLIM_INFINITY or hard > present):
            with contextlib.suppress(ValueError):  # no CAP_SYS_RESOURCE: the step that sets it will say so
                resource.setrlimit(number, (soft, hard))


def descend(users: Users, plan: namespaces.Plan, channel: socket.socket) -> None:
    """The end of the outer process, and the beginning of the first one: returns there only."""
    offsets = namespaces.open_offsets() if plan.time_offsets else -1
    if os.geteuid() == 0:
        namespaces.join_for_children(plan)
        enter(users.fd)
    else:  # the rights to join are those of the namespace's root
        enter(users.fd)
        namespaces.join_for_children(plan)
    namespaces.make_for_children(plan, offsets)
    split(channel)


def split(channel: socket.socket) -> None:
    """Go on in a child, whose parent will be whoever calls ``follow``."""
    pid = os.fork()
    if pid:
        channel.send(json.dumps({"pid": pid}).encode())
        os._exit(0)
    if channel.recv(len(_GO)) != _GO:
        os._exit(125)


def follow(channel: socket.socket, outer: int) -> int:
    """Wait until the outer process has ended, and let the one that it forked go on; returns its pid.

    Args:
        channel: to both of them.
        outer: the child that was forked.

    Raises:
        StartError: the outer process failed; there is no other one then.
    """
    os.waitpid(outer, 0)
    try:
        message = channel.recv(8192, socket.MSG_DONTWAIT)
    except BlockingIOError:
        message = b""
    report = json.loads(message or b"{}")
    if "pid" not in report:
        text = report.get("error", "the process was killed before it ran its program")
        raise StartError(text, report.get("code", 125))
    channel.send(_GO)
    return int(report["pid"])


@contextlib.contextmanager
def adopting(wanted: bool) -> Iterator[None]:
    """Be the parent of what children leave behind, for a moment; whether they are already is left as it is."""
    option = syscalls.PR_SET_CHILD_SUBREAPER
    before = syscalls.is_subreaper()
    if wanted and not before:
        syscalls.prctl(option, 1)
    try:
        yield
    finally:
        if wanted and not before:
            syscalls.prctl(option, 0)


def check(linux: dict[str, Any], path: str) -> None:
    """The mappings of a configuration that has a user namespace.

    Raises:
        ConfigError: they are missing, overlap, or leave out the container's root.
    """
    if os.geteuid() and path:
        raise ConfigError("linux.namespaces: an ordinary user cannot join a user namespace; leave its path out")
    given = [linux.get(key) or [] for key in ("uidMappings", "gidMappings")]
    if path:
        _check_joined(path, given)
        return
    for key, found in zip(("uidMappings", "gidMappings"), given, strict=True):
        if not found:
            raise ConfigError(f"linux.{key}: required for a new user namespace")
        idmap.check(found, f"linux.{key}")
        if not any(one["containerID"] == 0 for one in found):
            raise ConfigError(f"linux.{key}: the container's id 0 is not mapped; the runtime needs it")


def _check_joined(path: str, given: list[list[dict[str, int]]]) -> None:
    if not any(given):
        return
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise ConfigError(f"linux.namespaces: {path}: {(error.strerror or '').lower()}") from None
    try:
        if list(idmap.mappings_of(fd)) != given:
            raise ConfigError(f"linux.uidMappings: not those of the user namespace {path}; leave them out")
    finally:
        os.close(fd)
