"""Mounts that show owners by other numbers (mount_setattr(2) "ID-mapped mounts").

The mapping is a user namespace's: the number on disk is the one inside of it, the number that is seen the one outside.
Source: user_namespaces(7), OCI runtime-spec config.md "Mounts" (``uidMappings``: containerID on disk, hostID seen).
"""

from __future__ import annotations

import os

from pycompose.worker.runtime import syscalls
from pycompose.worker.runtime.errors import ConfigError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_HIGHEST = (1 << 32) - 2


def swap(first: int, second: int) -> list[dict[str, int]]:
    """``uidMappings`` that exchange two ids and leave all others as they are."""
    if first == second:
        return [{"containerID": 0, "hostID": 0, "size": _HIGHEST + 1}]
    low, high = sorted((first, second))
    ranges = [(low, high, 1), (high, low, 1)]
    ranges += [(start, start, end - start) for start, end in ((0, low), (low + 1, high), (high + 1, _HIGHEST + 1))]
    return [{"containerID": disk, "hostID": seen, "size": size} for disk, seen, size in sorted(ranges) if size]


def apply(mount: int, uids: list[dict[str, Any]], gids: list[dict[str, Any]]) -> None:
    """Map a detached mount's owners.

    Raises:
        ConfigError: the file system, or one mounted below it, cannot do it.
    """
    namespace = user_namespace(_lines(uids), _lines(gids))
    try:
        syscalls.mount_idmap(mount, namespace)
    except OSError as error:
        raise ConfigError(f"its file system cannot map owners: {error.strerror}") from None
    finally:
        os.close(namespace)


def _lines(mappings: list[dict[str, Any]]) -> bytes:
    return "".join(f"{one['containerID']} {one['hostID']} {one['size']}\n" for one in mappings).encode()


def user_namespace(uid_map: bytes, gid_map: bytes) -> int:
    """Descriptor of a new user namespace with these maps (user_namespaces(7), "uid_map").

    A child makes it and waits; its parent, which has the rights, writes the maps. /proc may be of another pid
    namespace than ours, so the child says itself what it is called there.
    """
    said, say = os.pipe2(os.O_CLOEXEC)
    waits, let_go = os.pipe2(os.O_CLOEXEC)
    child = os.fork()
    if child == 0:
        try:
            os.close(let_go)
            syscalls.unshare(syscalls.CLONE_NEWUSER)
            os.write(say, os.readlink(b"/proc/self"))
            os.close(say)
            os.read(waits, 1)
        finally:
            os._exit(0)
    os.close(say)
    os.close(waits)
    try:
        name = os.read(said, 32)
        if not name:
            raise ConfigError("the kernel gives no user namespace (see /proc/sys/user/max_user_namespaces)")
        for file, text in ((b"uid_map", uid_map), (b"gid_map", gid_map)):
            fd = os.open(b"/proc/" + name + b"/" + file, os.O_WRONLY | os.O_CLOEXEC)
            try:
                os.write(fd, text)
            finally:
                os.close(fd)
        return os.open(b"/proc/" + name + b"/ns/user", os.O_RDONLY | os.O_CLOEXEC)
    finally:
        os.close(said)
        os.close(let_go)
        os.waitpid(child, 0)
