"""A manager that waits for its unlock key: api.sock takes that one call, and answers each other one with what to do."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from pycompose.manager.doors import translate
from pycompose.manager.sealing import SealError
from pycompose.proto.guard import Guard
from pycompose.proto.refusal import BlockedError, ForbiddenError
from pycompose.proto.serving import api_group, listen, new_server
from pycompose.proto.v1 import cluster_pb2

UNLOCK = "/pycompose.v1.ClusterService/Unlock"
#: Between two tries of a key that is wrong.
PAUSE_SECONDS = 0.5
TEXT = (
    "this manager is locked, since it was started anew and autolock is on; containers run on; unlock it with the key "
    "that was printed then: pycompose cluster unlock"
)


class Waiting(grpc.GenericRpcHandler):
    """Answers calls until the key is there.

    Args:
        opener: makes the data key of an unlock key. Raises SealError.
    """

    def __init__(self, opener: Callable[[str], bytes]) -> None:
        self._opener = opener
        self._trying = asyncio.Lock()
        self.found: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> Any:
        """Return the handler of a call."""
        if handler_call_details.method == UNLOCK:
            return grpc.unary_unary_rpc_method_handler(
                self._unlock,
                request_deserializer=cluster_pb2.UnlockRequest.FromString,
                response_serializer=cluster_pb2.UnlockResponse.SerializeToString,
            )
        return grpc.stream_stream_rpc_method_handler(_refuse)

    async def _unlock(self, request: cluster_pb2.UnlockRequest, context: Any) -> cluster_pb2.UnlockResponse:
        async with self._trying:
            try:
                key = self._opener(request.key)
            except SealError as error:
                await asyncio.sleep(PAUSE_SECONDS)
                raise ForbiddenError(str(error), "WRONG_KEY") from None
        if not self.found.done():
            self.found.set_result(key)
        return cluster_pb2.UnlockResponse()


async def _refuse(requests: Any, context: Any) -> None:
    refusal = BlockedError(TEXT, "LOCKED")
    await context.abort(refusal.code, refusal.message, refusal.trailer())


class _Serving(health_pb2_grpc.HealthServicer):
    """The process is up: what starts the node waits for that."""

    async def Check(self, request: health_pb2.HealthCheckRequest, context: Any) -> health_pb2.HealthCheckResponse:
        """Say so."""
        return health_pb2.HealthCheckResponse(status=health_pb2.HealthCheckResponse.SERVING)


async def wait_for_key(path: Path, opener: Callable[[str], bytes], stopping: asyncio.Event) -> bytes | None:
    """Serve on api.sock until a person has entered the key; returns the data key, None when the manager is to stop.

    Args:
        path: of the socket.
        opener: makes the data key of an unlock key. Raises SealError.
        stopping: ends it.
    """
    waiting = Waiting(opener)
    server = new_server(Guard("the manager's log", translate))
    health_pb2_grpc.add_HealthServicer_to_server(_Serving(), server)
    server.add_generic_rpc_handlers((waiting,))
    await listen(server, path, api_group())
    stop = asyncio.ensure_future(stopping.wait())
    either: list[asyncio.Future[Any]] = [stop, waiting.found]
    try:
        await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        return waiting.found.result() if waiting.found.done() else None
    finally:
        stop.cancel()
        await server.stop(0.5)
        path.unlink(missing_ok=True)
