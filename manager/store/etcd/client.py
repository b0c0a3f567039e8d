"""etcd's gRPC services over several endpoints: calls with a time limit, and what their failures mean.

Calls go by their paths, so that nothing of etcd's own names is registered in this process (see wire.proto). A call
goes to the endpoint that answered last; one that cannot be reached is left for the next. Reads are tried at each
endpoint once; a write is not repeated, since it may have been done. Source: https://etcd.io/docs/v3.4/learning/api/.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import TypeVar

import grpc
import grpc.aio
from google.protobuf.message import Message

from pycompose.manager.store.etcd import wire_pb2 as wire
from pycompose.manager.store.interface import (
    CompactedError,
    StoreClosedError,
    StoreError,
    StoreFullError,
    StoreUnavailableError,
)

Answer = TypeVar("Answer", bound=Message)
#: Seconds that a call may take; past that the members have no leader, or no majority.
TIMEOUT = 5.0
_OPTIONS = (
    ("grpc.max_receive_message_length", -1),
    ("grpc.max_send_message_length", -1),
    ("grpc.keepalive_time_ms", 5_000),
    ("grpc.keepalive_timeout_ms", 3_000),
    ("grpc.http2.max_pings_without_data", 0),
    # gRPC's own pauses grow up to two minutes, and a member that is back is needed at once
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 1_000),
    ("grpc.max_reconnect_backoff_ms", 500),
)
_GONE = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED)


class Client:
    """Args: endpoints: host:port of each member; credentials: TLS, None for none; timeout: of a call, in seconds."""

    def __init__(
        self, endpoints: Sequence[str], credentials: grpc.ChannelCredentials | None = None, timeout: float = TIMEOUT
    ) -> None:
        if not endpoints:
            raise ValueError("no endpoints")
        self._timeout = timeout
        self._endpoints, self._credentials = list(endpoints), credentials
        self._current = 0
        self._channels: dict[str, grpc.aio.Channel] = {}
        self.closed = False

    def channel(self) -> grpc.aio.Channel:
        """The connection to the endpoint in use.

        Raises:
            StoreClosedError: the client was closed.
        """
        if self.closed:
            raise StoreClosedError("the store is closed")
        endpoint = self._endpoints[self._current]
        if endpoint not in self._channels:
            if self._credentials is None:
                self._channels[endpoint] = grpc.aio.insecure_channel(endpoint, options=_OPTIONS)
            else:
                self._channels[endpoint] = grpc.aio.secure_channel(endpoint, self._credentials, options=_OPTIONS)
        return self._channels[endpoint]

    def leave(self, channel: grpc.aio.Channel) -> None:
        """Use the next endpoint, unless that was done since `channel` was given out."""
        if self._channels.get(self._endpoints[self._current]) is channel:
            self._current = (self._current + 1) % len(self._endpoints)

    async def read(self, path: str, request: Message, answer: type[Answer]) -> Answer:
        """Call a method that changes nothing; each endpoint is asked until one answers."""
        for _ in self._endpoints[1:]:
            try:
                return await self.write(path, request, answer)
            except StoreUnavailableError:
                continue
        return await self.write(path, request, answer)

    async def write(self, path: str, request: Message, answer: type[Answer], timeout: float = 0.0) -> Answer:
        """Call a method once.

        Args:
            path: such as "KV/Txn"; of the package etcdserverpb.
            request: its message.
            answer: the type of what it returns.
            timeout: in seconds; 0: the client's.

        Raises:
            StoreUnavailableError: no answer; it may have been done all the same.
            CompactedError, StoreFullError, StoreClosedError, ValueError, StoreError: see `refused`.
        """
        channel = self.channel()
        call = channel.unary_unary(f"/etcdserverpb.{path}", type(request).SerializeToString, answer.FromString)
        try:
            return await call(request, timeout=timeout or self._timeout)
        except grpc.aio.AioRpcError as error:
            if error.code() in _GONE:
                self.leave(channel)
            raise self.refused(error) from None
        except asyncio.CancelledError:
            self.raise_if_closed()
            raise

    def refused(self, error: grpc.aio.AioRpcError) -> Exception:
        """What a failed call means to a user of the store."""
        code, text = error.code(), (error.details() or "").removeprefix("etcdserver: ")
        if self.closed:
            return StoreClosedError("the store is closed")
        if code in _GONE:
            return StoreUnavailableError(f"no answer from etcd at {', '.join(self._endpoints)}: {text}")
        if "learner" in text and "not supported" in text:
            return StoreUnavailableError("this manager's copy of the store is not complete yet")
        if "compacted" in text:
            return CompactedError(f"the history asked for is gone: {text}")
        if "space exceeded" in text:
            return StoreFullError(
                f"etcd has no space left: its file has reached its quota ({text}); the managers make it smaller by "
                "themselves within minutes, see pycompose node logs"
            )
        if "lease not found" in text:
            return ValueError(f"the lease is unknown: {text}")
        return StoreError(f"etcd refused: {text}")

    def raise_if_closed(self) -> None:
        """Turn the cancellation that closing causes into its reason; a task that is being cancelled stays so."""
        task = asyncio.current_task()
        if self.closed and not (task and task.cancelling()):
            raise StoreClosedError("the store is closed") from None

    async def keep_alive(self, lease: int) -> int:
        """Give a lease its full time again; returns the seconds, 0 when it has ended."""
        channel = self.channel()
        call = channel.stream_stream(
            "/etcdserverpb.Lease/LeaseKeepAlive",
            wire.LeaseRequest.SerializeToString,
            wire.LeaseKeepAliveResponse.FromString,
        )(timeout=self._timeout)
        try:
            await call.write(wire.LeaseRequest(id=lease))
            answer = await call.read()
        except grpc.aio.AioRpcError as error:
            if error.code() in _GONE:
                self.leave(channel)
            raise self.refused(error) from None
        except asyncio.CancelledError:
            self.raise_if_closed()
            raise
        finally:
            call.cancel()
        return answer.ttl if isinstance(answer, wire.LeaseKeepAliveResponse) else 0

    async def status(self) -> wire.StatusResponse:
        """Return the status of the member in use: version, sizes, leader."""
        return await self.read("Maintenance/Status", wire.StatusRequest(), wire.StatusResponse)

    async def close(self) -> None:
        """End every call and connection."""
        self.closed = True
        for channel in self._channels.values():
            await channel.close(None)
        self._channels.clear()


def check_version(version: str) -> None:
    """Refuse versions of etcd that lose data or lack what we use.

    Raises:
        StoreError: says which to use.
    """
    numbers = tuple(int(part) for part in version.split("-")[0].split(".")[:3] if part.isdigit())
    if numbers < (3, 4):
        raise StoreError(f"etcd {version} is too old; use 3.4 or later")
    if (3, 5, 0) <= numbers <= (3, 5, 2):
        # https://github.com/etcd-io/etcd/issues/13766: members may differ after a crash
        raise StoreError(f"etcd {version} can lose data when it is killed; use 3.5.3 or later, or 3.4")
