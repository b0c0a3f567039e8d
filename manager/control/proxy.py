"""TaskAccessService and ImageService on behalf of workers: messages pass as bytes, unread.

Every gRPC method is a stream both ways on the wire, so one handler serves them all; half-close, cancellation,
status and trailing metadata pass through. Back pressure comes from awaiting each write.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import grpc

from pycompose.manager.control.api import ServicerContext

WORKER_SECONDS = 10.0
"""How long a call waits for a worker that is just starting, or starting anew."""
_LOST = ("failed to connect", "Connection refused", "Socket closed", "Connection reset", "No such file")
"""What gRPC itself says of a connection; the worker's own UNAVAILABLE (of a registry) is passed on as it is."""
OPTIONS = (
    ("grpc.max_receive_message_length", -1),
    ("grpc.max_send_message_length", -1),
    ("grpc.initial_reconnect_backoff_ms", 50),
    ("grpc.min_reconnect_backoff_ms", 50),
    ("grpc.max_reconnect_backoff_ms", 500),
)
"""No limit of size, and soon connected again: the worker is on this machine."""
PREFIXES = ("/pycompose.v1.TaskAccessService/", "/pycompose.v1.ImageService/")


class Proxy(grpc.GenericRpcHandler):
    """Passes calls on to the worker at `target` (a gRPC target such as "unix:/run/pycompose/worker.sock")."""

    def __init__(self, target: str) -> None:
        self._target = target
        self._channel: grpc.aio.Channel | None = None

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> Any:
        """Return the handler of one call, None when it is not ours."""
        method = handler_call_details.method
        if not method.startswith(PREFIXES):
            return None

        async def forward(requests: AsyncIterator[bytes], context: ServicerContext) -> AsyncIterator[bytes]:
            async for response in self._forward(method, requests, context):
                yield response

        return grpc.stream_stream_rpc_method_handler(forward)

    async def _forward(
        self, method: str, requests: AsyncIterator[bytes], context: ServicerContext
    ) -> AsyncIterator[bytes]:
        if self._channel is None:
            self._channel = grpc.aio.insecure_channel(self._target, options=OPTIONS)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._channel.channel_ready(), WORKER_SECONDS)
        call: Any = self._channel.stream_stream(method)()
        writer = asyncio.create_task(_write(call, requests))
        try:
            async for response in call:
                yield response
        except grpc.aio.AioRpcError as error:
            details = error.details() or ""
            if error.code() == grpc.StatusCode.UNAVAILABLE and any(word in details for word in _LOST):
                details = f"the worker does not answer ({details}); look at `pycompose node status`"
            trailing = tuple((key, value) for key, value in error.trailing_metadata() or ())
            await context.abort(error.code(), details, trailing)
        finally:
            call.cancel()
            writer.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await writer

    async def close(self) -> None:
        """Close the connection to the worker."""
        if self._channel is not None:
            await self._channel.close()


async def _write(call: Any, requests: AsyncIterator[bytes]) -> None:
    try:
        async for request in requests:
            await call.write(request)
        await call.done_writing()
    except (grpc.aio.AioRpcError, asyncio.InvalidStateError, grpc.aio.UsageError):
        return  # the call has ended; its reader tells how


def add_proxies(server: grpc.aio.Server, target: str) -> Proxy:
    """Serve task access and images on `server` by the worker at `target`."""
    proxy = Proxy(target)
    server.add_generic_rpc_handlers((proxy,))
    return proxy
