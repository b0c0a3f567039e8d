"""Printing log lines with a prefix for each container: aligned, in the service's own colour."""

from __future__ import annotations

import re
import sys
import zlib
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext

from pycompose.compose.cli.errors import UsageError
from pycompose.proto.v1 import access_pb2

LONGEST_LINE = 1 << 20
_COLOURS = ("36", "33", "32", "35", "34", "36;1", "33;1", "32;1", "35;1", "34;1")


def colour_of(service: str) -> str:
    """Return a terminal colour that is always the same for a service."""
    return _COLOURS[zlib.crc32(service.encode()) % len(_COLOURS)]


class LogPrinter:
    """Writes entries to stdout (and what went to stderr to stderr when `split`).

    Lines of several containers are never mixed: a line is written once it is complete, or at `flush`.

    Args:
        colour: colour the prefixes.
        prefix: print the container's name before each line.
        timestamps: print the time before each line.
        split: keep the two streams apart.
        at_once: do not wait for the end of a line (for output of one container).
        around: called around each write (a live view makes way for it).
        before: stands before each line, after the time.
        grep: print only lines that it is found in.
    """

    def __init__(
        self,
        *,
        colour: bool = False,
        prefix: bool = True,
        timestamps: bool = False,
        split: bool = False,
        at_once: bool = False,
        around: Callable[[], AbstractContextManager[None]] = nullcontext,
        before: str = "",
        grep: re.Pattern[bytes] | None = None,
    ) -> None:
        self._colour, self._prefix, self._timestamps = colour, prefix, timestamps
        self._split, self._at_once, self._around, self._grep = split, at_once, around, grep
        self._before = before
        self._names: dict[str, tuple[str, str]] = {}
        self._width = 0
        self._open: dict[tuple[str, int], tuple[bytes, bytes]] = {}

    def know(self, task_id: str, name: str, service: str) -> None:
        """Tell the name of a task; names known early keep the prefixes aligned."""
        self._names[task_id] = (name, service)
        self._width = max(self._width, len(name))

    def knows(self, task_id: str) -> bool:
        """Return whether the task has a name."""
        return task_id in self._names

    def entries(self, entries: Iterable[access_pb2.LogEntry]) -> None:
        """Print entries; parts of a long line are joined."""
        streams: dict[int, list[bytes]] = {}
        for entry in entries:
            key = (entry.task_id, entry.stream)
            head, before = self._open.pop(key, (None, b""))
            head, text = self._head(entry) if head is None else head, before + entry.data
            if not entry.data.endswith(b"\n"):
                # of what has been written already, what follows has no head
                self._open[key] = (b"", b"") if self._at_once else (head, text)
                if not self._at_once and len(text) < LONGEST_LINE:
                    continue
                self._open[key] = (b"", b"")
            if self._grep is None or self._grep.search(text):
                target = 2 if self._split and entry.stream == access_pb2.OUTPUT_STREAM_STDERR else 1
                streams.setdefault(target, []).append(head + text)
        self._write(streams)

    def flush(self, task_id: str | None = None) -> None:
        """Print incomplete lines: of one task that has ended, or of all."""
        rest = [key for key, (_, text) in self._open.items() if text and task_id in (None, key[0])]
        lines = [self._open.pop(key) for key in rest]
        self._write({1: [head + text + b"\n" for head, text in lines if self._grep is None or self._grep.search(text)]})

    def line(self, task_id: str, text: str) -> None:
        """Print a line of ours about a task, under its prefix."""
        name, service = self._names.get(task_id, (task_id[:12], ""))
        self._write({1: [self._named(name, service).encode() + text.encode() + b"\n"]})

    def _write(self, streams: dict[int, list[bytes]]) -> None:
        if not any(streams.values()):
            return
        with self._around():
            for target, parts in streams.items():
                file = sys.stderr.buffer if target == 2 else sys.stdout.buffer
                file.write(b"".join(parts))
                file.flush()

    def _head(self, entry: access_pb2.LogEntry) -> bytes:
        name, service = self._names.get(entry.task_id, (entry.task_id[:12], ""))
        head = self._named(name, service) if self._prefix else ""
        if self._timestamps:
            head += stamp(entry.time.ToNanoseconds()) + " "
        return (head + self._before).encode()

    def _named(self, name: str, service: str) -> str:
        padded = f"{name.ljust(self._width)}  | "
        return f"\x1b[{colour_of(service)}m{padded}\x1b[0m" if self._colour else padded


def stamp(nanoseconds: int) -> str:
    """Return a time as RFC 3339 in UTC with nanoseconds, as Docker prints it."""
    import time

    seconds, rest = divmod(nanoseconds, 10**9)
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds)) + f".{rest:09d}Z"


def short_name(task_name: str, project: str) -> str:
    """Return Docker Compose's log prefix: the container's name without the project's."""
    return task_name.removeprefix(f"{project}-")


def time_of(flag: str, text: str, now: float) -> int:
    """Return the time that a flag's value means, in ns since the epoch (`now`: seconds since it).

    Raises:
        UsageError: it means none.
    """
    try:
        return parse_time(text, now)
    except ValueError:
        raise UsageError(f"{flag} {text}: want a time such as 2024-01-02T13:23:37Z, or 42m") from None


def parse_time(text: str, now: float) -> int:
    """Read "10m", "1h30m", "2024-01-02T03:04:05Z", "2024-01-02" or seconds since the epoch: nanoseconds since it.

    Raises:
        ValueError: it is none of these.
    """
    from datetime import datetime

    from pycompose.compose.loader.units import parse_duration

    if re.fullmatch(r"\d+(\.\d+)?", text):
        return int(float(text) * 1e9)
    if re.match(r"\d{4}-\d\d-\d\d", text):
        fixed = re.sub(r"(\.\d{6})\d+", r"\1", text)
        return int(datetime.fromisoformat(fixed).timestamp() * 1e9)
    return int(now * 1e9) - parse_duration(text)
