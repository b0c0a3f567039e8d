"""What stands before every call of a server: a refusal becomes its status with details, a fault an id.

No exception's text or traceback reaches a client: what is not a `Refusal` (or known to `translate`) is logged with
a random id, and the client gets INTERNAL and that id.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import inspect
import logging
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import grpc

from pycompose.proto.refusal import InternalError, Refusal

log = logging.getLogger(__name__)
Translate = Callable[[Exception], Refusal | None]


class Guard(grpc.aio.ServerInterceptor):
    """An interceptor for grpc.aio servers.

    Args:
        where: what to read for a fault's reason, for clients ("the manager's log").
        translate: turns the server's own errors into refusals; None: it is a fault.
    """

    def __init__(self, where: str, translate: Translate = lambda _: None) -> None:
        self._where, self._translate = where, translate

    async def intercept_service(
        self, continuation: Callable[[Any], Awaitable[Any]], handler_call_details: grpc.HandlerCallDetails
    ) -> Any:
        """Return the call's handler with this guard around it."""
        handler = await continuation(handler_call_details)
        if handler is None:
            return None
        kind = "_".join(
            "stream" if many else "unary" for many in (handler.request_streaming, handler.response_streaming)
        )
        make = getattr(grpc, f"{kind}_rpc_method_handler")
        guarded = self._guarded(getattr(handler, kind), handler_call_details.method)
        return make(guarded, handler.request_deserializer, handler.response_serializer)

    def _guarded(self, call: Callable[..., Any], method: str) -> Callable[..., Any]:
        if inspect.isasyncgenfunction(call):

            @functools.wraps(call)
            async def streaming(request: Any, context: Any) -> AsyncIterator[Any]:
                try:
                    async with contextlib.aclosing(call(request, context)) as responses:
                        async for response in responses:
                            yield response
                except Exception as error:
                    await self._end(error, method, context)

            return streaming

        @functools.wraps(call)
        async def single(request: Any, context: Any) -> Any:
            try:
                return await call(request, context)
            except Exception as error:
                return await self._end(error, method, context)

        return single

    async def _end(self, error: Exception, method: str, context: Any) -> None:
        if isinstance(error, (grpc.aio.AbortError, asyncio.CancelledError)) or context.done():
            raise error
        refusal = error if isinstance(error, Refusal) else self._translate(error)
        if refusal is None:
            identity = secrets.token_hex(4)
            log.error("internal error %s in %s", identity, method, exc_info=error)
            refusal = InternalError(identity, self._where)
        await context.abort(refusal.code, refusal.message, refusal.trailer())
