"""A manager's key: `/manager/<name>` = its address and start, under a lease that it keeps alive.

The same loop reads the other managers' keys: where a worker may turn when this one is gone.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
from collections.abc import Callable

from pycompose.manager.dispatcher.sessions import MANAGERS, ManagerId
from pycompose.manager.store import Put, Store, StoreError

log = logging.getLogger(__name__)
TTL_SECONDS = 2.0
#: For the store to hear that this manager goes.
LAST_SECONDS = 1.0


class Presence:
    """Args: address: where workers and clients reach this manager ("HOST:7420"); changed: hears of other managers."""

    def __init__(self, store: Store, me: ManagerId, address: str, changed: Callable[[tuple[str, ...]], None]) -> None:
        self._store, self._me, self._address, self._changed = store, me, address, changed
        self._known: tuple[str, ...] = ()

    async def run(self) -> None:
        """Keep the key, for ever; a store that does not answer is asked again."""
        lease = 0
        try:
            while True:
                try:
                    if not lease or not await self._store.keep_alive(lease):
                        lease = await self._store.grant(TTL_SECONDS)
                        value = json.dumps({"address": self._address, "boot": self._me.boot})
                        await self._store.transact([], [Put(MANAGERS + self._me.name, value.encode(), lease)])
                    await self._read()
                except (StoreError, ValueError) as error:  # ValueError: the lease ended just before the write
                    log.info("this manager's key could not be kept: %s", error)
                    lease = 0
                await asyncio.sleep(TTL_SECONDS / 5)
        finally:
            if lease:
                with contextlib.suppress(StoreError, TimeoutError):  # then it ends by itself
                    async with asyncio.timeout(LAST_SECONDS):
                        await self._store.revoke(lease)

    async def _read(self) -> None:
        rows = [json.loads(item.value) for item in (await self._store.range(MANAGERS)).items]
        addresses = tuple(sorted(row["address"] for row in rows if row["address"]))
        if addresses != self._known:
            self._known = addresses
            self._changed(addresses)
