"""Ctrl-C as an item of the queue that a command waits in."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from pycompose.compose.client.streams import Streams


@contextmanager
def interrupts_into(streams: Streams, *, leaving: bool = False) -> Iterator[Streams]:
    """Put "interrupt" into `streams` at each SIGINT or SIGTERM; close the streams at the end.

    Before the command waits for anything, the third interrupt ends it in the ordinary way. With `leaving`, Ctrl-\\
    (SIGQUIT) puts "quit".
    """
    count = 0

    def note(number: int, frame: FrameType | None) -> None:
        nonlocal count
        count += 1
        streams.put("interrupt")
        if count > 2:
            raise KeyboardInterrupt

    before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    if leaving:
        before[signal.SIGQUIT] = signal.signal(signal.SIGQUIT, lambda *_: streams.put("quit"))
    try:
        yield streams
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        streams.close()
