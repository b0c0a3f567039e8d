"""Work that several callers want at once is done once: the same blob for two pulls, the same layer for two images."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, Generic, TypeVar

T = TypeVar("T")


async def in_thread(work: Callable[[], T]) -> T:
    """Run blocking work in a thread; a cancellation waits until the work has ended, so that nothing changes later."""
    task = asyncio.create_task(asyncio.to_thread(work))
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.gather(task, return_exceptions=True)
        raise


class Shared(Generic[T]):
    """Work by key, done by the first who asks; the others wait for it.

    It belongs to that one: it may use what only he has (a connection, an account), and is cancelled with him. Then, and
    when it fails, each of the others does it himself.
    """

    def __init__(self) -> None:
        self._running: dict[str, asyncio.Task[T]] = {}

    async def run(self, key: str, work: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """Return what the work for `key` gives."""
        while True:
            running = self._running.get(key)
            if running is None:
                task = self._running[key] = asyncio.create_task(work())
                try:
                    return await task
                finally:
                    del self._running[key]
            await asyncio.wait([running])
            if not running.cancelled() and running.exception() is None:
                return running.result()
