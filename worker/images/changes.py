"""A layer's entries carried out in the current root directory, which is the image as it is so far.

The rules are those of the OCI image specification (layer.md): an entry replaces what has its name, a directory keeps
its content; ``.wh.NAME`` takes NAME of the layers below away, ``.wh..wh..opq`` everything in its directory. What this
layer brings itself stays, wherever the whiteout stands. Directories get their times last.

The caller has made the root: names are resolved by the kernel and cannot lead out of it.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable

from pycompose.worker.images import limits
from pycompose.worker.images.tarstream import (
    BLOCKDEV,
    CHARACTER,
    DIRECTORY,
    FIFO,
    FILE,
    HARDLINK,
    SYMLINK,
    Entry,
)

WHITEOUT, OPAQUE, AUFS = b".wh.", b".wh..wh..opq", b".wh..wh."
NAME_BYTES, PATH_BYTES = 255, 4096
#: chown(2) takes the largest number to mean "leave it".
LARGEST_ID = (1 << 32) - 2
#: Linux's dev_t: 12 bits and 20 bits (makedev(3)).
LARGEST_MAJOR, LARGEST_MINOR = (1 << 12) - 1, (1 << 20) - 1
EARLIEST, LATEST = -(1 << 31) * 1_000_000_000, ((1 << 34) - 1) * 1_000_000_000
DISK_CHECK = 16 << 20
Data = Callable[[int], memoryview]


class Refused(Exception):
    """The layer is not acceptable; the message says why."""


class DiskFull(Exception):
    """The file system has no room for the layer."""


def clean(name: bytes) -> list[bytes]:
    """Return the components of a name below the root: "/a/./b/../c/" is a, c. Raises Refused."""
    if len(name) > PATH_BYTES:
        raise Refused(f"entry {shown(name)} has a path of more than {PATH_BYTES} bytes")
    parts: list[bytes] = []
    for part in name.split(b"/"):
        if part == b"..":
            del parts[-1:]
        elif part not in (b"", b"."):
            parts.append(part)
    for part in parts:
        if len(part.removeprefix(WHITEOUT)) > NAME_BYTES:
            raise Refused(f"entry {shown(name)} has a name of more than {NAME_BYTES} bytes")
    return parts


def shown(name: bytes) -> str:
    """Return a name for a message."""
    return repr(name[:80].decode("utf-8", "backslashreplace"))


class Changes:
    """One layer.

    Args:
        limit: bytes that all files together may have, holes included.
        layered: whether there are layers below, so that whiteouts mean something.
        devices: whether device files can be made; in a user namespace nobody can (mknod(2)), and they are left out.
    """

    def __init__(self, limit: int, *, layered: bool, devices: bool = True) -> None:
        self.bytes = self.entries = 0
        self._limit, self._layered, self._devices = limit, layered, devices
        self._checked = 0
        #: Times to give directories at the end: from their entry, or as they were before this layer changed them.
        self._times: dict[bytes, int] = {}
        #: Hashes of the paths that this layer brought, by their real directory; only where whiteouts could hit them.
        self._made: set[int] = set()
        self._real: dict[bytes, bytes] = {}

    def apply(self, entry: Entry, data: Data) -> None:
        """Carry out one entry. Raises Refused, DiskFull, OSError."""
        self.entries += 1
        self.bytes += entry.size
        if self.entries > limits.LAYER_ENTRIES:
            raise Refused(f"it has more than {limits.LAYER_ENTRIES:,} entries")
        if self.bytes > self._limit:
            raise Refused(f"it unpacks to more than {self._limit:,} bytes, too much for its size")
        self._check_disk(entry)
        parts = clean(entry.name)
        if not parts:
            if entry.kind == DIRECTORY:
                self._attributes(b"/", entry)
            return  # nothing but a directory can be the root
        folder, base = b"/" + b"/".join(parts[:-1]), parts[-1]
        if base.startswith(WHITEOUT):
            self._whiteout(folder, base, at_root=len(parts) == 1)
            return
        _check(entry)
        path = b"/" + b"/".join(parts)
        self._remember(folder)
        try:
            self._make(path, entry, data)
        except (FileNotFoundError, NotADirectoryError):
            self._parents(parts)
            self._replace(path, entry, data)
        except FileExistsError:
            self._replace(path, entry, data)
        if self._layered:
            self._made.add(self._key(folder, base))

    def finish(self) -> None:
        """Give directories their times."""
        for path, mtime in self._times.items():
            try:
                os.utime(path, ns=(mtime, mtime), follow_symlinks=False)
            except (FileNotFoundError, NotADirectoryError):
                continue  # a later entry took it away

    # Making.

    def _make(self, path: bytes, entry: Entry, data: Data) -> None:
        if entry.kind == FILE:
            self._file(path, entry, data)
            return
        if entry.kind == HARDLINK:
            self._link(path, entry)
            return
        if entry.kind == SYMLINK:
            os.symlink(entry.link, path)
        elif entry.kind == DIRECTORY:
            os.mkdir(path, 0o700)
        elif entry.kind == FIFO:
            os.mkfifo(path, 0o600)
        elif not self._devices:
            return
        else:
            kind = stat.S_IFCHR if entry.kind == CHARACTER else stat.S_IFBLK
            os.mknod(path, kind | 0o600, os.makedev(entry.major, entry.minor))
        self._attributes(path, entry)

    def _replace(self, path: bytes, entry: Entry, data: Data) -> None:
        """Make an entry where something may be; a directory stays for a directory."""
        try:
            is_directory = stat.S_ISDIR(os.lstat(path).st_mode)
        except FileNotFoundError:
            self._make(path, entry, data)
            return
        if is_directory and entry.kind == DIRECTORY:
            self._attributes(path, entry)
            return
        if entry.kind == HARDLINK and _same(path, _target(entry)):
            return  # linked to itself: it is there
        remove(path)
        self._real.clear()
        self._make(path, entry, data)

    def _file(self, path: bytes, entry: Entry, data: Data) -> None:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        descriptor = os.open(path, flags, 0o600)
        try:
            if entry.sparse is None:
                while piece := data(1 << 20):
                    _write(descriptor, piece)
            else:
                for offset, length in entry.sparse:
                    os.lseek(descriptor, offset, os.SEEK_SET)
                    left = length
                    while left and (piece := data(min(left, 1 << 20))):
                        _write(descriptor, piece)
                        left -= len(piece)
                os.ftruncate(descriptor, entry.size)
            os.fchown(descriptor, entry.uid, entry.gid)
            os.fchmod(descriptor, entry.mode)
            for name, value in entry.xattrs.items():
                _set_attribute(descriptor, path, name, value)
            mtime = min(max(entry.mtime_ns, EARLIEST), LATEST)
            os.utime(descriptor, ns=(mtime, mtime))
        finally:
            os.close(descriptor)

    def _link(self, path: bytes, entry: Entry) -> None:
        target = _target(entry)
        try:
            os.link(target, path, follow_symlinks=False)
        except FileNotFoundError:
            if os.path.lexists(target):
                raise  # it is the directory above that is missing
            raise Refused(
                f"entry {shown(entry.name)} is a hard link to {shown(entry.link)}, which is not there"
            ) from None
        except PermissionError:
            raise Refused(f"entry {shown(entry.name)} is a hard link to a directory") from None

    def _attributes(self, path: bytes, entry: Entry) -> None:
        """Set owner, mode, extended attributes and time of anything but a regular file."""
        os.chown(path, entry.uid, entry.gid, follow_symlinks=False)
        if entry.kind != SYMLINK:
            os.chmod(path, entry.mode)
        for name, value in entry.xattrs.items():
            _set_attribute(path, path, name, value)
        mtime = min(max(entry.mtime_ns, EARLIEST), LATEST)
        if entry.kind == DIRECTORY:
            self._times[path] = mtime
        else:
            os.utime(path, ns=(mtime, mtime), follow_symlinks=False)

    def _parents(self, parts: list[bytes]) -> None:
        """Make the directories above an entry; a link on the way is followed, what is no directory gives way."""
        path = b""
        for part in parts[:-1]:
            path += b"/" + part
            try:
                os.mkdir(path, 0o755)
            except FileExistsError:
                if os.path.isdir(path):
                    continue
                if os.path.islink(path):
                    try:
                        os.makedirs(os.path.realpath(path), 0o755, exist_ok=True)
                    except OSError as error:
                        raise Refused(f"{shown(path)} is a link that leads nowhere: {error.strerror}") from None
                else:
                    remove(path)
                    os.mkdir(path, 0o755)
                self._real.clear()

    # Taking away.

    def _whiteout(self, folder: bytes, base: bytes, *, at_root: bool) -> None:
        if base == OPAQUE:
            if self._layered and os.path.isdir(folder):
                self._remember(folder)
                self._hide_content(self._where(folder))
            return
        if at_root and base.startswith(AUFS):
            return  # AUFS's own bookkeeping, in images of old
        name = base.removeprefix(WHITEOUT)
        if name in (b"", b".", b".."):
            raise Refused(f"entry {shown(base)} takes away nothing that could be")
        if self._layered and os.path.isdir(folder):
            self._remember(folder)
            self._hide(self._where(folder), name)

    def _hide(self, folder: bytes, name: bytes) -> None:
        """Take away what the layers below have under a name."""
        path = folder.rstrip(b"/") + b"/" + name
        try:
            mode = os.lstat(path).st_mode
        except FileNotFoundError:
            return
        mine = hash((folder, name)) in self._made
        if not stat.S_ISDIR(mode):
            if not mine:
                os.unlink(path)
            return
        self._hide_content(path)
        if not mine:
            try:
                os.rmdir(path)
            except OSError as error:
                if error.errno != errno.ENOTEMPTY:  # something of this layer is in it
                    raise
        self._real.clear()

    def _hide_content(self, folder: bytes) -> None:
        for name in os.listdir(folder):
            self._hide(folder, name)

    def _remember(self, folder: bytes) -> None:
        """Keep the time of a directory of the layers below, before this one changes what is in it."""
        if not self._layered:
            return
        real = self._where(folder)
        if real not in self._times:
            try:
                self._times[real] = os.lstat(real).st_mtime_ns
            except (FileNotFoundError, NotADirectoryError):
                return  # it is made in a moment

    def _where(self, folder: bytes) -> bytes:
        """Return the real path of a directory."""
        found = self._real.get(folder)
        if found is None:
            if len(self._real) > 10_000:
                self._real.clear()
            found = self._real[folder] = os.path.realpath(folder)
        return found

    def _key(self, folder: bytes, base: bytes) -> int:
        return hash((self._where(folder), base))

    def _check_disk(self, entry: Entry) -> None:
        """Look now and then, and before a large file, whether the file system has room."""
        stored = entry.size if entry.sparse is None else sum(length for _, length in entry.sparse)
        self._checked += stored + 4096
        if self._checked >= DISK_CHECK or self.entries == 1:
            self._checked = 0
            if limits.room("/") < stored:
                raise DiskFull("no room on the disk")


def _check(entry: Entry) -> None:
    """Refuse what no image needs. Raises Refused."""
    name = shown(entry.name)
    if entry.uid > LARGEST_ID or entry.gid > LARGEST_ID:
        raise Refused(f"entry {name} belongs to {entry.uid}:{entry.gid}, and ids end at {LARGEST_ID}")
    if entry.kind in (CHARACTER, BLOCKDEV):
        if entry.major > LARGEST_MAJOR or entry.minor > LARGEST_MINOR:
            raise Refused(f"entry {name} is a device with the impossible number {entry.major}:{entry.minor}")
        if entry.kind == CHARACTER and entry.major == entry.minor == 0:
            raise Refused(f"entry {name} is a device 0:0, which overlayfs takes for a whiteout; use .wh. files")
    if entry.kind == SYMLINK and not 0 < len(entry.link) < PATH_BYTES:
        raise Refused(f"entry {name} is a symbolic link with an empty or endless target")
    for key in entry.xattrs:
        if key.startswith((b"trusted.overlay.", b"user.overlay.")):
            raise Refused(f"entry {name} sets {shown(key)}, which belongs to overlayfs")


def _set_attribute(where: int | bytes, path: bytes, name: bytes, value: bytes) -> None:
    try:
        if isinstance(where, int):
            os.setxattr(where, name, value)
        else:
            os.setxattr(where, name, value, follow_symlinks=False)
    except OSError as error:
        # not every file system and kind of file has every attribute (xattr(7))
        if error.errno not in (errno.ENOTSUP, errno.EPERM):
            raise Refused(f"{shown(path)}: attribute {shown(name)} cannot be set: {error.strerror}") from None


def _target(entry: Entry) -> bytes:
    return b"/" + b"/".join(clean(entry.link))


def _same(path: bytes, target: bytes) -> bool:
    try:
        first, second = os.lstat(path), os.lstat(target)
    except OSError:
        return False
    return (first.st_dev, first.st_ino) == (second.st_dev, second.st_ino)


def _write(descriptor: int, piece: memoryview) -> None:
    while piece:
        piece = piece[os.write(descriptor, piece) :]


def remove(path: bytes) -> None:
    """Remove a file, or a directory with everything in it."""
    if not stat.S_ISDIR(os.lstat(path).st_mode):
        os.unlink(path)
        return
    for name in os.listdir(path):
        remove(path + b"/" + name)
    os.rmdir(path)
