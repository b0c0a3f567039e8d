"""Mounts of a container, made detached and attached by descriptor.

Every file system is configured with fsopen(2)/fsconfig(2)/fsmount(2), or copied with
open_tree(2), while it is attached nowhere; move_mount(2) then puts it over a descriptor that
openat2(2) found inside the container's root. No path of the container is ever resolved by the
kernel against the host's root, so a symbolic link in an image leads nowhere.

Source: mount_setattr(2), OCI runtime-spec config.md "Mounts".
"""

from __future__ import annotations

import contextlib
import errno
import os

from pycompose.worker.runtime import idmap, owning, paths, syscalls
from pycompose.worker.runtime.errors import ConfigError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

RDONLY, NOSUID, NODEV, NOEXEC = 0x1, 0x2, 0x4, 0x8
ATIME_MASK, NOATIME, STRICTATIME, NODIRATIME, NOSYMFOLLOW = 0x70, 0x10, 0x20, 0x80, 0x200000
PAGE = 4096
MS_UNBINDABLE, MS_PRIVATE, MS_SLAVE, MS_SHARED = 1 << 17, 1 << 18, 1 << 19, 1 << 20

#: option -> (attributes to set, attributes to clear)
ATTRIBUTES: dict[str, tuple[int, int]] = {
    "ro": (RDONLY, 0),
    "rw": (0, RDONLY),
    "nosuid": (NOSUID, 0),
    "suid": (0, NOSUID),
    "nodev": (NODEV, 0),
    "dev": (0, NODEV),
    "noexec": (NOEXEC, 0),
    "exec": (0, NOEXEC),
    "noatime": (NOATIME, ATIME_MASK),
    "relatime": (0, ATIME_MASK),
    "strictatime": (STRICTATIME, ATIME_MASK),
    "nodiratime": (NODIRATIME, 0),
    "diratime": (0, NODIRATIME),
    "nosymfollow": (NOSYMFOLLOW, 0),
    "symfollow": (0, NOSYMFOLLOW),
}
PROPAGATION: dict[str, tuple[int, bool]] = {
    "private": (MS_PRIVATE, False),
    "rprivate": (MS_PRIVATE, True),
    "slave": (MS_SLAVE, False),
    "rslave": (MS_SLAVE, True),
    "shared": (MS_SHARED, False),
    "rshared": (MS_SHARED, True),
    "unbindable": (MS_UNBINDABLE, False),
    "runbindable": (MS_UNBINDABLE, True),
}


class MountOptions:
    """An OCI mount's option list, sorted into what the kernel wants to hear where.

    ``recursive`` holds the attributes that apply to a whole tree (``rro``, ``rnosuid``, ...). ``idmap`` is "idmap",
    "ridmap" (with the mounts below it) or "".
    """

    __slots__ = ("bind", "clear", "data", "idmap", "propagation", "rbind", "recursive_clear", "recursive_set", "set")

    def __init__(self, options: list[str]) -> None:
        self.set = self.clear = self.recursive_set = self.recursive_clear = 0
        self.bind = self.rbind = False
        self.idmap = ""
        self.propagation: tuple[int, bool] | None = None
        self.data: list[tuple[str, str | None]] = []
        for option in options:
            self._take(option)

    def _take(self, option: str) -> None:
        if option in ATTRIBUTES:
            adds, removes = ATTRIBUTES[option]
            self.set = self.set & ~removes | adds
            self.clear = self.clear & ~adds | removes
        elif option in PROPAGATION:
            self.propagation = PROPAGATION[option]
        elif option in ("bind", "rbind"):
            self.bind, self.rbind = True, option == "rbind"
        elif option.startswith("r") and option[1:] in ATTRIBUTES and option != "rw":
            adds, removes = ATTRIBUTES[option[1:]]
            self.recursive_set |= adds
            self.recursive_clear |= removes
        elif option in ("idmap", "ridmap"):
            self.idmap = option
        elif option not in ("defaults", "async", "remount", ""):
            key, equals, value = option.partition("=")
            self.data.append((key, value if equals else None))


def new_filesystem(kind: str, source: str, data: list[tuple[str, str | None]], attributes: int = 0) -> int:
    """A detached mount of a new file system instance; the caller closes the descriptor.

    Raises:
        ConfigError: the kernel has no file system of this name.
        OSError: it refuses the source or an option.
    """
    try:
        context = syscalls.fsopen(kind.encode())
    except OSError as error:
        if error.errno != errno.ENODEV:
            raise
        raise ConfigError(f"the kernel has no file system {kind!r} (see /proc/filesystems)") from None
    try:
        if source:
            syscalls.fsconfig(context, b"source", source.encode())
        for key, value in data:
            syscalls.fsconfig(context, key.encode(), None if value is None else value.encode())
        syscalls.fscreate(context)
        return syscalls.fsmount(context, attributes)
    finally:
        os.close(context)


def layered(kind: str, data: list[tuple[str, str | None]]) -> list[tuple[str, str | None]]:
    """Overlay's ``lowerdir`` as one option a layer: fsconfig(2) takes at most 256 bytes at once (Linux 6.5)."""
    found: list[tuple[str, str | None]] = []
    for key, value in data:
        if kind == "overlay" and key == "lowerdir" and value and len(value) > 255:
            found += [("lowerdir+", layer) for layer in value.split(":")]
        else:
            found.append((key, value))
    return found


def clone(source: bytes, options: MountOptions, directory: int = syscalls.AT_FDCWD) -> int:
    """A detached copy of the mount at ``source`` (a bind), with the options applied."""
    tree = syscalls.open_tree(directory, source, recursive=options.rbind)
    try:
        if options.set or options.clear:
            syscalls.mount_setattr(tree, set_=options.set, clear=options.clear)
    except OSError:
        os.close(tree)
        raise
    return tree


def finish(mount: int, options: MountOptions) -> None:
    """Recursive attributes and propagation of a mount that is made, attached or not."""
    if options.recursive_set or options.recursive_clear:
        syscalls.mount_setattr(mount, set_=options.recursive_set, clear=options.recursive_clear, recursive=True)
    if options.propagation:
        kind, recursive = options.propagation
        syscalls.mount_setattr(mount, propagation=kind, recursive=recursive)


def overlay(rootfs: dict[str, Any], mountpoint: str, users: int = -1) -> int:
    """The container's root as a detached mount: an overlay, or a copy of the only read-only layer.

    Args:
        rootfs: ``lower`` (paths, topmost first), ``upper`` and ``work`` (path or None).
        mountpoint: an empty directory of the machine, which nobody else looks at from this mount namespace; used for
            a moment where layers are id-mapped, or the kernel is older than 6.5.
        users: a user namespace by which the layers' owners are mapped: their numbers on the disk are those inside of
            it; -1: none.
    """
    lower: list[str] = rootfs["lower"]
    if not rootfs.get("upper") and len(lower) == 1:
        made = clone(lower[0].encode(), MountOptions(["rbind", "ro"] if rootfs.get("readonly") else ["rbind"]))
        if users >= 0:
            idmap.apply(made, [], [], namespace=users)
        return made
    if users < 0:
        return _layers(lower, rootfs.get("upper"), rootfs.get("work"), mountpoint)
    with scratch(mountpoint) as place:
        mapped = [_mapped(layer, place, f"{mountpoint}/{number}", users) for number, layer in enumerate(lower)]
        upper, work = rootfs.get("upper"), rootfs.get("work")
        if upper and work:  # both on one mount, as overlay wants it
            above = os.path.commonpath((upper, work))
            there = _mapped(above, place, f"{mountpoint}/above", users)
            upper, work = (there + path.removeprefix(above) for path in (upper, work))
        return _layers(mapped, upper, work, mountpoint)


def _layers(lower: list[str], upper: str | None, work: str | None, mountpoint: str) -> int:
    places: list[tuple[str, str | None]] = [
        (f"{name}dir", path) for name, path in (("upper", upper), ("work", work)) if path
    ]
    if os.geteuid() == 0 and not owning.machines_root():  # a user namespace's marks are not trusted.overlay.*
        places.append(("userxattr", None))
    try:  # one option per layer: no limit of 256 bytes for all of them together (Linux 6.5)
        return new_filesystem("overlay", "overlay", [("lowerdir+", layer) for layer in lower] + places)
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
    return _overlay_by_path([("lowerdir", ":".join(map(_escape, lower))), *places], mountpoint.encode())


def _mapped(source: str, scratch: int, point: str, users: int) -> str:
    """Attach an id-mapped copy of ``source`` at ``point``, a path of the scratch directory; returns the path."""
    made = clone(source.encode(), MountOptions(["bind"]))
    try:
        idmap.apply(made, [], [], namespace=users, recursive=False)
        name = os.path.basename(point)
        os.mkdir(name, dir_fd=scratch)
        place = os.open(name, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=scratch)
        syscalls.move_mount(made, place)
        os.close(place)
    finally:
        os.close(made)
    return point


@contextlib.contextmanager
def scratch(mountpoint: str) -> Iterator[int]:
    """A file system in memory at an empty directory of the machine, for a moment; gives its descriptor.

    What is copied from it (open_tree(2)) outlives it.
    """
    made = new_filesystem("tmpfs", "tmpfs", [("mode", "700")], NOSUID | NOEXEC)
    try:
        place = os.open(mountpoint, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        syscalls.move_mount(made, place)
        os.close(place)
        try:
            yield made
        finally:
            syscalls.umount(mountpoint.encode(), syscalls.MNT_DETACH)
    finally:
        os.close(made)


def _overlay_by_path(options: list[tuple[str, str | None]], mountpoint: bytes) -> int:
    """By mount(2), whose options may fill one page, and a detached copy of what it made."""
    data = ",".join(key if value is None else f"{key}={value}" for key, value in options).encode()
    if len(data) >= PAGE:
        raise OSError(errno.E2BIG, "more layers than a kernel older than 6.5 can mount")
    syscalls.mount(b"overlay", mountpoint, b"overlay", 0, data)
    try:
        return syscalls.open_tree(syscalls.AT_FDCWD, mountpoint)
    finally:
        syscalls.umount(mountpoint, syscalls.MNT_DETACH)


def _escape(path: str) -> str:
    return path.replace("\\", "\\\\").replace(":", "\\:")


#: Files of /proc that may be replaced, as by lxcfs: what they say about the machine decides nothing.
REPLACEABLE = frozenset(
    b"/proc/" + name
    for name in (b"cpuinfo", b"diskstats", b"loadavg", b"meminfo", b"slabinfo", b"stat", b"swaps", b"uptime")
)
PROC_SUPER_MAGIC = 0x9FA0


def mount_over(root: int, mount: int, path: bytes) -> None:
    """Attach a detached mount at ``path`` of the container, making the mount point where it is missing.

    Raises:
        ConfigError: it would take the place of procfs, which the runtime and the program trust (CVE-2023-28642), or of
            the root, where it would lie below what was mounted before.
    """
    name = os.path.normpath(b"/" + path.lstrip(b"/"))
    allowed = syscalls.filesystem_type(mount) == PROC_SUPER_MAGIC or name in REPLACEABLE
    if not allowed and (name == b"/proc" or name.startswith(b"/proc/")):
        raise _over_proc(path)
    target = paths.make_target(root, path, directory=paths.is_directory(mount))
    try:
        if not allowed and syscalls.filesystem_type(target) == PROC_SUPER_MAGIC:
            raise _over_proc(path)
        if os.path.sameopenfile(target, root):
            raise ConfigError(
                f"{path.decode('utf-8', 'replace') or 'an empty path'}: the root itself; name a path below it"
            )
        syscalls.move_mount(mount, target)
    finally:
        os.close(target)


def _over_proc(path: bytes) -> ConfigError:
    return ConfigError(f"{path.decode('utf-8', 'replace')}: nothing but procfs may be mounted on or below /proc")


def mask(root: int, path: bytes) -> None:
    """Hide ``path``: an empty read-only directory or /dev/null over it; nothing where it does not exist."""
    try:
        target = paths.open_in_root(root, path)
    except (FileNotFoundError, NotADirectoryError):
        return
    try:
        if paths.is_directory(target):
            cover = new_filesystem(
                "tmpfs", "tmpfs", [("size", "0"), ("nr_inodes", "2")], RDONLY | NOSUID | NODEV | NOEXEC
            )
        else:
            cover = clone(b"/dev/null", MountOptions(["bind"]))
        try:
            syscalls.move_mount(cover, target)
        finally:
            os.close(cover)
    finally:
        os.close(target)


def make_readonly(root: int, path: bytes) -> None:
    """Put a read-only copy of ``path`` over itself; nothing where it does not exist."""
    try:
        target = paths.open_in_root(root, path)
    except (FileNotFoundError, NotADirectoryError):
        return
    try:
        cover = clone(b"", MountOptions(["rbind"]), target)
        try:
            syscalls.mount_setattr(cover, set_=RDONLY)
            syscalls.move_mount(cover, target)
        finally:
            os.close(cover)
    finally:
        os.close(target)


def pivot(root: int) -> None:
    """Make ``root`` the root of this mount namespace and forget the old one (pivot_root(2), "pivot_root(".", ".")")."""
    os.fchdir(root)
    syscalls.pivot_root(b".", b".")
    syscalls.umount(b".", syscalls.MNT_DETACH)
    os.chdir(b"/")
