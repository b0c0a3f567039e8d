"""The stream between a worker and this manager.

After hello and acceptance the worker gets everything that its node should have, then differences: at once when
the stream was idle, else coalesced over a tick. One writer per stream.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import secrets
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from typing import Any

import grpc

from pycompose.manager.cache import Cache, Changes
from pycompose.manager.control import validate
from pycompose.manager.dispatcher import assignments
from pycompose.manager.dispatcher.nodes import Held, Nodes
from pycompose.manager.dispatcher.revival import revive
from pycompose.manager.dispatcher.sessions import ManagerId
from pycompose.manager.dispatcher.statuses import StatusWriter
from pycompose.manager.model import NODE, Codec
from pycompose.manager.store import Store
from pycompose.proto.peer import Role, peer_of
from pycompose.proto.refusal import ForbiddenError, InvalidError, removed
from pycompose.proto.v1 import dispatcher_pb2, dispatcher_pb2_grpc, image_pb2, node_pb2

Context = grpc.aio.ServicerContext[Any, Any]
TICK_SECONDS = 0.02
_IMAGE_ID = re.compile(r"sha256:[0-9a-f]{64}\Z")
#: Finds the nodes that have an image, by its id.
FindHolders = Callable[[str], Awaitable[list[image_pb2.Holder]]]


class Dispatcher(dispatcher_pb2_grpc.DispatcherServiceServicer):
    """Serves workers' sessions.

    Args:
        me: this manager; a name alone stands for one that has no others beside it.
        holders: finds nodes that have an image; None: nobody asks.
        trusted: what nodes' certificates are to be like (see `proto.trust`); "": nodes have none.
    """

    def __init__(
        self,
        store: Store,
        cache: Cache,
        codec: Codec,
        clock: Callable[[], float] = time.time,
        me: ManagerId | None = None,
        holders: FindHolders | None = None,
        trusted: Callable[[], str] = lambda: "",
    ) -> None:
        self._store, self._cache, self._codec = store, cache, codec
        self.me = me or ManagerId("single", secrets.token_hex(8))
        self._holders, self._trusted = holders, trusted
        self.nodes = Nodes(store, cache, codec, clock, self.me)
        self.statuses = StatusWriter(store, cache, codec, self.nodes)
        #: Where managers are, "HOST:PORT" each; empty while this one is alone.
        self.addresses: tuple[str, ...] = ()
        #: What wakes each session, by its node.
        self._wakes: dict[str, set[asyncio.Event]] = defaultdict(set)
        cache.listen(self._hear)

    def managers(self, addresses: tuple[str, ...]) -> None:
        """Take note of where managers are now, and tell all workers."""
        self.addresses = addresses
        self._wake(self._wakes)

    def _hear(self, changes: Changes) -> None:
        touched = assignments.touched(self._cache, changes)
        self._wake(self._wakes if touched is None else touched)
        # a node hears what it is to be itself
        self._wake(change.id for change in changes.items if change.kind is NODE)

    def _wake(self, node_ids: Iterable[str]) -> None:
        for node_id in node_ids:
            for event in self._wakes.get(node_id, ()):
                event.set()

    async def run(self) -> None:
        """Watch over the sessions and store what workers say, for ever."""
        stop = self._cache.listen(self.nodes.heed)
        try:
            await asyncio.gather(self.nodes.run(), self.statuses.run())
        finally:
            stop()

    async def FindImage(
        self, request: dispatcher_pb2.FindImageRequest, context: Context
    ) -> dispatcher_pb2.FindImageResponse:
        """Return nodes that have an image."""
        if not _IMAGE_ID.match(request.image_id):
            raise InvalidError([("image_id", "want the digest of its configuration: sha256: and 64 digits")])
        await self._cache.synchronize()
        found = await self._holders(request.image_id) if self._holders is not None else []
        return dispatcher_pb2.FindImageResponse(holders=found)

    async def Session(
        self, requests: AsyncIterator[dispatcher_pb2.SessionRequest], context: Context
    ) -> AsyncIterator[dispatcher_pb2.SessionResponse]:
        """Serve one worker until either side ends."""
        stream = aiter(requests)
        first = await anext(stream, None)
        if first is None:
            return
        if first.WhichOneof("message") != "hello":
            raise InvalidError([("hello", "the first message must be a hello")])
        if wrong := validate.name(first.hello.node_id, "hello.node_id"):
            raise InvalidError(wrong)
        peer = peer_of(context)
        if peer.role is Role.WORKER and peer.name != first.hello.node_id:
            raise ForbiddenError(f"the certificate is of node {peer.name}, not {first.hello.node_id}", "OTHER_NODE")
        await self._cache.synchronize()
        if peer.role is Role.WORKER and not self.nodes.has(peer.name):
            raise removed(peer.name)
        held = await self.nodes.arrived(first.hello.node_id, first.hello.description)
        self.statuses.add(held.node_id, first.hello.status)
        reader = asyncio.create_task(self._read(stream, held))
        try:
            if first.hello.stopped_before_start:
                await revive(self._store, self._cache, self._codec, first.hello)
            accepted = dispatcher_pb2.SessionAccepted(session_id=held.session_id, managers=self.addresses)
            accepted.role = self.nodes.role(held.node_id)
            accepted.heartbeat_period.FromNanoseconds(int(self.nodes.heartbeat_seconds * 1e9))
            yield dispatcher_pb2.SessionResponse(accepted=accepted)
            async for response in self._responses(held, self.addresses, accepted.role):
                yield response
        finally:
            reader.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await reader
            self.nodes.left(held)

    async def _read(self, stream: AsyncIterator[dispatcher_pb2.SessionRequest], held: Held) -> None:
        try:
            async for request in stream:
                self.nodes.heard(held)
                if request.WhichOneof("message") == "status":
                    self.statuses.add(held.node_id, request.status)
                elif request.WhichOneof("message") == "description":
                    await self.nodes.described(held, request.description)
                elif request.WhichOneof("message") == "leaving":
                    await (self.nodes.drains(held) if request.leaving.drain else self.nodes.gone(held))
        finally:
            held.ended.set()

    async def _responses(
        self, held: Held, managers: tuple[str, ...], role: node_pb2.NodeRole.ValueType
    ) -> AsyncIterator[dispatcher_pb2.SessionResponse]:
        changed = asyncio.Event()
        changed.set()
        self._wakes[held.node_id].add(changed)
        ended = asyncio.create_task(held.ended.wait())
        ended.add_done_callback(lambda _: changed.set())
        sent: assignments.Wanted = {}
        sequence, trusted = 0, ""
        try:
            while not await _next(changed, held):
                if managers != self.addresses:
                    managers = self.addresses
                    yield dispatcher_pb2.SessionResponse(managers=dispatcher_pb2.Managers(addresses=managers))
                if trusted != self._trusted():
                    trusted = self._trusted()
                    yield dispatcher_pb2.SessionResponse(trust=dispatcher_pb2.Trust(fingerprint=trusted))
                if role != self.nodes.role(held.node_id):
                    role = self.nodes.role(held.node_id)
                    yield dispatcher_pb2.SessionResponse(role=role)
                wanted = assignments.wanted(self._cache, held.node_id, sent)
                changes = assignments.difference(sent, wanted)
                if changes or not sequence:
                    sequence += 1
                    batch = dispatcher_pb2.AssignmentBatch(complete=sequence == 1, changes=changes, sequence=sequence)
                    yield dispatcher_pb2.SessionResponse(assignments=batch)
                sent = wanted
                await asyncio.sleep(TICK_SECONDS)
        finally:
            ended.cancel()
            self._wakes[held.node_id].discard(changed)
            if not self._wakes[held.node_id]:
                del self._wakes[held.node_id]


async def _next(changed: asyncio.Event, held: Held) -> bool:
    """Wait for something to do; returns whether the session has ended."""
    await changed.wait()
    changed.clear()
    return held.ended.is_set()


def add_dispatcher(server: grpc.aio.Server, dispatcher: Dispatcher) -> None:
    """Serve DispatcherService on `server`."""
    dispatcher_pb2_grpc.add_DispatcherServiceServicer_to_server(dispatcher, server)
