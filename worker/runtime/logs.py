"""Reading json-file logs: last lines, a span of time, following, each line once, across rotations.

``jsonlog`` writes them, ``logfiles`` opens them. What is there is read from open files up to where they end at that
moment; following begins exactly there.
"""

from __future__ import annotations

import asyncio
import calendar
import json
import os
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path

from pycompose.worker.runtime import logfiles
from pycompose.worker.runtime.logfiles import BLOCK, LogFile

Entry = tuple[int, str, bytes]
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
        return parse_time(record["time"]), record["stream"], record["log"].encode("utf-8", "replace")
    except (ValueError, KeyError, TypeError, AttributeError):
        return None


def parse_lines(data: bytes) -> list[Entry]:
    """The entries of whole lines."""
    return [entry for line in data.split(b"\n") if line and (entry := parse_line(line)) is not None]


def last_entries(files: Sequence[LogFile], count: int, since: int, until: int | None) -> list[Entry]:
    """The last ``count`` lines with ``since`` <= time <= ``until`` (ns), oldest first.

    Pieces of one long line count as one line.
    """
    found: list[Entry] = []
    complete: dict[str, int] = {}
    for file in reversed(files):
        for line in logfiles.lines_backwards(file.fd, file.size):
            entry = parse_line(line)
            if entry is None or (until is not None and entry[0] > until):
                continue
            if entry[0] < since:
                return found[::-1]
            stream = entry[1]
            if entry[2].endswith(b"\n") or stream not in complete:
                complete[stream] = complete.get(stream, 0) + 1
                if sum(complete.values()) > count:
                    return found[::-1]
            found.append(entry)
    return found[::-1]


def tail(path: Path, count: int | None, since: int = 0, until: int | None = None) -> list[Entry]:
    """The last ``count`` lines (all when None) of a log that is not followed."""
    files = logfiles.open_all(path)
    try:
        if count is not None:
            return last_entries(files, count, since, until) if count else []
        entries = (entry for file in files for entry in parse_lines(os.pread(file.fd, file.size, 0)))
        return [entry for entry in entries if entry[0] >= since and (until is None or entry[0] <= until)]
    finally:
        for file in files:
            file.close()


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
    files = await asyncio.to_thread(logfiles.open_all, path)
    try:
        if count is None:
            for file in files:
                async for entry in _stretch(file):
                    if until is not None and entry[0] > until:
                        return
                    if entry[0] >= since:
                        yield entry
        elif count > 0:
            for entry in await asyncio.to_thread(last_entries, files, count, since, until):
                yield entry
        while len(files) > 1:
            files.pop(0).close()
        if follow:
            follower = _Follower(path, files)
            while True:
                last = ended()
                for entry in await follower.more():
                    if until is not None and entry[0] > until:
                        return
                    if entry[0] >= since:
                        yield entry
                if last:
                    return
                await asyncio.sleep(INTERVAL)
    finally:
        for file in files:
            file.close()


async def _stretch(file: LogFile) -> AsyncIterator[Entry]:
    """A file's entries up to its size."""
    position, rest = 0, b""
    while position < file.size:
        data = await asyncio.to_thread(os.pread, file.fd, min(BLOCK, file.size - position), position)
        if not data:
            return
        position += len(data)
        lines = (rest + data).rpartition(b"\n")
        rest = lines[2]
        for entry in parse_lines(lines[0]):
            yield entry


class _Follower:
    """Reads on from the end of the newest file, through rotations. ``files`` is the caller's list, which closes it."""

    def __init__(self, path: Path, files: list[LogFile]) -> None:
        self._path, self._files = path, files

    async def more(self) -> list[Entry]:
        """What was written since the last time."""
        if not self._files:
            self._files += await asyncio.to_thread(logfiles.open_all, self._path)
            for file in self._files:
                file.size = 0
        found: list[Entry] = []
        while self._files:
            file = self._files[0]
            # The writer closes a file before it renames it: replaced before this read means complete after it.
            replaced = len(self._files) > 1 or logfiles.identity_at(self._path) != file.identity
            found += await asyncio.to_thread(_rest_of, file)
            if not replaced:
                break
            if len(self._files) == 1:
                newer = await asyncio.to_thread(logfiles.newer_than, self._path, file.identity)
                if not newer:
                    break  # between the writer's rename and its new file
                for each in newer:
                    each.size = 0
                self._files += newer
            self._files.pop(0).close()
        return found


def _rest_of(file: LogFile) -> list[Entry]:
    """Whole lines behind ``size``, which moves on."""
    found: list[Entry] = []
    rest = b""
    position = file.size
    while data := os.pread(file.fd, BLOCK, position):
        position += len(data)
        lines = (rest + data).rpartition(b"\n")
        rest = lines[2]
        found += parse_lines(lines[0])
    file.size = position - len(rest)
    return found
