"""The files of a rotated log, seen as one sequence although the writer renames them meanwhile.

``PATH`` is the current file, ``PATH.1`` the one before, and so on. A rotation moves each file to the next number, the
oldest first. So a look from the lowest number to the highest meets every file, however often the writer rotates
meanwhile: none can move to a number that was looked at before it. It may meet a file again, and newer ones in between;
the last meetings are in the order of age.
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


def open_all(path: Path) -> list[LogFile]:
    """Open the log's files, oldest first; each once, none left out between two others."""
    for _ in range(_ATTEMPTS):
        met = _look(path)
        # Asked newest first: the writer deletes the oldest, so that what it deletes meanwhile leaves no gap.
        kept = [bool(os.fstat(each.fd).st_nlink) for each in reversed(met)][::-1]
        for each, keep in zip(met, kept, strict=True):
            if not keep:
                each.close()
        if any(kept) or not met:
            break
    found = [each for each, keep in zip(met, kept, strict=True) if keep]
    for each in found:
        each.size = whole_lines(each.fd)
    return found


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


def _look(path: Path) -> list[LogFile]:
    """Open what a look from the newest name to the oldest meets, in the order of the last meetings, oldest first."""
    met: dict[Identity, LogFile] = {}
    number = missing = 0
    while not (missing > 1 and number > _highest(path)):
        try:
            fd = os.open(f"{path}.{number}" if number else path, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            missing += 1  # a rotation under way leaves one number empty
        else:
            missing = 0
            status = os.fstat(fd)
            identity = status.st_dev, status.st_ino
            if identity in met:
                os.close(fd)
                met[identity] = met.pop(identity)
            else:
                met[identity] = LogFile(fd, identity)
        number += 1
    return list(reversed(met.values()))


def _highest(path: Path) -> int:
    """The highest number in use; 0 without any."""
    prefix = f"{path.name}."
    with suppress(FileNotFoundError):
        rests = (name.removeprefix(prefix) for name in os.listdir(path.parent) if name.startswith(prefix))
        return max((int(rest) for rest in rests if rest.isdigit()), default=0)
    return 0
