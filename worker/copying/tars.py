"""Tar streams of a container's files, written and read inside its root.

Names of owners are never looked up, and nothing is imported on the way: see `program`.
"""

from __future__ import annotations

import encodings.idna  # noqa: F401
import errno
import os
import stat
import tarfile
from typing import BinaryIO

from pycompose.worker.runtime import owning

CHUNK = 1 << 20
WHITEOUT, OPAQUE = ".wh.", ".wh..wh..opq"
_XATTRS = ("security.capability", "user.")
#: Where overlayfs keeps its marks: option userxattr has them in a user namespace.
_MARKS = "trusted.overlay." if owning.machines_root() else "user.overlay."


class Failed(Exception):
    """The request cannot be carried out; `code` is gRPC's name of why."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


def look_nothing_up() -> None:
    """Load what would be looked up later: that would be in the root which the process is going to enter.

    Codecs are loaded at their first use; names of owners are never asked for.
    """
    tarfile.pwd = tarfile.grp = None  # type: ignore[attr-defined]
    "".encode("utf-8", "surrogateescape"), b"".decode("iso8859-1"), "".encode("ascii"), "".encode("idna")


def parts_of(name: str) -> list[str]:
    """Return the components of an entry's name. Raises Failed when one leads upwards."""
    parts = [part for part in name.split("/") if part not in ("", ".")]
    if ".." in parts:
        raise Failed("INVALID_ARGUMENT", f"the entry {name[:80]!r} of the tar stream leads out of the folder")
    return parts


class Packer:
    """Writes a tar of what is in the root.

    Args:
        skip: absolute paths that are left out.
        device: st_dev of the only file system to descend into; None: all.
        latest: the time that no entry's may pass, in seconds since the epoch; None: any.
    """

    def __init__(
        self,
        output: BinaryIO,
        skip: frozenset[str] = frozenset(),
        device: int | None = None,
        latest: int | None = None,
    ) -> None:
        self._output, self._skip, self._device, self._latest = output, skip, device, latest
        self._links: dict[tuple[int, int], str] = {}

    def run(self, path: str, name: str) -> None:
        """Write `path` under the name `name`."""
        with tarfile.open(fileobj=self._output, mode="w|", format=tarfile.PAX_FORMAT) as archive:
            self._add(archive, path, name)

    def _add(self, archive: tarfile.TarFile, path: str, name: str) -> None:
        if path in self._skip:
            return
        try:
            found = os.lstat(path)
        except FileNotFoundError:  # it went while we came
            return
        mode = found.st_mode
        if stat.S_ISSOCK(mode):
            return
        if stat.S_ISCHR(mode) and found.st_rdev == 0 and self._whiteout(archive, name):
            return
        entry = self._entry(path, name, found)
        if entry.isreg():
            self._file(archive, path, entry)
        else:
            archive.addfile(entry)
        archive.members = []  # type: ignore[attr-defined]
        if stat.S_ISDIR(mode) and (self._device is None or found.st_dev == self._device):
            self._inside(archive, path, name)
            for below in sorted(os.listdir(path)):
                self._add(archive, f"{path.rstrip('/')}/{below}", f"{name}/{below}" if name != "." else below)

    def _whiteout(self, archive: tarfile.TarFile, name: str) -> bool:
        return False

    def _inside(self, archive: tarfile.TarFile, path: str, name: str) -> None:
        return

    def _entry(self, path: str, name: str, found: os.stat_result) -> tarfile.TarInfo:
        entry = tarfile.TarInfo(name)
        headers: dict[str, str] = {}
        entry.pax_headers = headers
        mode = found.st_mode
        entry.mode, entry.uid, entry.gid = stat.S_IMODE(mode), found.st_uid, found.st_gid
        when = found.st_mtime_ns
        if self._latest is not None:
            when = min(when, self._latest * 10**9)
        entry.mtime = when // 10**9
        if when % 10**9:
            headers["mtime"] = f"{when // 10**9}.{when % 10**9:09d}"
        known = (found.st_dev, found.st_ino)
        if stat.S_ISDIR(mode):
            entry.type = tarfile.DIRTYPE
        elif stat.S_ISLNK(mode):
            entry.type, entry.linkname = tarfile.SYMTYPE, os.readlink(path)
        elif found.st_nlink > 1 and known in self._links:
            entry.type, entry.linkname = tarfile.LNKTYPE, self._links[known]
        elif stat.S_ISREG(mode):
            entry.size = found.st_size
            self._links[known] = name
        elif stat.S_ISFIFO(mode):
            entry.type = tarfile.FIFOTYPE
        else:
            entry.type = tarfile.CHRTYPE if stat.S_ISCHR(mode) else tarfile.BLKTYPE
            entry.devmajor, entry.devminor = os.major(found.st_rdev), os.minor(found.st_rdev)
        if not stat.S_ISLNK(mode):
            self._attributes(path, headers)
        return entry

    @staticmethod
    def _attributes(path: str, headers: dict[str, str]) -> None:
        try:
            names = os.listxattr(path, follow_symlinks=False)
        except OSError:
            return
        for name in names:
            if name.startswith(_XATTRS) and not name.startswith(_MARKS):
                value = os.getxattr(path, name, follow_symlinks=False)
                headers[f"SCHILY.xattr.{name}"] = value.decode("utf-8", "surrogateescape")

    @staticmethod
    def _file(archive: tarfile.TarFile, path: str, entry: tarfile.TarInfo) -> None:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        with os.fdopen(descriptor, "rb") as file:
            if stat.S_ISREG(os.fstat(descriptor).st_mode):
                archive.addfile(entry, _Exactly(file, entry.size))


class _Exactly:
    """A file of exactly `size` bytes, whatever happens to it meanwhile."""

    def __init__(self, file: BinaryIO, size: int) -> None:
        self._file, self._left = file, size

    def read(self, size: int = -1, /) -> bytes:
        size = self._left if size < 0 else min(size, self._left)
        data = self._file.read(size)
        data += b"\0" * (size - len(data))
        self._left -= size
        return data


class LayerPacker(Packer):
    """Writes an overlay's upper directory as an image's layer (OCI image-spec, layer.md: whiteouts)."""

    def _whiteout(self, archive: tarfile.TarFile, name: str) -> bool:
        folder, _, last = name.rpartition("/")
        archive.addfile(tarfile.TarInfo(f"{folder}/{WHITEOUT}{last}" if folder else WHITEOUT + last))
        return True

    def _inside(self, archive: tarfile.TarFile, path: str, name: str) -> None:
        if opaque(path):
            archive.addfile(tarfile.TarInfo(f"{name}/{OPAQUE}" if name != "." else OPAQUE))


def opaque(path: str) -> bool:
    """Return whether a directory of an upper layer hides what is below it (kernel: overlayfs.rst)."""
    try:
        return os.getxattr(path, f"{_MARKS}opaque", follow_symlinks=False) == b"y"
    except OSError:
        return False


class Receiver:
    """Unpacks a tar below the current directory.

    Args:
        owner: uid and gid of everything; None: as the stream says.
    """

    def __init__(self, owner: tuple[int, int] | None) -> None:
        self._owner = owner
        self._times: list[tuple[str, float]] = []

    def run(self, stream: BinaryIO) -> None:
        """Unpack."""
        with tarfile.open(fileobj=stream, mode="r|") as tar:
            for member in tar:
                self._take(tar, member)
                tar.members = []  # type: ignore[attr-defined]
        for path, when in reversed(self._times):
            os.utime(path, (when, when))

    def _take(self, tar: tarfile.TarFile, member: tarfile.TarInfo) -> None:
        parts = parts_of(member.name)
        if not parts:
            return
        for depth in range(1, len(parts)):
            path = "/".join(parts[:depth])
            if not os.path.isdir(path):
                os.mkdir(path, 0o755)
                os.chown(path, *(self._owner or (0, 0)))
        path = "/".join(parts)
        self._clear(path, member.isdir())
        if member.islnk():
            os.link("/".join(parts_of(member.linkname)), path, follow_symlinks=False)
            return
        if member.isdir():
            if not os.path.isdir(path):
                os.mkdir(path)
        elif member.issym():
            os.symlink(member.linkname, path)
        elif member.isreg():
            self._file(tar, member, path)
        elif member.isfifo():
            os.mkfifo(path)
        elif member.ischr() or member.isblk():
            kind = stat.S_IFCHR if member.ischr() else stat.S_IFBLK
            os.mknod(path, kind, os.makedev(member.devmajor, member.devminor))
        self._attributes(path, member)

    @staticmethod
    def _clear(path: str, directory: bool) -> None:
        try:
            there = os.lstat(path).st_mode
        except FileNotFoundError:
            return
        if directory and not stat.S_ISDIR(there):
            if not os.path.isdir(path):
                raise Failed("FAILED_PRECONDITION", f"cannot replace the file /{path} by a folder; remove it first")
        elif not directory and stat.S_ISDIR(there):
            raise Failed("FAILED_PRECONDITION", f"cannot replace the folder /{path} by a file; remove it first")
        elif not directory:
            try:
                os.unlink(path)
            except OSError as error:
                if error.errno != errno.EBUSY:  # a mount point: its content is replaced
                    raise

    @staticmethod
    def _file(tar: tarfile.TarFile, member: tarfile.TarInfo, path: str) -> None:
        source = tar.extractfile(member)
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
        with os.fdopen(os.open(path, flags, 0o600), "wb") as target:
            while source is not None and (piece := source.read(CHUNK)):
                target.write(piece)

    def _attributes(self, path: str, member: tarfile.TarInfo) -> None:
        owner = self._owner if self._owner is not None else (member.uid, member.gid)
        os.chown(path, *owner, follow_symlinks=False)
        if member.issym():
            return
        os.chmod(path, member.mode & 0o7777)
        for key, value in member.pax_headers.items():
            name = key.removeprefix("SCHILY.xattr.")
            if name != key and name.startswith(_XATTRS):
                os.setxattr(path, name, value.encode("utf-8", "surrogateescape"), follow_symlinks=False)
        if member.isdir():
            self._times.append((path, float(member.mtime)))
        else:
            os.utime(path, (float(member.mtime), float(member.mtime)))
