"""Work that several callers want at once is done once: the same blob for two pulls, the same layer for two images.

The work is a task of its own: it goes on as long as one caller waits for it, and is cancelled with the last.
"""

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
    """Work by key."""

    def __init__(self) -> None:
        self._running: dict[str, tuple[asyncio.Task[T], list[None]]] = {}

    async def run(self, key: str, work: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """Return what the work for `key` gives; it is started unless it runs already."""
        entry = self._running.get(key)
        if entry is None:
            task = asyncio.create_task(work())
            entry = self._running[key] = (task, [])
            task.add_done_callback(lambda done: self._finished(key, done))
        task, waiters = entry
        waiters.append(None)
        try:
            return await asyncio.shield(task)
        finally:
            waiters.pop()
            if not waiters and not task.done():
                task.cancel()
                self._running.pop(key, None)
                await asyncio.gather(task, return_exceptions=True)

    def _finished(self, key: str, task: asyncio.Task[T]) -> None:
        entry = self._running.get(key)
        if entry is not None and entry[0] is task:
            del self._running[key]
        if not task.cancelled():
            task.exception()  # whoever waits has it; nobody may wait any more
