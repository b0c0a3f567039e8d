"""Node rows: written by the manager that has the worker's session, and by it alone.

A node is ready from its hello on. When its session has ended, it has a grace time to come back before it is down;
after this manager's start every node has that time.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from pycompose.manager.cache import Cache
from pycompose.manager.model import NODE, Codec, object_key
from pycompose.manager.store import Compare, Store
from pycompose.proto.v1 import node_pb2

log = logging.getLogger(__name__)
GRACE_SECONDS = 15.0


class Nodes:
    """Who is connected."""

    def __init__(
        self, store: Store, cache: Cache, codec: Codec, clock: Callable[[], float], grace: float = GRACE_SECONDS
    ) -> None:
        self._store, self._cache, self._codec, self._clock, self._grace = store, cache, codec, clock, grace
        self._sessions: dict[str, str] = {}
        self._doubts: dict[str, asyncio.Task[None]] = {}

    def begin(self) -> None:
        """Give every node its time to connect."""
        for node in self._cache.all(NODE):
            if node.status.state == node_pb2.NODE_STATE_READY:
                self._doubt(node.id)

    def holds(self, node_id: str, session_id: str) -> bool:
        """Return whether this is the node's session now; an older one must end."""
        return self._sessions.get(node_id) == session_id

    async def arrived(self, node_id: str, session_id: str, description: node_pb2.NodeDescription) -> None:
        """Take note of a session; the node is ready."""
        self._sessions[node_id] = session_id
        doubt = self._doubts.pop(node_id, None)
        if doubt is not None:
            doubt.cancel()
        await self._write(node_id, node_pb2.NODE_STATE_READY, "connected", description)

    async def described(self, node_id: str, description: node_pb2.NodeDescription) -> None:
        """Take note of what a connected machine has become."""
        await self._write(node_id, node_pb2.NODE_STATE_READY, "connected", description)

    def left(self, node_id: str, session_id: str) -> None:
        """Take note of a session's end."""
        if self._sessions.get(node_id) == session_id:
            del self._sessions[node_id]
            self._doubt(node_id)

    def _doubt(self, node_id: str) -> None:
        async def wait() -> None:
            await asyncio.sleep(self._grace)
            self._doubts.pop(node_id, None)
            if node_id not in self._sessions:
                message = f"no sign of life for {self._grace:.0f} s; look at `pycompose node status` there"
                await self._write(node_id, node_pb2.NODE_STATE_DOWN, message, None)

        self._doubts[node_id] = asyncio.create_task(wait())

    async def _write(
        self, node_id: str, state: int, message: str, description: node_pb2.NodeDescription | None
    ) -> None:
        while True:
            current = self._cache.get(NODE, node_id)
            node = node_pb2.Node(id=node_id)
            now = int(self._clock() * 1e9)
            if current is not None:
                node.CopyFrom(current)
            elif description is None:
                return
            else:
                node.meta.created_at.FromNanoseconds(now)
            node.meta.updated_at.FromNanoseconds(now)
            if description is not None:
                node.description.CopyFrom(description)
            if node.status.state != state:
                node.status.since.FromNanoseconds(now)
                log.info("node %s is %s: %s", node_id, node_pb2.NodeState.Name(state)[11:].lower(), message)  # type: ignore[arg-type]
            node.status.state = state  # type: ignore[assignment]
            node.status.message = message
            version = current.meta.version.number if current is not None else 0
            result = await self._store.transact(
                [Compare(object_key(NODE, node_id), version)], [self._codec.put(NODE, node_id, node)]
            )
            await self._cache.wait(result.revision.number)
            if result.succeeded:
                return
