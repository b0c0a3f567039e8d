"""Who runs the control loops: the only manager always, of several the one that holds a key of the store by a lease.

The holder's writes compare the key's revision. So a leader that was away (paused, cut off) and comes back writes
nothing any more, whatever it believes, once another has taken over: the store decides, not a clock. The clock only
ends waiting: a leader whose lease may have ended stops by itself.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Awaitable, Callable
from typing import Protocol

from pycompose.manager.store import (
    CompactedError,
    Compare,
    Put,
    Revision,
    Store,
    StoreError,
    StoreUnavailableError,
    TransactionResult,
)

log = logging.getLogger(__name__)
#: The key of the manager that leads; its value is that manager's name.
KEY = "/leader"


class Leadership(Protocol):
    """The right to run the control loops."""

    async def acquire(self) -> None:
        """Wait until this manager leads."""
        ...

    def leads(self) -> bool:
        """Return whether this manager believes to lead; its writes need the fence all the same."""
        ...

    def fence(self) -> tuple[Compare, ...]:
        """Return comparisons for each write of a loop: they fail once another manager leads."""
        ...

    async def lost(self) -> None:
        """Wait until this manager no longer leads."""
        ...

    async def resign(self) -> None:
        """Stop leading, and let another take over at once."""
        ...


class AlwaysLeader:
    """Leadership of the only manager."""

    async def acquire(self) -> None:
        """Lead at once."""

    def leads(self) -> bool:
        """Always."""
        return True

    def fence(self) -> tuple[Compare, ...]:
        """Nobody else writes."""
        return ()

    async def lost(self) -> None:
        """Never."""
        await asyncio.Event().wait()

    async def resign(self) -> None:
        """Nobody takes over."""


class Election:
    """Leadership of one of several managers.

    Args:
        store: that they share.
        name: of this manager.
        ttl: seconds after which another takes over from one that does not answer.
        clock: seconds that never go back.
        sleep: waits for seconds.
    """

    def __init__(
        self,
        store: Store,
        name: str,
        *,
        ttl: float = 2.0,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._store, self._name, self._ttl, self._clock, self._sleep = store, name, ttl, clock, sleep
        self._revision = self._lease = 0
        self._keeper: asyncio.Task[None] | None = None

    async def acquire(self) -> None:
        """Wait until this manager leads; a store that does not answer is asked again."""
        await self.resign()
        while True:
            try:
                asked = self._clock()
                lease = await self._store.grant(self._ttl)
                taken = await self._take(lease)
                if taken.succeeded:
                    self._revision, self._lease = taken.revision.number, lease
                    self._keeper = asyncio.create_task(self._keep(lease, asked + self._ttl))
                    log.info("%s leads", self._name)
                    return
                await self._store.revoke(lease)
                await self._until_vacant(taken.revision)
            except (StoreUnavailableError, CompactedError) as error:
                log.info("nobody can be elected: %s", error)
                await self._sleep(self._ttl / 4)

    async def _take(self, lease: int) -> TransactionResult:
        return await self._store.transact([Compare(KEY, 0)], [Put(KEY, self._name.encode(), lease)])

    async def _until_vacant(self, after: Revision) -> None:
        """Wait until the key that was there at this revision is gone."""
        async for batch in self._store.watch(KEY, after):
            if any(event.key == KEY and event.value is None for event in batch.events):
                return

    async def _keep(self, lease: int, deadline: float) -> None:
        """Keep the lease alive; returns when it has ended, or may have."""
        while True:
            await self._sleep(self._ttl / 4)
            asked = self._clock()
            if asked >= deadline:
                break
            try:
                async with asyncio.timeout(deadline - asked):
                    if not await self._store.keep_alive(lease):
                        break
                deadline = asked + self._ttl
            except (StoreUnavailableError, TimeoutError):
                continue
        log.warning("%s no longer leads", self._name)

    def leads(self) -> bool:
        """Return whether this manager believes to lead."""
        return self._keeper is not None and not self._keeper.done()

    def fence(self) -> tuple[Compare, ...]:
        """Return comparisons for each write of a loop: they fail once another manager leads.

        Also when the key is gone and nobody has taken it yet.
        """
        return (Compare(KEY, self._revision or -1),)

    async def lost(self) -> None:
        """Wait until this manager no longer leads."""
        if self._keeper is not None:
            await asyncio.wait([self._keeper])

    async def resign(self) -> None:
        """Stop leading, and let another take over at once."""
        keeper, lease = self._keeper, self._lease
        self._keeper, self._revision, self._lease = None, 0, 0
        if keeper is not None:
            keeper.cancel()
            await asyncio.wait([keeper])
        if lease:
            with contextlib.suppress(StoreError, TimeoutError):  # then it ends by itself
                async with asyncio.timeout(self._ttl):
                    await self._store.revoke(lease)
