"""Keys of an attached `up` (`--menu`, COMPOSE_MENU), and what those show that only look."""

from __future__ import annotations

import os
import select
import sys
import threading
import time
from collections.abc import Collection
from types import TracebackType

from pycompose.compose.cli import words
from pycompose.compose.cli.portcheck import open_ports
from pycompose.compose.cli.tables import show
from pycompose.compose.client.streams import Streams
from pycompose.compose.plan.observed import Observed

LINE = "v: what runs, o: ports, w: watch files, d: leave, ?: keys, Ctrl-C: stop"


def shown(key: str, observed: Observed, services: Collection[str]) -> str | None:
    """Return what a key shows, None when it shows nothing.

    Args:
        key: the letter.
        observed: the project.
        services: ids of those that are attached.
    """
    if key == "v":
        now = time.time()
        tasks = sorted((task for one in services for task in observed.of(one)), key=lambda task: task.name)
        rows = [{"Name": task.name, "Status": words.status(task, now), "Reason": words.reason(task)} for task in tasks]
        return show("table", rows, {"Name": "NAME", "Status": "STATUS", "Reason": "REASON"})
    if key == "o":
        found = [line for one in services if one in observed.services for line in open_ports(observed.services[one])]
        return "\n".join(sorted(found)) or "no port is published"
    return LINE if key in ("?", "h") else None


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
