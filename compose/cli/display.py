"""Progress on stderr: one live line per resource on a terminal, one plain line per change off it.

Live drawing is at most ten times a second and never taller than the screen (`frames.py`). Other output may flow above
the view (`flow`): the logs of an attached `up` scroll while the view stays below them and shrinks to what is not yet
finished. `freeze` ends the drawing.
"""

from __future__ import annotations

import json
import os
import re
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import TextIO

from pycompose.compose.cli import frames
from pycompose.compose.cli.fitting import width_of
from pycompose.compose.cli.frames import Row, Screen
from pycompose.compose.cli.saying import wrapped

TICK = 0.1
_ESCAPES = re.compile(r"\x1b\[[0-9;]*m")


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
        self._rows: dict[str, Row] = {}
        self._drawn_widths: list[int] = []
        self._drawn = 0.0
        self._flowing = self._frozen = False
        self._before: object = None

    def __enter__(self) -> Display:
        if self.live:
            # after ^Z and fg the shell's lines are where the view was
            self._before = signal.signal(signal.SIGCONT, lambda *_: self._drawn_widths.clear())
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.freeze()
        if self._before is not None:
            signal.signal(signal.SIGCONT, self._before)  # type: ignore[arg-type]

    @property
    def shown(self) -> bool:
        """Whether there was anything to show."""
        return bool(self._rows)

    @property
    def live(self) -> bool:
        """Whether `tick` must be called."""
        return self.mode == "tty" and not self._frozen

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
            row = self._rows[name] = Row(word, detail, state, now)
        elif row.settled and (row.state, state) != ("done", "done"):
            # it has left the view and goes on: another line, another time
            row.settled, row.began = False, now
        row.word, row.detail, row.state = word, detail, state
        row.ended = None if state == "busy" else now
        if self.mode == "plain" and changed:
            self._write(f" {name}  {word}" + (f" {' '.join(detail.split())}" if detail else "") + "\n")
        elif self.mode == "json" and changed:
            status = {"done": "Done", "failed": "Error"}.get(state, "Working")
            self._write(json.dumps({"id": name, "status": status, "text": word, "details": detail}) + "\n")

    def tick(self) -> None:
        """Draw when it is time."""
        if self.live and time.monotonic() - self._drawn >= TICK:
            self._draw()

    @contextmanager
    def flow(self) -> Iterator[None]:
        """Let other output to the same terminal pass above the view."""
        if self.live and not self._flowing:
            self._flowing = True
            self._drawn = 0.0
        if self.live and self._drawn_widths:
            self._write(self._erase())
        yield
        self.tick()

    def freeze(self) -> None:
        """Draw all lines for the last time; later changes are not drawn."""
        if not self.live:
            return
        screen, now = self._screen(), time.monotonic()
        left = [name for name, row in self._rows.items() if not row.settled]
        if left:
            head = [] if self._flowing else [frames.header(self._title, self._rows)]
            self._write(self._erase() + "".join(f"{line}\n" for line in head + self._final(left, screen, now)))
        elif self._drawn_widths:
            self._write(self._erase())
        self._frozen = True

    def another(self, title: str) -> Display:
        """Return a display like this one for what comes next."""
        return Display(self.mode, colour=self._colour, title=title, stream=self._stream)

    def note(self, text: str) -> None:
        """Print a line that is about no resource."""
        if self.mode == "json":
            self._write(json.dumps({"id": "", "status": "Working", "text": text, "details": ""}) + "\n")
        elif self.mode != "quiet":
            self._write(self._erase() + wrapped(text, _size(self._stream)[0] if self._stream.isatty() else None) + "\n")
            self._drawn = 0.0
            self.tick()

    def _draw(self) -> None:
        screen, now = self._screen(), time.monotonic()
        leaving = frames.settle(self._rows, screen.height, flowing=self._flowing)
        above = self._final(leaving, screen, now)
        for name in leaving:
            self._rows[name].settled = True
        lines = frames.view(self._title, self._rows, screen, now)
        self._write(self._erase() + "".join(f"{line}\n" for line in above + lines))
        self._drawn_widths = [width_of(_ESCAPES.sub("", line)) for line in lines]
        self._drawn = now

    def _final(self, names: list[str], screen: Screen, now: float) -> list[str]:
        width = frames.name_width(self._rows)
        return [line for name in names for line in frames.final(name, self._rows[name], width, screen, now)]

    def _erase(self) -> str:
        """Return what takes the view away, the cursor where it began."""
        lines = frames.physical(self._drawn_widths, self._screen().columns)
        self._drawn_widths = []
        return f"\x1b[{lines}A\r\x1b[J" if lines else ""

    def _screen(self) -> Screen:
        columns, height = _size(self._stream)
        return Screen(columns, height, self._colour)

    def _write(self, text: str) -> None:
        self._stream.write(text)
        self._stream.flush()


def _size(stream: TextIO) -> tuple[int, int]:
    try:
        size = os.get_terminal_size(stream.fileno())
    except (OSError, ValueError):
        return 80, 24
    return size.columns or 80, size.lines or 24
