"""Reading json-file logs: last lines, a span of time, following, across rotations.

``jsonlog`` writes them. A reader follows the open file until the path names another one (rename),
reads the old to its end first, and so loses nothing.
"""

from __future__ import annotations

import asyncio
import calendar
import json
import os
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

Entry = tuple[int, str, bytes]
BLOCK = 64 * 1024
#: Seconds between looks at a file that is followed.
INTERVAL = 0.1


def parse_time(text: str) -> int:
    """Nanoseconds since the epoch of ``2026-01-02T03:04:05.123456789Z``."""
    date, _, rest = text.rstrip("Z").partition(".")
    fields = (int(date[0:4]), int(date[5:7]), int(date[8:10]), int(date[11:13]), int(date[14:16]), int(date[17:19]))
    return calendar.timegm((*fields, 0, 0, 0)) * 1_000_000_000 + int((rest + "000000000")[:9])


def parse_line(line: bytes) -> Entry | None:
    """One line of the file; None for one that is damaged (the machine lost power while it was written)."""
    try:
        record = json.loads(line)
        return parse_time(record["time"]), record["stream"], record["log"].encode()
    except (ValueError, KeyError, TypeError, AttributeError):
        return None


def rotated(path: Path) -> list[Path]:
    """The log's files, oldest first."""
    older = []
    number = 1
    while (each := path.with_name(f"{path.name}.{number}")).exists():
        older.append(each)
        number += 1
    return [*reversed(older), path] if path.exists() else list(reversed(older))


def lines_backwards(path: Path) -> Iterator[bytes]:
    """Whole lines from the last to the first, reading the file in blocks from its end."""
    with open(path, "rb") as file:
        position = file.seek(0, os.SEEK_END)
        rest = b""
        while position > 0:
            size = min(BLOCK, position)
            position -= size
            file.seek(position)
            pieces = (file.read(size) + rest).split(b"\n")
            rest = pieces.pop(0)
            for piece in reversed(pieces):
                if piece:
                    yield piece
        if rest:
            yield rest


def tail(path: Path, count: int | None, since: int = 0, until: int | None = None) -> list[Entry]:
    """The last ``count`` lines (all when None) with ``since`` <= time <= ``until`` (ns), oldest first.

    Pieces of one long line count as one line.
    """
    found: list[Entry] = []
    complete = 0
    for each in reversed(rotated(path)):
        for line in lines_backwards(each):
            entry = parse_line(line)
            if entry is None or (until is not None and entry[0] > until):
                continue
            if entry[0] < since:
                return found[::-1]
            if count is not None and (entry[2].endswith(b"\n") or not found):
                complete += 1
                if complete > count:
                    return found[::-1]
            found.append(entry)
    return found[::-1]


async def read(
    path: Path,
    *,
    count: int | None = None,
    since: int = 0,
    until: int | None = None,
    follow: bool = False,
    ended: Callable[[], bool] = lambda: False,
) -> AsyncIterator[Entry]:
    """Entries as (ns, stream, bytes), oldest first.

    Args:
        path: the current file of the log.
        count: begin with the last so many lines; None for all, 0 for none.
        since, until: bounds in ns since the epoch; ``until`` also ends following.
        follow: go on with what is written from now on.
        ended: asked while following; when it says True what is there is read to the end, and that is all.
    """
    follower = _Follower(path) if follow else None
    for entry in await asyncio.to_thread(tail, path, count, since, until):
        if follower is None or not follower.covers(entry):
            yield entry
    while follower is not None:
        last = ended()
        for entry in follower.more():
            if until is not None and entry[0] > until:
                follower.close()
                return
            if entry[0] >= since:
                yield entry
        if last:
            follower.close()
            return
        await asyncio.sleep(INTERVAL)


class _Follower:
    """Reads what is appended from its creation on, through rotations."""

    def __init__(self, path: Path) -> None:
        self._path, self._rest = path, b""
        self._fd = -1
        self._latest = 0
        self._open()
        if self._fd >= 0:
            os.lseek(self._fd, 0, os.SEEK_END)
            last = next(lines_backwards(path), None)
            entry = parse_line(last) if last else None
            self._latest = entry[0] if entry else 0

    def covers(self, entry: Entry) -> bool:
        """Whether this entry, found by ``tail``, was written after following began and will come again."""
        return entry[0] > self._latest

    def _open(self) -> None:
        try:
            self._fd = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            self._fd = -1

    def more(self) -> list[Entry]:
        if self._fd < 0:
            self._open()
            if self._fd < 0:
                return []
        found: list[Entry] = []
        while True:
            replaced = self._replaced()
            self._read(found)
            if not replaced:
                return found
            os.close(self._fd)
            self._open()
            if self._fd < 0:
                return found

    def _replaced(self) -> bool:
        here = os.fstat(self._fd)
        if os.lseek(self._fd, 0, os.SEEK_CUR) > here.st_size:  # truncated: a log of one file was rotated
            os.lseek(self._fd, 0, os.SEEK_SET)
        try:
            there = os.stat(self._path)
        except FileNotFoundError:
            return False
        return (here.st_dev, here.st_ino) != (there.st_dev, there.st_ino)

    def _read(self, found: list[Entry]) -> None:
        while data := os.read(self._fd, BLOCK):
            lines = (self._rest + data).split(b"\n")
            self._rest = lines.pop()
            found.extend(entry for line in lines if line and (entry := parse_line(line)))

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
