"""Node rows: written by the manager that has the worker's session, and by it alone (its fence is in every write).

States: READY from the hello on; DISCONNECTED as soon as the stream ended; DOWN when nothing was heard for the grace
time, with or without a stream. A hello makes a node READY again. Of nodes whose manager is gone see `absence`.

The grace time outlasts a pause of five seconds that begins just before a heartbeat was due. With many sessions
heartbeats come less often, and the grace time is longer by as much.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any

from pycompose.manager.cache import Cache, Changes
from pycompose.manager.dispatcher.pulse import LOOK_SECONDS, Pulse
from pycompose.manager.dispatcher.sessions import ManagerId, session_key, taken_over
from pycompose.manager.model import NODE, Codec, object_key
from pycompose.manager.store import Compare, Operation, Store, StoreError
from pycompose.proto.v1 import node_pb2

log = logging.getLogger(__name__)
#: Longest pause of a worker that nobody calls its end.
PAUSE_SECONDS = 5.3
#: Heartbeats of so many sessions come once a second.
SESSIONS_A_SECOND = 1000
JITTER = 1.2


Change = Callable[[node_pb2.Node], None]


def _nothing(_: node_pb2.Node) -> None:
    """Change nothing."""


@dataclass(eq=False)
class Held:
    """A session of this manager. `seen`: when the worker was last heard, by the pulse; `ended`: it must end."""

    node_id: str
    session_id: str
    fence: Compare
    seen: float
    connected: bool = True
    ended: asyncio.Event = field(default_factory=asyncio.Event)


class Nodes:
    """Who is connected.

    Args:
        store, cache, codec: where nodes' rows are.
        clock: seconds since the epoch.
        me: this manager.
        pause: see PAUSE_SECONDS.
    """

    def __init__(
        self,
        store: Store,
        cache: Cache,
        codec: Codec,
        clock: Callable[[], float],
        me: ManagerId,
        pause: float = PAUSE_SECONDS,
        pulse: Pulse | None = None,
    ) -> None:
        self._store, self._cache, self._codec, self._clock, self._me = store, cache, codec, clock, me
        self._pause, self._pulse = pause, pulse or Pulse()
        self._held: dict[str, Held] = {}
        self._writing: set[asyncio.Task[Any]] = set()
        self._ended = False

    @property
    def heartbeat_seconds(self) -> float:
        """Time between a worker's heartbeats, before jitter."""
        return max(1.0, len(self._held) / SESSIONS_A_SECOND)

    @property
    def grace_seconds(self) -> float:
        """Time without a sign of life after which a node is down."""
        return self._pause + JITTER * self.heartbeat_seconds

    def fence(self, node_id: str) -> Compare | None:
        """Return the comparison for each write about a node; None: its session is not here."""
        held = self._held.get(node_id)
        return None if held is None else held.fence

    def has(self, node_id: str) -> bool:
        """Whether a node is of the cluster: it joined, and was neither removed nor left."""
        node = self._cache.get(NODE, node_id)
        return node is not None and not node.status.left

    def role(self, node_id: str) -> node_pb2.NodeRole.ValueType:
        """Return what a node is to be. One that is to be no manager any more stays one until it is no member."""
        node = self._cache.get(NODE, node_id)
        if node is None:
            return node_pb2.NODE_ROLE_UNSPECIFIED
        manager = node.status.HasField("manager")
        role: node_pb2.NodeRole.ValueType = node_pb2.NODE_ROLE_MANAGER if manager else node.spec.role
        return role

    def heed(self, changes: Changes) -> None:
        """End the sessions of nodes that were removed."""
        for change in changes.items:
            if change.kind is NODE and change.new is None:
                self._release(change.id)

    async def arrived(self, node_id: str, description: node_pb2.NodeDescription) -> Held:
        """Take over a node's session; the node is ready."""
        session_id = secrets.token_hex(8)
        while True:
            compare, put = taken_over(node_id, await self._store.get(session_key(node_id)), self._me, session_id)
            number = await self._write(node_id, node_pb2.NODE_STATE_READY, "connected", description, compare, put)
            if number:
                break
        self._release(node_id)
        held = Held(node_id, session_id, Compare(put.key, number), self._pulse.seconds)
        self._held[node_id] = held
        return held

    def heard(self, held: Held) -> None:
        """Take note of a sign of life."""
        held.seen = self._pulse.seconds

    async def described(self, held: Held, description: node_pb2.NodeDescription) -> None:
        """Take note of what a connected machine has become."""
        await self._say(held, node_pb2.NODE_STATE_READY, "connected", description)

    async def drains(self, held: Held) -> None:
        """A node wants its tasks to move: as if an operator had drained it."""

        def change(node: node_pb2.Node) -> None:
            node.spec.availability = node_pb2.NODE_AVAILABILITY_DRAIN
            node.meta.spec_after = node.meta.version.number

        await self._say(held, node_pb2.NODE_STATE_READY, "wants to leave the cluster", change=change)

    async def gone(self, held: Held) -> None:
        """A node leaves the cluster; its session ends when that is written."""

        def change(node: node_pb2.Node) -> None:
            node.status.left = True

        await self._say(held, node_pb2.NODE_STATE_DOWN, "left the cluster; pycompose node rm forgets it", change=change)
        held.connected = False
        self._release(held.node_id)

    def left(self, held: Held) -> None:
        """Take note of a stream's end."""
        if self._held.get(held.node_id) is held and held.connected:
            held.connected = False
            self._begin(self._say(held, node_pb2.NODE_STATE_DISCONNECTED, "its connection ended"))

    def lost(self, node_id: str) -> None:
        """Another manager has the node's session."""
        log.info("node %s has a session with another manager", node_id)
        self._release(node_id)

    def _release(self, node_id: str) -> None:
        held = self._held.pop(node_id, None)
        if held is not None:
            held.ended.set()

    async def run(self) -> None:
        """Look for silent nodes, for ever; nothing is written any more once this ends."""
        try:
            while True:
                await asyncio.sleep(LOOK_SECONDS)
                now, grace = self._pulse.beat(), self.grace_seconds
                for held in [held for held in self._held.values() if now - held.seen > grace]:
                    self._release(held.node_id)
                    message = f"no sign of life for {grace:.1f} s; look at `pycompose node status` there"
                    self._begin(self._say(held, node_pb2.NODE_STATE_DOWN, message))
        finally:
            self._ended = True
            for task in self._writing:
                task.cancel()

    def _begin(self, work: Coroutine[Any, Any, None]) -> None:
        if self._ended:
            work.close()
            return
        task = asyncio.create_task(work)
        self._writing.add(task)
        task.add_done_callback(self._writing.discard)

    async def _say(
        self,
        held: Held,
        state: int,
        message: str,
        description: node_pb2.NodeDescription | None = None,
        change: Change = _nothing,
    ) -> None:
        """Write a node's state, and what else is to change, as long as its session is the last one."""
        while True:
            try:
                if not await self._write(held.node_id, state, message, description, held.fence, change=change):
                    self._release(held.node_id) if self._held.get(held.node_id) is held else None
                return
            except StoreError as error:
                log.warning("node %s: its state could not be stored, trying again: %s", held.node_id, error)
                await asyncio.sleep(1)

    async def _write(
        self,
        node_id: str,
        state: int,
        message: str,
        description: node_pb2.NodeDescription | None,
        fence: Compare,
        *with_it: Operation,
        change: Change = _nothing,
    ) -> int:
        """Returns the revision of the write; 0: the fence did not hold."""
        while True:
            current = self._cache.get(NODE, node_id)
            if current is None and description is None:
                return 0
            node = node_row(node_id, current, state, message, description, self._clock())
            change(node)
            compare = Compare(object_key(NODE, node_id), current.meta.version.number if current is not None else 0)
            result = await self._store.transact([fence, compare], [self._codec.put(NODE, node_id, node), *with_it])
            await self._cache.wait(result.revision.number)
            if result.succeeded:
                return result.revision.number
            if fence.key in result.failed:
                return 0


def node_row(
    node_id: str,
    current: node_pb2.Node | None,
    state: int,
    message: str,
    description: node_pb2.NodeDescription | None,
    now: float,
) -> node_pb2.Node:
    """Return a node's row as it will be. `now`: seconds since the epoch."""
    node = node_pb2.Node(id=node_id)
    at = int(now * 1e9)
    if current is not None:
        node.CopyFrom(current)
    else:
        node.meta.created_at.FromNanoseconds(at)
    node.meta.updated_at.FromNanoseconds(at)
    if description is not None:
        node.description.CopyFrom(description)
    if node.status.state != state:
        node.status.since.FromNanoseconds(at)
        log.info("node %s is %s: %s", node_id, node_pb2.NodeState.Name(state)[11:].lower(), message)  # type: ignore[arg-type]
    node.status.state = state  # type: ignore[assignment]
    node.status.message = message
    return node
