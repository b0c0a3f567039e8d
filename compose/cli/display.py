"""Progress on stderr: one live line per resource on a terminal, one plain line per change off it.

Live drawing is at most ten times a second and never taller than the screen; finished lines scroll off first. `freeze`
ends the drawing, so that other output may follow.
"""

from __future__ import annotations

import json
import os
import sys
import time
from dataclasses import dataclass
from types import TracebackType
from typing import TextIO

TICK = 0.1
_GREEN, _RED, _YELLOW, _DIM, _RESET = "\x1b[32m", "\x1b[31m", "\x1b[33m", "\x1b[2m", "\x1b[0m"
_SPINNER = "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏"


@dataclass
class _Row:
    word: str
    detail: str
    state: str
    began: float
    ended: float | None = None


class Display:
    """The progress of named resources.

    Args:
        mode: "auto", "tty", "plain", "json" or "quiet".
        colour: whether to colour words.
        title: the word of the first line: "Running".
        stream: where to write; default stderr.
    """

    def __init__(
        self, mode: str = "auto", *, colour: bool = False, title: str = "Running", stream: TextIO | None = None
    ):
        self._stream = stream or sys.stderr
        if mode == "auto":
            mode = "tty" if self._stream.isatty() and os.environ.get("TERM", "dumb") != "dumb" else "plain"
        self.mode = mode
        self._colour, self._title = colour, title
        self._rows: dict[str, _Row] = {}
        self._lines = 0
        self._drawn = 0.0
        self._dirty = False

    def __enter__(self) -> Display:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.freeze()

    @property
    def shown(self) -> bool:
        """Whether there was anything to show."""
        return bool(self._rows)

    @property
    def live(self) -> bool:
        """Whether `tick` must be called."""
        return self.mode == "tty"

    def set(self, name: str, word: str, detail: str = "", state: str = "busy") -> None:
        """Say where a resource is.

        Args:
            name: "Container guestbook-web-1".
            word: "Creating".
            detail: what it waits for, or what went wrong.
            state: "busy", "done" or "failed".
        """
        row = self._rows.get(name)
        if row is not None and (row.word, row.detail, row.state) == (word, detail, state):
            return
        changed = row is None or row.word != word or (word in ("Waiting", "Error") and row.detail != detail)
        now = time.monotonic()
        if row is None:
            row = self._rows[name] = _Row(word, detail, state, now)
        row.word, row.detail, row.state = word, detail, state
        row.ended = None if state == "busy" else now
        self._dirty = True
        if self.mode == "plain" and changed:
            self._write(f" {name}  {word}" + (f" {detail}" if detail else "") + "\n")
        elif self.mode == "json" and changed:
            status = {"done": "Done", "failed": "Error"}.get(state, "Working")
            self._write(json.dumps({"id": name, "status": status, "text": word, "details": detail}) + "\n")

    def tick(self) -> None:
        """Draw when it is time."""
        if self.live and time.monotonic() - self._drawn >= TICK:
            self._draw(final=False)

    def freeze(self) -> None:
        """Draw all lines for the last time; later changes are not drawn."""
        if self.live and self._rows:
            self._draw(final=True)
        if self.live:
            self.mode = "quiet"

    def _draw(self, *, final: bool) -> None:
        columns, height = _size(self._stream)
        done = sum(row.state == "done" for row in self._rows.values())
        lines = [f"[+] {self._title} {done}/{len(self._rows)}"]
        rows = list(self._rows.items())
        if not final and len(rows) > height - 2:
            unfinished = [row for row in rows if row[1].state != "done"]
            rows = (unfinished + [row for row in rows if row[1].state == "done"])[: max(1, height - 2)]
        width = max((len(name) for name, _ in rows), default=0)
        lines += [self._line(name, row, width, columns) for name, row in rows]
        up = f"\x1b[{self._lines}A" if self._lines else ""
        self._write(up + "".join(f"\r\x1b[2K{line}\n" for line in lines) + "\x1b[J")
        self._lines, self._drawn = len(lines), time.monotonic()

    def _line(self, name: str, row: _Row, width: int, columns: int) -> str:
        now = time.monotonic()
        seconds = f"{(row.ended or now) - row.began:.1f}s"
        mark = {"done": "✔", "failed": "✘"}.get(row.state) or _SPINNER[int(now * 10) % len(_SPINNER)]
        text = f"{row.word} {row.detail}".strip().replace("\n", " ")
        room = columns - width - len(seconds) - 8
        # the reason of a failure is never cut; it wraps
        if row.state != "failed" and len(text) > room > 10:
            text = text[: room - 1] + "…"
        if not self._colour:
            return f" {mark} {name.ljust(width)}  {text}  {seconds}"
        tint = {"done": _GREEN, "failed": _RED}.get(row.state, _YELLOW)
        return f" {tint}{mark}{_RESET} {name.ljust(width)}  {tint}{text}{_RESET}  {_DIM}{seconds}{_RESET}"

    def _write(self, text: str) -> None:
        self._stream.write(text)
        self._stream.flush()


def _size(stream: TextIO) -> tuple[int, int]:
    try:
        size = os.get_terminal_size(stream.fileno())
    except (OSError, ValueError):
        return 80, 24
    return size.columns or 80, size.lines or 24
