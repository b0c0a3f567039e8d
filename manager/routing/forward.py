"""One call to one worker: messages pass as bytes, unread.

Every gRPC method is a stream both ways on the wire, so one way serves them all; half-close, cancellation, status and
trailing metadata pass through.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator
from typing import Any

import grpc

_LOST = ("failed to connect", "Connection refused", "Socket closed", "Connection reset", "No such file", "GOAWAY")
"""What gRPC itself says of a connection; the worker's own UNAVAILABLE (of a registry) is passed on as it is."""


async def forward(
    channel: grpc.aio.Channel, method: str, requests: AsyncIterator[bytes]
) -> AsyncGenerator[bytes, None]:
    """Yield the worker's answers to a call. Raises grpc.aio.AioRpcError: how the call ended, if not well."""
    call: Any = channel.stream_stream(method)()
    writer = asyncio.create_task(_write(call, requests))
    try:
        async for response in call:
            yield response
    finally:
        call.cancel()
        writer.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await writer


async def _write(call: Any, requests: AsyncIterator[bytes]) -> None:
    try:
        async for request in requests:
            await call.write(request)
        await call.done_writing()
    except (grpc.aio.AioRpcError, asyncio.InvalidStateError, grpc.aio.UsageError):
        return  # the call has ended; its reader tells how


def words_of(error: grpc.aio.AioRpcError, where: str) -> str:
    """Return what a client is told of a call's end. `where`: name of the worker's node."""
    details = error.details() or ""
    if error.code() == grpc.StatusCode.UNAVAILABLE and any(word in details for word in _LOST):
        return f"the worker of {where} does not answer ({details}); look at `pycompose node status` there"
    return details


async def alone(first: bytes) -> AsyncIterator[bytes]:
    """Yield the only message of a call."""
    yield first
