"""Nodes whose manager is gone: the leader gives them a full grace time to connect elsewhere, then marks them down.

A manager is there while its key `/manager/<name>` is (`presence`), and this process always is. A node's session
record names its manager and that manager's start; a record that is unchanged after the grace time means that the node
found no other manager. The write compares the record, the node's row and the leader's key: it fails when the node has
come back, and when another manager leads by now. After its own start a manager of its own finds its nodes so too.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Callable
from dataclasses import dataclass

from pycompose.manager.cache import Cache
from pycompose.manager.dispatcher.nodes import node_row
from pycompose.manager.dispatcher.pulse import LOOK_SECONDS, Pulse
from pycompose.manager.dispatcher.sessions import MANAGERS, SESSIONS, ManagerId, parse, session_key
from pycompose.manager.leadership import Leadership
from pycompose.manager.model import NODE, Codec, object_key
from pycompose.manager.store import Compare, KeyValue, Store, StoreError
from pycompose.proto.v1 import node_pb2

log = logging.getLogger(__name__)
GRACE_SECONDS = 6.5
#: Of the manager's own node: its worker had only to look beside, so both are gone together, or paused.
OWN_GRACE_SECONDS = 4.5
DOUBTFUL = (node_pb2.NODE_STATE_READY, node_pb2.NODE_STATE_DISCONNECTED)


@dataclass(frozen=True, slots=True)
class Doubt:
    """A node without a manager: `revision` of its session record (0: none), and until when it has time (pulse)."""

    revision: int
    until: float


def doubts(
    nodes: list[tuple[str, int]],
    records: dict[str, KeyValue],
    there: set[ManagerId],
    before: dict[str, Doubt],
    now: float,
    grace: float,
) -> dict[str, Doubt]:
    """Return the doubts of now. `nodes`: id and state; `before`: earlier doubts, whose time goes on."""
    found = {}
    for node_id, state in nodes:
        item = records.get(session_key(node_id))
        record = parse(item)
        if state not in DOUBTFUL or (record is not None and record.manager in there):
            continue
        revision = item.mod_revision if item is not None else 0
        old = before.get(node_id)
        own = record is not None and record.manager.name == node_id
        until = now + (min(grace, OWN_GRACE_SECONDS) if own else grace)
        found[node_id] = old if old is not None and old.revision == revision else Doubt(revision, until)
    return found


class Absence:
    """Args: leadership: acts only while this manager leads; me: this manager."""

    def __init__(
        self,
        store: Store,
        cache: Cache,
        codec: Codec,
        leadership: Leadership,
        me: ManagerId,
        clock: Callable[[], float],
        grace: float = GRACE_SECONDS,
    ) -> None:
        self._store, self._cache, self._codec, self._leadership = store, cache, codec, leadership
        self._me, self._clock, self._grace = me, clock, grace
        self._pulse = Pulse()
        self._doubts: dict[str, Doubt] = {}
        self._there: set[ManagerId] = set()

    async def run(self) -> None:
        """For ever."""
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            now = self._pulse.beat()
            if not self._leadership.leads():
                self._doubts, self._there = {}, set()
                continue
            try:
                await self._look(now)
            except StoreError as error:
                log.info("nodes without a manager cannot be looked for: %s", error)
                await asyncio.sleep(1)

    async def _look(self, now: float) -> None:
        there = {self._me} | managers((await self._store.range(MANAGERS)).items)
        due = any(doubt.until <= now for doubt in self._doubts.values())
        if there == self._there and not due:
            return
        records = {item.key: item for item in (await self._store.range(SESSIONS)).items}
        nodes = [(node.id, node.status.state) for node in self._cache.all(NODE)]
        self._doubts = doubts(nodes, records, there, self._doubts, now, self._grace)
        self._there = there
        for node_id, doubt in list(self._doubts.items()):
            if doubt.until <= now:
                del self._doubts[node_id]
                await self._down(node_id, doubt)

    async def _down(self, node_id: str, doubt: Doubt) -> None:
        current = self._cache.get(NODE, node_id)
        if current is None:
            return
        message = "its manager is gone, and it came to no other in time; look at `pycompose node status` there"
        node = node_row(node_id, current, node_pb2.NODE_STATE_DOWN, message, None, self._clock())
        compares = [
            *self._leadership.fence(),
            Compare(session_key(node_id), doubt.revision),
            Compare(object_key(NODE, node_id), current.meta.version.number),
        ]
        result = await self._store.transact(compares, [self._codec.put(NODE, node_id, node)])
        await self._cache.wait(result.revision.number)
        if not result.succeeded and session_key(node_id) not in result.failed:
            self._doubts[node_id] = doubt  # the row was changed by somebody else: look again at once


def managers(items: tuple[KeyValue, ...]) -> set[ManagerId]:
    """Return the managers that are there, from their keys."""
    return {ManagerId(item.key[len(MANAGERS) :], json.loads(item.value)["boot"]) for item in items}
