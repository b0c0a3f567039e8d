"""The stream to the manager: hello, assignments down, statuses up; tried again for ever with growing pauses.

One writer, which coalesces what is new over a tick.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import AsyncIterator, Callable

import grpc

from pycompose.proto.v1 import dispatcher_pb2, dispatcher_pb2_grpc

log = logging.getLogger(__name__)
TICK_SECONDS, LONGEST_PAUSE = 0.02, 5.0


class Session:
    """Args: target: gRPC target of the manager; hello: makes the first message; accepted: hears
    that a manager has it; outgoing: takes what is to be sent.

    `take` hears each batch of assignments; `wake` is set when there is something to send.
    """

    def __init__(
        self,
        target: str,
        hello: Callable[[], dispatcher_pb2.SessionHello],
        accepted: Callable[[], None],
        outgoing: Callable[[], list[dispatcher_pb2.SessionRequest]],
        take: Callable[[dispatcher_pb2.AssignmentBatch], None],
        wake: asyncio.Event,
    ) -> None:
        self._target, self._hello, self._accepted = target, hello, accepted
        self._outgoing, self._take, self._wake = outgoing, take, wake

    async def run(self) -> None:
        """Hold a session for ever."""
        pause = 0.05
        while True:
            try:
                async with grpc.aio.insecure_channel(
                    self._target, options=[("grpc.max_receive_message_length", -1)]
                ) as channel:
                    stub = dispatcher_pb2_grpc.DispatcherServiceStub(channel)
                    async for response in stub.Session(self._requests()):
                        pause = 0.05
                        if response.WhichOneof("message") == "assignments":
                            self._take(response.assignments)
                        else:
                            self._accepted()
            except grpc.aio.AioRpcError as error:
                log.info("no manager at %s: %s", self._target, error.details())
            await asyncio.sleep(pause * random.uniform(0.5, 1.0))
            pause = min(pause * 2, LONGEST_PAUSE)

    async def _requests(self) -> AsyncIterator[dispatcher_pb2.SessionRequest]:
        yield dispatcher_pb2.SessionRequest(hello=self._hello())
        while True:
            try:
                async with asyncio.timeout(5.0):
                    await self._wake.wait()
            except TimeoutError:
                yield dispatcher_pb2.SessionRequest(heartbeat=dispatcher_pb2.Heartbeat())
                continue
            self._wake.clear()
            for request in self._outgoing():
                yield request
            await asyncio.sleep(TICK_SECONDS)
