"""A store whose writes can be held up while its content moves to another."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import TypeVar

from pycompose.manager.store.interface import (
    Batch,
    Compare,
    KeyValue,
    Operation,
    Past,
    Range,
    Revision,
    Store,
    StoreUnavailableError,
    TransactionResult,
)

Answer = TypeVar("Answer")


class Gate:
    """The store behind it; reads and watches pass always."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.name, self.max_operations = store.name, store.max_operations
        self._open, self._idle = asyncio.Event(), asyncio.Event()
        self._open.set()
        self._idle.set()
        self._writing = 0
        self._moved = False

    @property
    def epoch(self) -> str:
        """Name of the store's lifetime."""
        return self._store.epoch

    @asynccontextmanager
    async def closed(self) -> AsyncIterator[Store]:
        """Hold new writes up, and wait for those under way; they go on when the block raises.

        When it does not, the content is elsewhere from now on, and the writes that waited are refused, undone.
        """
        self._open.clear()
        try:
            await self._idle.wait()
            yield self._store
            self._moved = True
        finally:
            self._open.set()

    async def _write(self, work: Callable[[], Awaitable[Answer]]) -> Answer:
        await self._open.wait()
        if self._moved:
            raise StoreUnavailableError("the store has moved meanwhile, and nothing was written; try again")
        self._writing += 1
        self._idle.clear()
        try:
            return await work()
        finally:
            self._writing -= 1
            if not self._writing:
                self._idle.set()

    async def revision(self) -> Revision:
        """Return the newest committed revision."""
        return await self._store.revision()

    async def transact(self, compares: Sequence[Compare], operations: Sequence[Operation]) -> TransactionResult:
        """Apply all operations if all comparisons hold."""
        return await self._write(lambda: self._store.transact(compares, operations))

    async def get(self, key: str) -> KeyValue | None:
        """Return one key, or None."""
        return await self._store.get(key)

    async def range(self, prefix: str, *, after: str = "", limit: int = 0) -> Range:
        """Return keys that start with `prefix`."""
        return await self._store.range(prefix, after=after, limit=limit)

    def watch(self, prefix: str, after: Revision) -> AsyncIterator[Batch]:
        """Yield every change after `after` below `prefix`."""
        return self._store.watch(prefix, after)

    async def changes(self, prefix: str, after: Revision, limit: int) -> Past:
        """Return past changes."""
        return await self._store.changes(prefix, after, limit)

    async def compact(self, number: int) -> None:
        """Forget the history up to and including `number`."""
        await self._write(lambda: self._store.compact(number))

    async def grant(self, ttl: float) -> int:
        """Make a lease."""
        return await self._write(lambda: self._store.grant(ttl))

    async def keep_alive(self, lease: int) -> bool:
        """Give the lease its full time again."""
        return await self._write(lambda: self._store.keep_alive(lease))

    async def revoke(self, lease: int) -> None:
        """End the lease and delete its keys."""
        await self._write(lambda: self._store.revoke(lease))

    async def close(self) -> None:
        """Release everything."""
        await self._store.close()
