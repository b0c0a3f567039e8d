"""A context's files as a tar stream, as far as the node wants them and nothing says to leave them out."""

from __future__ import annotations

import os
import stat
import tarfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from pycompose.compose.builder.ignoring import Ignored

CHUNK = 256 << 10


@dataclass(frozen=True)
class Folder:
    """A context of this machine's files. `path`: of the folder; `ignored`: what is not sent."""

    path: str
    ignored: Ignored

    def drops(self, source: str) -> bool:
        """Whether something is there, and only not sent."""
        name = os.path.normpath(source).lstrip("/")
        return os.path.lexists(os.path.join(self.path, name)) and self.ignored.match(name)

    def tar(self, wanted: Sequence[str]) -> Iterator[bytes]:
        """Yield the tar of all at and below paths; what is not there is left out.

        Args:
            wanted: relative paths; "." for all.

        Raises:
            OSError: a file cannot be read.
        """
        waiting, sent = bytearray(), set[str]()
        for path in wanted:
            for name in self._names("" if path == "." else os.path.normpath(path).lstrip("/")):
                if name in sent:
                    continue
                sent.add(name)
                for piece in self._entry(name):
                    waiting += piece
                    if len(waiting) >= CHUNK:
                        yield bytes(waiting)
                        waiting.clear()
        yield bytes(waiting + bytes(2 * tarfile.BLOCKSIZE))

    def _names(self, top: str) -> Iterator[str]:
        """Yield the names at and below one, with the folders and links before it that lead there."""
        parts = top.split("/") if top else []
        for depth in range(1, len(parts)):
            before = "/".join(parts[:depth])
            if os.path.islink(os.path.join(self.path, before)):
                # what it leads to is in the context too, or nowhere
                target = os.path.normpath(
                    os.path.join(os.path.dirname(before), os.readlink(os.path.join(self.path, before)))
                )
                yield before
                if not target.startswith(("..", "/")):
                    yield from self._names("/".join([target, *parts[depth:]]))
                return
            yield before
        yield from self._below(top)

    def _below(self, name: str) -> Iterator[str]:
        path = os.path.join(self.path, name)
        try:
            found = os.lstat(path)
        except FileNotFoundError:
            return
        left_out = bool(name) and self.ignored.match(name)
        if name and not left_out:
            yield name
            if stat.S_ISLNK(found.st_mode):
                target = os.path.normpath(os.path.join(os.path.dirname(name), os.readlink(path)))
                if not target.startswith(("..", "/")) and target != name:
                    yield from self._linked(target)
        if not stat.S_ISDIR(found.st_mode) or (left_out and not self.ignored.takes_back):
            return
        for one in sorted(os.listdir(path)):
            yield from self._below(f"{name}/{one}" if name else one)

    def _linked(self, target: str) -> Iterator[str]:
        """Yield what a link leads to, one step far: a link that is copied by its name is followed."""
        if os.path.lexists(os.path.join(self.path, target)) and not self.ignored.match(target):
            parts = target.split("/")
            yield from ("/".join(parts[:depth]) for depth in range(1, len(parts)))
            if not os.path.islink(os.path.join(self.path, target)):
                yield from self._below(target)

    def _entry(self, name: str) -> Iterator[bytes]:
        """Yield a file's header and content."""
        path = os.path.join(self.path, name)
        found = os.lstat(path)
        if not (stat.S_ISREG(found.st_mode) or stat.S_ISDIR(found.st_mode) or stat.S_ISLNK(found.st_mode)):
            return
        entry = tarfile.TarInfo(name)
        entry.mode, entry.mtime = stat.S_IMODE(found.st_mode), found.st_mtime_ns // 10**9
        if found.st_mtime_ns % 10**9:
            entry.pax_headers = {"mtime": f"{entry.mtime}.{found.st_mtime_ns % 10**9:09d}"}
        if stat.S_ISDIR(found.st_mode):
            entry.type = tarfile.DIRTYPE
        elif stat.S_ISLNK(found.st_mode):
            entry.type, entry.linkname = tarfile.SYMTYPE, os.readlink(path)
        else:
            entry.size = found.st_size
        yield entry.tobuf(tarfile.PAX_FORMAT, "utf-8", "surrogateescape")
        if entry.isreg():
            yield from _content(path, entry.size)


def _content(path: str, size: int) -> Iterator[bytes]:
    """Yield exactly as many bytes of a file as were announced, whatever happens to it, and the tar's padding."""
    left = size
    with open(path, "rb") as file:
        while left:
            data = file.read(min(CHUNK, left)) or bytes(min(CHUNK, left))
            left -= len(data)
            yield data
    yield bytes(-size % tarfile.BLOCKSIZE)
