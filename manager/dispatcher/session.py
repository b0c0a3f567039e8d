"""The stream between a worker and this manager.

After hello and acceptance the worker gets everything that its node should have, then differences: at once when
the stream was idle, else coalesced over a tick. One writer per stream.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

import grpc
from google.protobuf.duration_pb2 import Duration

from pycompose.manager.cache import Cache, Changes
from pycompose.manager.control import validate
from pycompose.manager.dispatcher import assignments
from pycompose.manager.dispatcher.nodes import Nodes
from pycompose.manager.dispatcher.revival import revive
from pycompose.manager.dispatcher.statuses import StatusWriter
from pycompose.manager.model import Codec
from pycompose.manager.store import Store
from pycompose.proto.refusal import InvalidError
from pycompose.proto.v1 import dispatcher_pb2, dispatcher_pb2_grpc

log = logging.getLogger(__name__)
Context = grpc.aio.ServicerContext[Any, Any]
HEARTBEAT_SECONDS = 5.0
TICK_SECONDS = 0.02


class Dispatcher(dispatcher_pb2_grpc.DispatcherServiceServicer):
    """Serves workers' sessions."""

    def __init__(self, store: Store, cache: Cache, codec: Codec, clock: Callable[[], float] = time.time) -> None:
        self._store, self._cache, self._codec = store, cache, codec
        self.nodes = Nodes(store, cache, codec, clock)
        self.statuses = StatusWriter(store, cache, codec)

    async def Session(
        self, requests: AsyncIterator[dispatcher_pb2.SessionRequest], context: Context
    ) -> AsyncIterator[dispatcher_pb2.SessionResponse]:
        """Serve one worker until either side ends."""
        first = await anext(aiter(requests), None)
        if first is None:
            return
        if first.WhichOneof("message") != "hello":
            raise InvalidError([("hello", "the first message must be a hello")])
        if wrong := validate.name(first.hello.node_id, "hello.node_id"):
            raise InvalidError(wrong)
        node_id, session_id = first.hello.node_id, secrets.token_hex(8)
        await self._cache.synchronize()
        await self.nodes.arrived(node_id, session_id, first.hello.description)
        self.statuses.add(node_id, first.hello.status)
        if first.hello.stopped_before_start:
            await revive(self._store, self._cache, self._codec, first.hello)
        accepted = dispatcher_pb2.SessionAccepted(session_id=session_id)
        accepted.heartbeat_period.CopyFrom(Duration(seconds=int(HEARTBEAT_SECONDS)))
        yield dispatcher_pb2.SessionResponse(accepted=accepted)
        ended = asyncio.Event()
        reader = asyncio.create_task(self._read(requests, node_id, ended))
        try:
            async for batch in self._batches(node_id, session_id, ended):
                yield dispatcher_pb2.SessionResponse(assignments=batch)
        finally:
            reader.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await reader
            self.nodes.left(node_id, session_id)

    async def _read(
        self, requests: AsyncIterator[dispatcher_pb2.SessionRequest], node_id: str, ended: asyncio.Event
    ) -> None:
        try:
            stream = aiter(requests)
            while True:
                async with asyncio.timeout(3 * HEARTBEAT_SECONDS):
                    request = await anext(stream, None)
                if request is None:
                    return
                if request.WhichOneof("message") == "status":
                    self.statuses.add(node_id, request.status)
                elif request.WhichOneof("message") == "description":
                    await self.nodes.described(node_id, request.description)
        except TimeoutError:
            log.warning("node %s: no heartbeat for %.0f s", node_id, 3 * HEARTBEAT_SECONDS)
        finally:
            ended.set()

    async def _batches(
        self, node_id: str, session_id: str, ended: asyncio.Event
    ) -> AsyncIterator[dispatcher_pb2.AssignmentBatch]:
        changed = asyncio.Event()
        changed.set()

        def hear(_: Changes) -> None:
            changed.set()

        stop = self._cache.listen(hear)
        sent: assignments.Wanted = {}
        sequence = 0
        try:
            while not ended.is_set() and self.nodes.holds(node_id, session_id):
                if await _either(changed, ended):
                    return
                changed.clear()
                wanted = assignments.wanted(self._cache, node_id, sent)
                changes = assignments.difference(sent, wanted)
                if changes or not sequence:
                    sequence += 1
                    yield dispatcher_pb2.AssignmentBatch(complete=sequence == 1, changes=changes, sequence=sequence)
                sent = wanted
                await asyncio.sleep(TICK_SECONDS)
        finally:
            stop()


async def _either(changed: asyncio.Event, ended: asyncio.Event) -> bool:
    """Wait for one of two events; returns whether the session has ended."""
    waits = [asyncio.create_task(event.wait()) for event in (changed, ended)]
    try:
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for wait in waits:
            wait.cancel()
    return ended.is_set()


def add_dispatcher(server: grpc.aio.Server, dispatcher: Dispatcher) -> None:
    """Serve DispatcherService on `server`."""
    dispatcher_pb2_grpc.add_DispatcherServiceServicer_to_server(dispatcher, server)
