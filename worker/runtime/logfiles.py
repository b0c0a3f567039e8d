"""The files of a rotated log, seen as one sequence although the writer renames them meanwhile.

``PATH`` is the current file, ``PATH.1`` the one before, and so on. A rotation shifts every name, so names say nothing
for long; inodes keep their order. A view is taken twice, and holds when both are the same.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

BLOCK = 256 * 1024
_ATTEMPTS = 50
Identity = tuple[int, int]


@dataclass
class LogFile:
    """An open file. ``size``: bytes of whole lines when it was opened; it may be read on from there."""

    fd: int
    identity: Identity
    size: int = 0

    def close(self) -> None:
        """Close it, once."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1


def names(path: Path) -> list[Path]:
    """The log's names that exist, oldest first."""
    found: list[tuple[int, Path]] = []
    with suppress(FileNotFoundError):
        for entry in os.scandir(path.parent):
            base, dot, number = entry.name.rpartition(".")
            if entry.name == path.name:
                found.append((0, Path(entry.path)))
            elif dot and base == path.name and number.isdigit():
                found.append((int(number), Path(entry.path)))
    return [each for _, each in sorted(found, reverse=True)]


def open_all(path: Path) -> list[LogFile]:
    """Open the log's files, oldest first; each once, none left out."""
    opened: list[LogFile] = []
    for _ in range(_ATTEMPTS):
        opened = _open(path)
        if [each.identity for each in opened] == _identities(path):
            break
        for each in opened:
            each.close()
    else:
        opened = _open(path)  # it rotates faster than we look: what we have is the best there is
    for each in opened:
        each.size = whole_lines(each.fd)
    return opened


def newer_than(path: Path, last: Identity) -> list[LogFile]:
    """Open what the writer has begun since the file `last`; all there is when `last` was deleted meanwhile."""
    files = open_all(path)
    known = [each.identity for each in files]
    first = known.index(last) + 1 if last in known else 0
    for each in files[:first]:
        each.close()
    return files[first:]


def identity_at(path: Path) -> Identity | None:
    """Which file has the name now."""
    try:
        status = os.stat(path)
    except FileNotFoundError:
        return None
    return status.st_dev, status.st_ino


def whole_lines(fd: int) -> int:
    """Bytes up to the last newline: a line may be half written at this moment."""
    end = os.fstat(fd).st_size
    position = end
    while position > 0:
        size = min(4096, position)
        found = os.pread(fd, size, position - size).rfind(b"\n")
        if found >= 0:
            return position - size + found + 1
        position -= size
    return 0


def lines_backwards(fd: int, end: int) -> Iterator[tuple[int, bytes]]:
    """(offset, line) from the line before ``end`` to the first, reading in blocks."""
    rest = b""
    while end > 0:
        size = min(BLOCK, end)
        end -= size
        pieces = (os.pread(fd, size, end) + rest).split(b"\n")
        rest = pieces.pop(0)
        offset = end + len(rest) + 1 + sum(len(piece) + 1 for piece in pieces)
        for piece in reversed(pieces):
            offset -= len(piece) + 1
            if piece:
                yield offset, piece
    if rest:
        yield 0, rest


def _open(path: Path) -> list[LogFile]:
    found: dict[Identity, LogFile] = {}
    for name in names(path):
        with suppress(FileNotFoundError):
            fd = os.open(name, os.O_RDONLY | os.O_CLOEXEC)
            status = os.fstat(fd)
            file = LogFile(fd, (status.st_dev, status.st_ino))
            if file.identity in found:
                file.close()  # renamed while we looked: it is the older one
            else:
                found[file.identity] = file
    return list(found.values())


def _identities(path: Path) -> list[Identity]:
    return [identity for name in names(path) if (identity := identity_at(name)) is not None]
