"""Files into the root that the process has entered: COPY, ADD and WORKDIR."""

from __future__ import annotations

import bz2
import errno
import gzip
import lzma
import os
import posixpath
import stat
import tarfile
from collections.abc import Callable, Sequence
from typing import Any, BinaryIO

import zstandard

from pycompose.worker.builder.tree import Chosen, Entry, Tree, wild
from pycompose.worker.copying.tars import Failed, Receiver

_PACKED: tuple[tuple[bytes, Callable[[BinaryIO], Any]], ...] = (
    (b"\x1f\x8b", lambda file: gzip.GzipFile(fileobj=file)),
    (b"BZh", bz2.BZ2File),
    (b"\xfd7zXZ\0", lzma.LZMAFile),
    (b"\x28\xb5\x2f\xfd", lambda file: zstandard.ZstdDecompressor().stream_reader(file, read_across_frames=True)),
)


class Copier:
    """Args:
    owner: uid and gid of what is made; None: as in the source, and root's for folders on the way.
    mode: makes the mode from (mode, is a folder); None: as it is.
    unpacked: uid and gid of what comes out of archives; None: as they say.
    """

    def __init__(
        self,
        owner: tuple[int, int] | None,
        mode: Callable[[int, bool], int] | None = None,
        unpacked: tuple[int, int] | None = None,
    ) -> None:
        self._owner, self._mode, self._unpacked = owner, mode, unpacked
        self._links: dict[tuple[int, int], str] = {}
        self._times: list[tuple[str, os.stat_result]] = []

    def copy(
        self, tree: Tree, sources: Sequence[str], target: str, *, parents: bool = False, unpack: bool = False
    ) -> None:
        """Copy what the sources name.

        Args:
            target: absolute; with a "/" at its end it is a folder.
            parents: keep each source's folders below the target, from "/./" on where that is in it.
            unpack: archives are unpacked.

        Raises:
            Missing, Failed, OSError.
        """
        chosen = tree.select(sources)
        if len(chosen) > 1 and not target.endswith("/"):
            raise Failed("INVALID_ARGUMENT", f"{target}: several files need a folder; write a / at its end")
        for one in chosen:
            place = self._below(target, one) if parents else target
            folder = stat.S_ISDIR(tree.status(one.path, one.source).st_mode)
            if folder:
                self._folder(tree, one, place.rstrip("/") or "/")
            elif unpack and self._unpack(tree, one, place):
                continue
            else:
                self._one(tree, one, place)
        self._set_times()

    def write(self, name: str, text: str, target: str) -> None:
        """Write a here-document."""
        place = self._place(target, name)
        self._ready(place)
        with open(place, "wb") as file:
            file.write(text.encode())
        os.chown(place, *(self._owner or (0, 0)))
        os.chmod(place, self._mode(0o644, False) if self._mode else 0o644)

    def folders(self, path: str) -> None:
        """Make a folder and those on the way, each as far as it is missing."""
        made = "/"
        for part in [part for part in path.split("/") if part]:
            made = posixpath.join(made, part)
            try:
                os.mkdir(made, 0o755)
            except FileExistsError:
                if not os.path.isdir(made):
                    raise Failed("FAILED_PRECONDITION", f"{made} is a file, and must be a folder") from None
                continue
            os.chown(made, *(self._owner or (0, 0)))
            os.chmod(made, 0o755)

    @staticmethod
    def _below(target: str, chosen: Chosen) -> str:
        """Return where a source goes with --parents."""
        kept = chosen.path
        _, pivot, after = chosen.source.partition("/./")
        if pivot and not wild(chosen.source):
            kept = after
        folder = posixpath.dirname(kept)
        return f"{target.rstrip('/')}/{folder}/" if folder else f"{target.rstrip('/')}/"

    @staticmethod
    def _place(target: str, name: str) -> str:
        """Return where a file called `name` goes: into the target when that is a folder."""
        return posixpath.join(target, name) if target.endswith("/") or os.path.isdir(target) else target

    def _ready(self, place: str) -> None:
        """Make the folders before a file, and take away what is in its place."""
        self.folders(posixpath.dirname(place))
        try:
            there = os.lstat(place)
        except FileNotFoundError:
            return
        if stat.S_ISDIR(there.st_mode):
            raise Failed("FAILED_PRECONDITION", f"{place} is a folder, and a file cannot replace it")
        os.unlink(place)

    def _one(self, tree: Tree, chosen: Chosen, target: str) -> None:
        for entry in tree.entries(chosen):
            place = self._place(target, posixpath.basename(chosen.path))
            self._ready(place)
            self._make(tree, entry, place)

    def _folder(self, tree: Tree, chosen: Chosen, target: str) -> None:
        for entry in tree.entries(chosen):
            place = posixpath.join(target, entry.inside) if entry.inside else target
            if stat.S_ISDIR(entry.status.st_mode):
                self._make_folder(tree, entry, place)
            else:
                self._ready(place)
                self._make(tree, entry, place)

    def _make_folder(self, tree: Tree, entry: Entry, place: str) -> None:
        self.folders(posixpath.dirname(place))
        try:
            os.mkdir(place)
        except FileExistsError:
            if not os.path.isdir(place):
                raise Failed("FAILED_PRECONDITION", f"{place} is a file, and a folder cannot replace it") from None
            if not entry.inside:
                return
        self._attributes(tree, entry, place)
        self._times.append((place, entry.status))

    def _make(self, tree: Tree, entry: Entry, place: str) -> None:
        status = entry.status
        known = (status.st_dev, status.st_ino)
        if stat.S_ISLNK(status.st_mode):
            os.symlink(tree.target(entry), place)
        elif status.st_nlink > 1 and known in self._links:
            os.link(self._links[known], place, follow_symlinks=False)
            return
        elif stat.S_ISREG(status.st_mode):
            self._content(tree, entry, place)
            self._links[known] = place
        elif stat.S_ISFIFO(status.st_mode):
            os.mkfifo(place)
        elif stat.S_ISSOCK(status.st_mode):
            return
        else:
            os.mknod(place, stat.S_IFMT(status.st_mode) | 0o600, status.st_rdev)
        self._attributes(tree, entry, place)
        os.utime(place, ns=(status.st_mtime_ns, status.st_mtime_ns), follow_symlinks=False)

    @staticmethod
    def _content(tree: Tree, entry: Entry, place: str) -> None:
        source = tree.open(entry.path, os.O_RDONLY | os.O_NONBLOCK)
        try:
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
            made = os.open(place, flags, 0o600)
            try:
                done = 0
                while sent := os.sendfile(made, source, done, 1 << 30):
                    done += sent
            finally:
                os.close(made)
        finally:
            os.close(source)

    def _attributes(self, tree: Tree, entry: Entry, place: str) -> None:
        status = entry.status
        os.chown(place, *(self._owner or (status.st_uid, status.st_gid)), follow_symlinks=False)
        if stat.S_ISLNK(status.st_mode):
            return
        mode = stat.S_IMODE(status.st_mode)
        os.chmod(place, self._mode(mode, stat.S_ISDIR(status.st_mode)) if self._mode else mode)
        for name, value in tree.attributes(entry).items():
            os.setxattr(place, name, value, follow_symlinks=False)

    def _unpack(self, tree: Tree, chosen: Chosen, target: str) -> bool:
        """Unpack a file that is an archive; False: it is none."""
        with os.fdopen(tree.open(chosen.path, os.O_RDONLY | os.O_NONBLOCK), "rb") as file:
            begin = file.read(512)
            file.seek(0)
            opener = next((one for magic, one in _PACKED if begin.startswith(magic)), None)
            if opener is None and begin[257:262] != b"ustar":
                return False
            stream = opener(file) if opener else file
            if opener and not _is_tar(stream):
                return False
            file.seek(0)
            stream = opener(file) if opener else file
            self.folders(target.rstrip("/") or "/")
            os.chdir(target)
            try:
                Receiver(self._unpacked).run(stream)
            except (tarfile.TarError, EOFError, OSError, zstandard.ZstdError) as error:
                if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
                    raise
                raise Failed("INVALID_ARGUMENT", f"{chosen.source}: the archive is damaged: {error}") from None
            finally:
                os.chdir("/")
        return True

    def _set_times(self) -> None:
        for place, status in reversed(self._times):
            os.utime(place, ns=(status.st_mtime_ns, status.st_mtime_ns))
        self._times.clear()


def _is_tar(stream: BinaryIO) -> bool:
    try:
        begin = stream.read(512)
    except (OSError, EOFError, lzma.LZMAError, zstandard.ZstdError):
        return False
    return begin[257:262] == b"ustar" or begin == bytes(512)
