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
_MOST_LINES = 340


def swap(first: int, second: int) -> list[dict[str, int]]:
    """``uidMappings`` that exchange two ids and leave all others as they are."""
    if first == second:
        return [{"containerID": 0, "hostID": 0, "size": _HIGHEST + 1}]
    low, high = sorted((first, second))
    ranges = [(low, high, 1), (high, low, 1)]
    ranges += [(start, start, end - start) for start, end in ((0, low), (low + 1, high), (high + 1, _HIGHEST + 1))]
    return [{"containerID": disk, "hostID": seen, "size": size} for disk, seen, size in sorted(ranges) if size]


def shift(base: int, size: int) -> list[dict[str, int]]:
    """``uidMappings`` of a range: 0 and what follows are ``base`` and what follows."""
    return [{"containerID": 0, "hostID": base, "size": size}]


def with_root(mappings: list[dict[str, int]]) -> list[dict[str, int]]:
    """The mappings, with the machine's root as an id above all inner ones unless it is there."""
    if any(one["hostID"] == 0 for one in mappings):
        return mappings
    above = max(one["containerID"] + one["size"] for one in mappings)
    return [*mappings, {"containerID": above, "hostID": 0, "size": 1}]


def outside(mappings: list[dict[str, int]], number: int) -> int:
    """What an id inside is outside.

    Raises:
        ConfigError: it is not mapped.
    """
    for one in mappings:
        if one["containerID"] <= number < one["containerID"] + one["size"]:
            return one["hostID"] + number - one["containerID"]
    raise ConfigError(f"id {number} is not mapped in the container's user namespace")


def check(mappings: list[dict[str, int]], where: str) -> None:
    """What the kernel would refuse without a word (user_namespaces(7), "uid_map").

    Raises:
        ConfigError: names the entry.
    """
    if len(mappings) > _MOST_LINES:
        raise ConfigError(f"{where}: {len(mappings)} entries; the kernel takes at most {_MOST_LINES}")
    for number, one in enumerate(mappings):
        if one["size"] < 1:
            raise ConfigError(f"{where}[{number}].size: 0 maps nothing; want 1 or more")
        for side in ("containerID", "hostID"):
            if one[side] + one["size"] - 1 > _HIGHEST:
                raise ConfigError(f"{where}[{number}]: {side} {one[side]} and size {one['size']} go beyond {_HIGHEST}")
            for before in mappings[:number]:
                if one[side] < before[side] + before["size"] and before[side] < one[side] + one["size"]:
                    raise ConfigError(f"{where}[{number}]: overlaps another entry's {side} range")


def apply(
    mount: int,
    uids: list[dict[str, Any]],
    gids: list[dict[str, Any]],
    *,
    namespace: int = -1,
    recursive: bool = True,
) -> None:
    """Map a detached mount's owners.

    Args:
        mount: its descriptor.
        uids, gids: OCI mappings.
        namespace: a user namespace that has them already; -1: make one.
        recursive: the mounts below it, too.

    Raises:
        ConfigError: the file system, or one mounted below it, cannot do it.
    """
    made = os.dup(namespace) if namespace >= 0 else user_namespace(lines(uids), lines(gids))
    try:
        syscalls.mount_idmap(mount, made, recursive=recursive)
    except OSError as error:
        raise ConfigError(
            f"its file system cannot map owners ({error.strerror}); ext4, xfs, btrfs and, from Linux 6.3, tmpfs can"
        ) from None
    finally:
        os.close(made)


def lines(mappings: list[dict[str, Any]]) -> bytes:
    """As uid_map and gid_map want it."""
    return "".join(f"{one['containerID']} {one['hostID']} {one['size']}\n" for one in mappings).encode()


def mappings_of(namespace: int) -> tuple[list[dict[str, int]], list[dict[str, int]]]:
    """Both mappings of a user namespace, as a process that enters it reads them.

    Raises:
        ConfigError: it cannot be entered.
    """
    said, say = os.pipe2(os.O_CLOEXEC)
    child = os.fork()
    if child == 0:
        try:
            syscalls.setns(namespace, syscalls.CLONE_NEWUSER)
            files = [os.open(f"/proc/self/{name}", os.O_RDONLY | os.O_CLOEXEC) for name in ("uid_map", "gid_map")]
            os.write(say, b"\0".join(os.read(fd, 16384) for fd in files))
        finally:
            os._exit(0)
    os.close(say)
    with open(said, "rb") as file:
        tables = file.read().split(b"\0")
    os.waitpid(child, 0)
    if len(tables) != 2 or not all(tables):
        raise ConfigError("linux.namespaces: the user namespace cannot be entered, or has no mappings yet")
    return _parsed(tables[0]), _parsed(tables[1])


def _parsed(table: bytes) -> list[dict[str, int]]:
    rows = [[int(word) for word in line.split()] for line in table.splitlines()]
    return [{"containerID": inside, "hostID": host, "size": size} for inside, host, size in rows]


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
            if os.geteuid():
                syscalls.prctl(syscalls.PR_SET_DUMPABLE, 1)  # else its files in /proc are root's
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
        if os.geteuid():
            _map_as_user(name, uid_map, gid_map)
            return os.open(b"/proc/" + name + b"/ns/user", os.O_RDONLY | os.O_CLOEXEC)
        for file, text in ((b"uid_map", uid_map), (b"gid_map", gid_map)):
            fd = os.open(b"/proc/" + name + b"/" + file, os.O_WRONLY | os.O_CLOEXEC)
            try:
                os.write(fd, text)
            except OSError as error:
                raise ConfigError(f"the kernel refuses the {file.decode()}: {error.strerror}") from None
            finally:
                os.close(fd)
        return os.open(b"/proc/" + name + b"/ns/user", os.O_RDONLY | os.O_CLOEXEC)
    finally:
        os.close(said)
        os.close(let_go)
        os.waitpid(child, 0)


def _map_as_user(pid: bytes, uid_map: bytes, gid_map: bytes) -> None:
    """What an ordinary user may map: the own ids without help; more of /etc/subuid's by newuidmap(1).

    Without help nobody in there may change groups: a group that shuts a user out would be got rid of (setgroups(2)).
    """
    own = uid_map.split()[1:] == [b"%d" % os.geteuid(), b"1"] and gid_map.split()[1:] == [b"%d" % os.getegid(), b"1"]
    if own:
        texts = ((b"setgroups", b"deny"), (b"uid_map", uid_map), (b"gid_map", gid_map))
        for file, text in texts:
            fd = os.open(b"/proc/" + pid + b"/" + file, os.O_WRONLY | os.O_CLOEXEC)
            try:
                os.write(fd, text)
            finally:
                os.close(fd)
        return
    for program, text in ((b"newuidmap", uid_map), (b"newgidmap", gid_map)):
        try:
            helper = os.posix_spawnp(program, [program, pid, *text.split()], os.environ)
        except OSError as error:
            raise ConfigError(
                f"{program.decode()}: {error.strerror}; install the package uidmap, or map your own ids alone"
            ) from None
        if os.waitpid(helper, 0)[1]:
            raise ConfigError(f"{program.decode()} refuses the mappings; see /etc/subuid and /etc/subgid")
