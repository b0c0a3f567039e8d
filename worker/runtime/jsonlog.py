"""Docker's json-file log: one JSON object per line, rotated by size.

``{"log": "text\\n", "stream": "stdout", "time": "2026-01-02T03:04:05.123456789Z"}``; a line longer
than 16 KiB is split, and only its last piece ends with a newline. ``PATH`` is the current file,
``PATH.1`` the one before, and so on (Docker's reference, "JSON File logging driver").
"""

from __future__ import annotations

import json
import os
import time

PIECE = 16 * 1024


def timestamp(nanoseconds: int) -> str:
    """RFC 3339 with nanoseconds, in UTC."""
    seconds, rest = divmod(nanoseconds, 1_000_000_000)
    t = time.gmtime(seconds)
    return f"{t[0]:04}-{t[1]:02}-{t[2]:02}T{t[3]:02}:{t[4]:02}:{t[5]:02}.{rest:09}Z"


class JsonLog:
    """The writer. Two streams share a file; each keeps its own unfinished line."""

    def __init__(self, path: str, max_bytes: int, max_files: int) -> None:
        self._path, self._max_bytes, self._max_files = path, max_bytes, max(max_files, 1)
        self._partial: dict[str, bytes] = {"stdout": b"", "stderr": b""}
        #: The disk was full within a line: the next one begins a new line, so that only the torn one is lost.
        self._torn = False
        self._open()

    def _open(self) -> None:
        self._fd = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o640)
        self._size = os.fstat(self._fd).st_size

    def write(self, stream: str, data: bytes, now_ns: int) -> None:
        """Take output as it comes; whole lines and full pieces are written at once."""
        pieces = (self._partial[stream] + data).split(b"\n")
        rest = pieces.pop()
        stamp = timestamp(now_ns)
        out: list[str] = []
        for piece in pieces:
            self._lines(out, piece + b"\n", stream, stamp)
        while len(rest) >= PIECE:
            size = whole_characters(rest)
            self._lines(out, rest[:size], stream, stamp)
            rest = rest[size:]
        self._partial[stream] = rest
        self._append(out)

    def _lines(self, out: list[str], line: bytes, stream: str, stamp: str) -> None:
        while len(line) > PIECE + 1 or (len(line) == PIECE + 1 and line[-1:] != b"\n"):
            size = whole_characters(line)
            self._lines(out, line[:size], stream, stamp)
            line = line[size:]
        text = json.dumps(line.decode("utf-8", "replace"), ensure_ascii=False)
        out.append(f'{{"log":{text},"stream":"{stream}","time":"{stamp}"}}\n')

    def _append(self, lines: list[str]) -> None:
        """Write lines, as many at once as the file may take."""
        encoded = [line.encode() for line in lines]
        first = 0
        while first < len(encoded):
            last, size = first, 0
            while last < len(encoded) and self._fits(size + len(encoded[last])):
                size += len(encoded[last])
                last += 1
            last = max(last, first + 1)
            if not self._write(b"".join(encoded[first:last])):
                return
            first = last

    def _fits(self, size: int) -> bool:
        """Whether so many bytes go into the current file, or else into a new one."""
        room = self._max_bytes - (self._size if self._size < self._max_bytes else 0)
        return self._max_bytes <= 0 or size <= room

    def _write(self, data: bytes) -> bool:
        data = b"\n" + data if self._torn else data
        try:
            if self._fd < 0:
                self._open()
            if self._max_bytes > 0 and self._size and self._size + len(data) > self._max_bytes:
                self._rotate()
            written = os.write(self._fd, data)
        except OSError:
            return False  # a full or broken disk must not end the container; the lines are lost
        self._torn = written < len(data)
        self._size += written
        return not self._torn

    def _rotate(self) -> None:
        os.close(self._fd)
        self._fd, self._torn = -1, False
        if self._max_files == 1:
            os.unlink(self._path)  # not truncated: who follows it reads its end all the same
        else:
            free = 1
            while free < self._max_files - 1 and os.path.exists(f"{self._path}.{free}"):
                free += 1
            for number in range(free, 0, -1):
                os.rename(f"{self._path}.{number - 1}" if number > 1 else self._path, f"{self._path}.{number}")
        self._open()

    def close(self, now_ns: int) -> None:
        """Write what is left of unfinished lines."""
        for stream, rest in self._partial.items():
            if rest:
                out: list[str] = []
                self._lines(out, rest, stream, timestamp(now_ns))
                self._append(out)
        if self._fd >= 0:
            os.close(self._fd)


def whole_characters(data: bytes) -> int:
    """How many of the first ``PIECE`` bytes to take so that no UTF-8 character is torn (RFC 3629)."""
    for size in range(PIECE, PIECE - 4, -1):
        if size >= len(data) or data[size] & 0xC0 != 0x80:
            return size
    return PIECE  # no UTF-8
