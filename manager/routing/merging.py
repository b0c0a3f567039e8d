"""One answer of several workers' streams.

Each stream is read by a task of its own, which keeps at most QUEUED answers that nobody took: a slow reader slows down
the workers, and nothing grows here. Items come in the order of their times. While streams have ended or wait for news
(they were silent for HOLD_SECONDS), the others go on without them.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncGenerator, Callable, Sequence
from typing import Any

HOLD_SECONDS = 0.2
QUEUED = 2
#: Items of one merged answer.
MOST_ITEMS = 256
Stream = AsyncGenerator[Any, None]


class _Source:
    """A stream, and what of it is here. `waits`: it has been silent, and nobody waits for it."""

    def __init__(self, stream: Stream, arrived: asyncio.Event) -> None:
        self.queue: asyncio.Queue[Sequence[Any]] = asyncio.Queue(QUEUED)
        self.items: deque[Any] = deque()
        self.waits = False
        self._arrived = arrived
        self.reader = asyncio.create_task(self._read(stream))
        self.reader.add_done_callback(lambda _: arrived.set())

    async def _read(self, stream: Stream) -> None:
        async with contextlib.aclosing(stream) as every:
            async for items in every:
                await self.queue.put(items)
                self._arrived.set()

    def fill(self) -> None:
        """Take over what has arrived, when nothing is left."""
        while not self.items and not self.queue.empty():
            self.items.extend(self.queue.get_nowait())
            self.waits = False

    @property
    def ended(self) -> bool:
        """Whether nothing more comes. Raises what the stream raised."""
        over = self.reader.done() and self.queue.empty() and not self.items
        if over and not self.reader.cancelled():
            self.reader.result()
        return over


async def by_time(
    streams: Sequence[Stream], time_of: Callable[[Any], int], hold: float | None = HOLD_SECONDS
) -> AsyncGenerator[list[Any], None]:
    """Yield the streams' items in time order.

    Args:
        streams: each yields sequences of items, in order.
        time_of: an item's time in nanoseconds.
        hold: seconds that a silent stream is waited for; None: as long as it takes.

    Raises: what a stream raises, once what came before it was yielded.
    """
    arrived = asyncio.Event()
    sources = [_Source(stream, arrived) for stream in streams]
    try:
        while True:
            arrived.clear()
            for source in sources:
                source.fill()
            sources = [source for source in sources if not source.ended]
            if not sources:
                return
            if found := _take(sources, time_of):
                yield found
                continue
            await _news(sources, arrived, hold)
    finally:
        for source in sources:
            source.reader.cancel()
        await asyncio.gather(*(source.reader for source in sources), return_exceptions=True)


def _take(sources: Sequence[_Source], time_of: Callable[[Any], int]) -> list[Any]:
    """Take the oldest items, as long as every stream that is waited for has one."""
    found: list[Any] = []
    while len(found) < MOST_ITEMS and all(source.items or source.waits for source in sources):
        full = [source for source in sources if source.items]
        if not full:
            break
        oldest = min(full, key=lambda source: time_of(source.items[0]))
        found.append(oldest.items.popleft())
        if not oldest.items:
            oldest.fill()
    return found


async def _news(sources: Sequence[_Source], arrived: asyncio.Event, hold: float | None) -> None:
    """Wait for something to arrive; when it takes too long and others have items, who has none waits."""
    blocked = any(source.items for source in sources) and hold is not None
    try:
        async with asyncio.timeout(hold if blocked else None):
            await arrived.wait()
    except TimeoutError:
        for source in sources:
            source.waits = not source.items


async def together(streams: Sequence[Stream], window: float | None) -> AsyncGenerator[list[Any], None]:
    """Yield what streams of samples say at about the same time as one list.

    `window`: seconds after the first sample of a round; None: every stream's is waited for.
    """
    arrived = asyncio.Event()
    sources = [_Source(stream, arrived) for stream in streams]
    try:
        while sources:
            arrived.clear()
            sources = [source for source in sources if not source.ended]
            if sources and all(source.queue.empty() for source in sources):
                await arrived.wait()
                continue
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(window):
                    while any(source.queue.empty() and not source.reader.done() for source in sources):
                        arrived.clear()
                        await arrived.wait()
            found = [item for source in sources if not source.queue.empty() for item in source.queue.get_nowait()]
            if found:
                yield found
    finally:
        for source in sources:
            source.reader.cancel()
        await asyncio.gather(*(source.reader for source in sources), return_exceptions=True)
