"""Keys of an attached `up` (`--menu`, COMPOSE_MENU): w watches files or ends it, d leaves the containers running."""

from __future__ import annotations

import os
import select
import sys
import threading
from types import TracebackType

from pycompose.compose.client.streams import Streams

LINE = "w: watch files   d: leave the containers running   Ctrl-C: stop them"


class Keys:
    """Puts ("key", letter) into streams for each key typed. A context manager: the terminal is given back at its end.

    Signals of the terminal (Ctrl-C, Ctrl-Z) go on working.
    """

    def __init__(self, streams: Streams) -> None:
        self._streams = streams
        self._before: list[object] | None = None
        self._ended = threading.Event()

    def __enter__(self) -> Keys:
        import termios
        import tty

        self._before = termios.tcgetattr(0)
        tty.setcbreak(0, termios.TCSADRAIN)
        threading.Thread(target=self._read, daemon=True).start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        import termios

        self._ended.set()
        if self._before is not None:
            termios.tcsetattr(0, termios.TCSADRAIN, self._before)  # type: ignore[arg-type]

    def _read(self) -> None:
        while not self._ended.is_set():
            ready, _, _ = select.select([0], [], [], 0.2)
            if ready and not self._ended.is_set():
                data = os.read(0, 1)
                if not data:
                    return
                self._streams.put("key", data.decode("ascii", "replace").lower())


def possible() -> bool:
    """Return whether there is a terminal to read keys from."""
    return sys.stdin.isatty() and sys.stderr.isatty()
