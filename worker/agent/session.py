"""The stream to a manager: hello, assignments down, statuses up; tried again for ever.

One writer, which coalesces what is new over a tick. When the stream ends, the next manager is tried at once; after all
of them were tried in vain comes a pause, which grows and is never the same for two workers. A manager that is silent
(paused, cut off) is noticed by HTTP/2's own pings, which need no words of ours.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import AsyncIterator, Callable, Sequence

import grpc

from pycompose.proto.refusal import says_removed
from pycompose.proto.v1 import dispatcher_pb2, dispatcher_pb2_grpc, node_pb2

log = logging.getLogger(__name__)
#: A manager on this machine is asked more often: no other worker does.
LONGEST_PAUSE_BESIDE = 1.0
TICK_SECONDS, LONGEST_PAUSE, CONNECT_SECONDS = 0.02, 5.0, 2.0
FIRST_PAUSE = 0.05
HEARTBEAT_SECONDS = 1.0


class Session:
    """Args: targets: gives the managers, best first; hello: makes the first message; accepted: hears that a manager
    has it; outgoing: takes what is to be sent; take: hears each batch of assignments; managers: hears where managers
    are; wake: is set when there is something to send; connect: makes the channel to a target; removed: hears that this
    node is of the cluster no longer, and what a manager said of it; trust: hears what its certificate is to be like;
    role: hears what the node is to be.
    """

    def __init__(
        self,
        targets: Callable[[], Sequence[str]],
        hello: Callable[[], dispatcher_pb2.SessionHello],
        accepted: Callable[[], None],
        outgoing: Callable[[], list[dispatcher_pb2.SessionRequest]],
        take: Callable[[dispatcher_pb2.AssignmentBatch], None],
        managers: Callable[[Sequence[str]], None],
        wake: asyncio.Event,
        connect: Callable[[str], grpc.aio.Channel],
        removed: Callable[[str], None] = lambda _: None,
        trust: Callable[[str], None] = lambda _: None,
        role: Callable[[node_pb2.NodeRole.ValueType], None] = lambda _: None,
    ) -> None:
        self._targets, self._hello, self._accepted, self._managers = targets, hello, accepted, managers
        self._outgoing, self._take, self._wake, self._connect = outgoing, take, wake, connect
        self._removed, self._trust, self._role = removed, trust, role
        self._period = HEARTBEAT_SECONDS
        #: The manager that has accepted this session; "" while there is none.
        self.target = ""
        self._last = False

    def last(self, last: bool) -> None:
        """Say whether no session follows the one that there is."""
        self._last = last

    async def run(self) -> None:
        """Hold a session for ever."""
        pause = FIRST_PAUSE
        while True:
            targets = () if self._last else self._targets()
            for target in targets:
                if await self._hold(target):
                    pause = FIRST_PAUSE
                    break
            await asyncio.sleep(pause * random.uniform(0.5, 1.0))
            beside = any(target.startswith("unix:") for target in targets)
            pause = min(pause * 2, LONGEST_PAUSE_BESIDE if beside else LONGEST_PAUSE)

    async def _hold(self, target: str) -> bool:
        """One session; returns whether a manager had accepted it."""
        accepted = False
        try:
            async with self._connect(target) as channel:
                async with asyncio.timeout(CONNECT_SECONDS):
                    await channel.channel_ready()
                stub = dispatcher_pb2_grpc.DispatcherServiceStub(channel)
                async for response in stub.Session(self._requests()):
                    accepted = True
                    self._hear(response, target)
            log.info("the manager at %s ended the session", target)
        except grpc.aio.AioRpcError as error:
            log.info("no session with the manager at %s: %s", target, error.details())
            if says_removed(error):
                self._removed(error.details() or "")
        except TimeoutError:
            log.info("no manager at %s: it does not answer", target)
        except OSError as error:
            log.warning("no session with a manager at %s: %s", target, error)
        finally:
            self.target = ""
        return accepted

    def _hear(self, response: dispatcher_pb2.SessionResponse, target: str) -> None:
        kind = response.WhichOneof("message")
        if kind == "assignments":
            self._take(response.assignments)
        elif kind == "role":
            self._role(response.role)
        elif kind == "managers":
            self._managers(response.managers.addresses)
        elif kind == "trust":
            self._trust(response.trust.fingerprint)
        elif kind == "accepted":
            self._period = response.accepted.heartbeat_period.ToNanoseconds() / 1e9 or HEARTBEAT_SECONDS
            self._managers(response.accepted.managers)
            self._role(response.accepted.role)
            self.target = target
            self._accepted()

    async def _requests(self) -> AsyncIterator[dispatcher_pb2.SessionRequest]:
        yield dispatcher_pb2.SessionRequest(hello=self._hello())
        while True:
            try:
                async with asyncio.timeout(self._period * random.uniform(0.8, 1.2)):
                    await self._wake.wait()
            except TimeoutError:
                yield dispatcher_pb2.SessionRequest(heartbeat=dispatcher_pb2.Heartbeat())
                continue
            self._wake.clear()
            for request in self._outgoing():
                yield request
            await asyncio.sleep(TICK_SECONDS)
