"""What etcd needs from time to time, without a person: its past forgotten, its file made small, its alarm taken back.

The past grows with each write. The manager whose member leads forgets what is older than the history that watches
need. Forgotten pages are used again, but a file never shrinks by itself: each member rewrites its own, in its minute
of the hour, so that no two do it at once; the one that leads lets another lead first. A file that has reached its quota
raises an alarm (NOSPACE), and etcd takes no writes. Then all of the past is forgotten, the files are rewritten, and the
alarm is taken back as soon as there is room. Source: https://etcd.io/docs/v3.4/op-guide/maintenance/.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence

from pycompose.manager.members.managing import Managing
from pycompose.manager.store import Store, StoreError
from pycompose.manager.store.etcd import wire_pb2 as wire
from pycompose.manager.store.etcd.cluster import Cluster
from pycompose.manager.store.etcd.member import HISTORY

log = logging.getLogger(__name__)
LOOK_SECONDS, SLOT_SECONDS = 10.0, 60.0
#: A smaller file is not worth the pause; one of which this part is in use is rewritten.
WORTH_BYTES, PART_IN_USE = 64 * 1024**2, 0.5


def own_turn(own: int, members: Sequence[int], now: float) -> bool:
    """Whether it is a member's turn to rewrite its file: the minutes go round. `now`: seconds since the epoch."""
    return sorted(members)[int(now // SLOT_SECONDS) % len(members)] == own


def is_worth_it(size: int, in_use: int, full: bool) -> bool:
    """Whether a file is to be rewritten: bytes of it, and of it in use; `full`: there is an alarm."""
    return in_use < size and (full or (size > WORTH_BYTES and in_use < size * PART_IN_USE))


class Upkeep:
    """Args: cluster: the own member's calls; managing: lets another lead; store: whose past it is; quota: bytes."""

    def __init__(
        self,
        cluster: Cluster,
        managing: Managing,
        store: Store,
        quota: int,
        clock: Callable[[], float] = time.time,
        look: float = LOOK_SECONDS,
    ) -> None:
        self._cluster, self._managing, self._store, self._quota = cluster, managing, store, quota
        self._clock, self._look_seconds = clock, look
        self._compacted = 0

    async def run(self) -> None:
        """Look for ever."""
        while True:
            await asyncio.sleep(self._look_seconds)
            try:
                await self._look()
            except StoreError as error:
                log.info("etcd's upkeep has to wait: %s", error)

    async def _look(self) -> None:
        status = await self._cluster.status()
        own, leads = status.header.member_id, status.leader == status.header.member_id
        alarms = await self._cluster.alarms()
        full = any(wire.Alarm.NOSPACE in kinds for kinds in alarms.values())
        if full:
            log.error(
                "etcd's file has reached its quota of %d bytes, and takes no writes until it is smaller", self._quota
            )
        if leads:
            await self._forget_past(0 if full else HISTORY)
        members = [each.id for each in await self._cluster.members()]
        if is_worth_it(status.db_size, status.db_size_in_use, full) and own_turn(own, members, self._clock()):
            if leads:
                await self._managing.hand_over(own)
            log.info("etcd's file of %d bytes is rewritten, %d are in use", status.db_size, status.db_size_in_use)
            await self._cluster.defragment()
            status = await self._cluster.status()
        if own in alarms and wire.Alarm.NOSPACE in alarms[own] and status.db_size < self._quota:
            await self._cluster.disarm(own, wire.Alarm.NOSPACE)
            log.info("etcd's file has room again")

    async def _forget_past(self, kept: int) -> None:
        until = (await self._store.revision()).number - kept
        if until > self._compacted:
            await self._store.compact(until)
            self._compacted = until
