"""Reading json-file logs: last lines, a span of time, following, each line once, across rotations; several by time.

``jsonlog`` writes them, ``logfiles`` opens them. A reader goes forward through open files in blocks: it holds a block,
never a log, however slowly it is read.
"""

from __future__ import annotations

import asyncio
import calendar
import json
import os
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from pycompose.worker.runtime import logfiles
from pycompose.worker.runtime.logfiles import LogFile

Entry = tuple[int, str, bytes]
#: Seconds between looks at a file that is followed.
INTERVAL = 0.1
#: Bytes that are read, and entries that are handed over, at once.
BLOCK, BATCH = 64 * 1024, 200


@dataclass(frozen=True, slots=True)
class Span:
    """Which part of a log.

    Attributes:
        count: begin with the last so many lines; None for all, 0 for none.
        since, until: bounds in ns since the epoch; ``until`` also ends following.
        follow: go on with what is written from now on.
    """

    count: int | None = None
    since: int = 0
    until: int | None = None
    follow: bool = False


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


def first_wanted(files: Sequence[LogFile], span: Span) -> tuple[int, int]:
    """Where the span begins: index of the file, and offset. Pieces of one long line count as one line."""
    place = (len(files) - 1, files[-1].size)
    complete: dict[str, int] = {}
    for index in range(len(files) - 1, -1, -1):
        for offset, line in logfiles.lines_backwards(files[index].fd, files[index].size):
            entry = parse_line(line)
            if entry is None or (span.until is not None and entry[0] > span.until):
                continue
            if entry[0] < span.since:
                return place
            stream = entry[1]
            if entry[2].endswith(b"\n") or stream not in complete:
                complete[stream] = complete.get(stream, 0) + 1
                if span.count is not None and sum(complete.values()) > span.count:
                    return place
            place = (index, offset)
    return place


class Reader:
    """One log, read forward. Close it."""

    def __init__(self, path: Path, span: Span, ended: Callable[[], bool] = lambda: False) -> None:
        """``ended`` is asked while following; when it says True what is there is read to the end, and that is all."""
        self._path, self._span, self._ended = path, span, ended
        self._files: list[LogFile] = []
        self._position = 0
        self._rest = b""
        self._last_look = False
        #: Whether there is nothing more just now, and whether there never will be.
        self.at_end = self.finished = False

    def begin(self) -> None:
        """Find the beginning; that may read much of the log, so call it in a thread."""
        self._files = logfiles.open_all(self._path)
        if self._files and (self._span.count is not None or self._span.since):
            index, self._position = first_wanted(self._files, self._span)
            while index:
                self._files.pop(0).close()
                index -= 1

    def more(self) -> list[Entry]:
        """The next entries, some or none; sets ``at_end`` and ``finished``."""
        while not self.finished:
            if not self._files:
                self._files = logfiles.open_all(self._path) if self._span.follow else []
            if not self._files:
                break
            # The writer closes a file before it renames it: replaced before this read means complete after it.
            replaced = self._replaced()
            data = self._block()
            if data:
                found = self._entries(data)
                if found:
                    self.at_end = False
                    return found
            elif not (replaced and self._next()):
                break
        self._nothing()
        return []

    def _replaced(self) -> bool:
        if len(self._files) > 1:
            return True
        return self._span.follow and logfiles.identity_at(self._path) != self._files[0].identity

    def _block(self) -> bytes:
        file = self._files[0]
        size = BLOCK if self._span.follow else min(BLOCK, file.size - self._position)
        data = os.pread(file.fd, size, self._position)
        self._position += len(data)
        return data

    def _entries(self, data: bytes) -> list[Entry]:
        whole, newline, rest = (self._rest + data).rpartition(b"\n")
        self._rest = rest
        span, found = self._span, []
        for entry in parse_lines(whole) if newline else ():
            if span.until is not None and entry[0] > span.until:
                self.finished = True
                break
            if entry[0] >= span.since:
                found.append(entry)
        return found

    def _next(self) -> bool:
        """Go on with the next file; False: it is not there yet (between the writer's rename and its new file)."""
        if len(self._files) == 1:
            self._files += logfiles.newer_than(self._path, self._files[0].identity)
        if len(self._files) == 1:
            return False
        self._files.pop(0).close()
        self._position, self._rest = 0, b""
        return True

    def _nothing(self) -> None:
        self.at_end = True
        over = self._span.until is not None and time.time_ns() > self._span.until
        self.finished = self.finished or not self._span.follow or self._last_look or over
        # What was written before the end is looked for once more before that is believed.
        self._last_look = self._ended()

    def close(self) -> None:
        """Release the files."""
        for file in self._files:
            file.close()
        self._files, self.finished = [], True


async def merged(readers: Sequence[tuple[str, Reader]]) -> AsyncIterator[list[tuple[str, Entry]]]:
    """Entries of several logs by time, each with its log's name, some at once; the order within a log is kept.

    What has been written is in order over all logs; of what comes, what is found at one look is.
    """
    logs = dict(readers)
    waiting: dict[str, deque[Entry]] = {name: deque() for name in logs}
    try:
        for reader in logs.values():
            await asyncio.to_thread(reader.begin)
        while True:
            for name, reader in logs.items():
                if not waiting[name] and not reader.finished:
                    waiting[name].extend(reader.more())
            batch = _earliest(logs, waiting)
            if batch:
                yield batch
            elif all(reader.finished for reader in logs.values()):
                return
            else:
                await asyncio.sleep(INTERVAL)
    finally:
        for reader in logs.values():
            reader.close()


def _earliest(logs: dict[str, Reader], waiting: dict[str, deque[Entry]]) -> list[tuple[str, Entry]]:
    """Take the entries that come first, while it is known that they do."""
    batch: list[tuple[str, Entry]] = []
    while len(batch) < BATCH:
        heads = [(queue[0][0], name) for name, queue in waiting.items() if queue]
        if not heads:
            break
        name = min(heads)[1]
        batch.append((name, waiting[name].popleft()))
        if not waiting[name] and not logs[name].at_end:
            break  # more of this log may come before the others' next
    return batch
