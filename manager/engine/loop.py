"""The shell around the controller: hears the cache, waits, writes."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable

from pycompose.manager.allocator import Pools
from pycompose.manager.cache import Cache, Changes
from pycompose.manager.engine.controller import Controller
from pycompose.manager.leadership import Leadership
from pycompose.manager.model import Codec
from pycompose.manager.store import Store, StoreUnavailableError

log = logging.getLogger(__name__)
#: Seconds between two passes, at most; less after a shorter one.
LONGEST_BREATH = 0.5


class Engine:
    """Runs passes while this manager leads."""

    def __init__(
        self,
        store: Store,
        cache: Cache,
        codec: Codec,
        leadership: Leadership,
        pools: Pools,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._store, self._cache, self._codec, self._leadership = store, cache, codec, leadership
        self._pools, self._clock = pools, clock
        self._event = asyncio.Event()

    async def run(self) -> None:
        """For ever: wait to lead, and lead until another does."""
        while True:
            await self._leadership.acquire()
            try:
                # What the last leader wrote is known before anything is decided.
                await self._cache.synchronize()
            except StoreUnavailableError as error:
                log.info("the store went away just when this manager was elected: %s", error)
                continue
            leading, lost = (asyncio.ensure_future(work) for work in (self._lead(), self._leadership.lost()))
            try:
                await asyncio.wait([leading, lost], return_when=asyncio.FIRST_COMPLETED)
            finally:
                for task in (leading, lost):
                    task.cancel()
                await asyncio.gather(leading, lost, return_exceptions=True)

    async def _lead(self) -> None:
        room = self._store.max_operations - len(self._leadership.fence())
        controller = Controller(self._cache, self._codec, self._pools, room)

        def hear(changes: Changes) -> None:
            controller.hear(changes, self._clock())
            self._event.set()

        stop = self._cache.listen(hear)
        wake_at: float | None = None
        try:
            while True:
                if not controller.dirty and not await self._heard(wake_at):
                    controller.everything()
                began = time.monotonic()
                try:
                    wake_at = await self._pass(controller)
                except Exception:
                    log.exception("a pass of the control loop failed; trying again in a second")
                    controller.everything()
                    await asyncio.sleep(1)
                # a long pass looks at much: what comes in meanwhile is decided together, and others have their turn
                await asyncio.sleep(min(time.monotonic() - began, LONGEST_BREATH))
        finally:
            stop()

    async def _heard(self, wake_at: float | None) -> bool:
        """Wait for a change; False: it is time to look again."""
        self._event.clear()
        try:
            timeout = None if wake_at is None else max(0.01, wake_at - self._clock())
            await asyncio.wait_for(self._event.wait(), timeout)
        except TimeoutError:
            return False
        return True

    async def _pass(self, controller: Controller) -> float | None:
        """Decide and write; returns when to look again."""
        writes, wake_at = controller.decide(self._clock())
        fence = self._leadership.fence()
        last = 0
        stale = False
        for write in writes:
            if stale:
                controller.refused(write)
                continue
            result = await self._store.transact([*fence, *write.compares], write.operations)
            last = max(last, result.revision.number)
            if not result.succeeded:
                controller.refused(write)
                stale = "" in write.concerns  # later writes may use a subnet that is not stored
        await self._cache.wait(last)
        return wake_at
