"""Where the manager's calls can be made: each door is one server, with its own address and its own rules."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import grpc
import grpc.aio
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from pycompose.manager.store import StoreError, StoreFullError, TooManyOperationsError
from pycompose.proto.guard import Guard
from pycompose.proto.refusal import ExhaustedError, Refusal, UnreachableError
from pycompose.proto.serving import api_group, listen, new_server


def translate(error: Exception) -> Refusal | None:
    """Return how clients hear of the store's errors."""
    if isinstance(error, StoreFullError):
        return ExhaustedError(str(error), "disk")
    if isinstance(error, TooManyOperationsError):
        return ExhaustedError(f"the request changes too many objects at once ({error}); split it", "operations")
    if isinstance(error, StoreError):
        return UnreachableError(str(error))
    return None


@dataclass(frozen=True)
class Calls:
    """What is served.

    Attributes:
        adders: put services on a server.
        names: those services' full names.
        checks: come before each call.
    """

    adders: Iterable[Callable[[grpc.aio.Server], object]]
    names: Iterable[str]
    checks: Sequence[grpc.aio.ServerInterceptor] = ()


def put(calls: Calls, server: grpc.aio.Server) -> Callable[[], Awaitable[None]]:
    """Put the calls, health and reflection on a server; returns what tells health, once it listens, that it serves."""
    for add in calls.adders:
        add(server)
    status = health.aio.HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(status, server)
    reflection.enable_server_reflection([*calls.names, health.SERVICE_NAME, reflection.SERVICE_NAME], server)

    async def serving() -> None:
        for name in ("", *calls.names):
            await status.set(name, health_pb2.HealthCheckResponse.SERVING)

    return serving


class Door(Protocol):
    """One server."""

    async def open(self, calls: Calls) -> None:
        """Serve the calls. Raises OSError."""
        ...

    async def close(self) -> None:
        """Let calls that run end within half a second, then stop."""
        ...


class LocalDoor:
    """The unix socket api.sock, for root and the group `pycompose`."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._server: grpc.aio.Server | None = None

    async def open(self, calls: Calls) -> None:
        """Serve the calls, health and reflection."""
        server = self._server = new_server(Guard("the manager's log", translate), *calls.checks)
        serving = put(calls, server)
        await listen(server, self._path, api_group())
        await serving()

    async def close(self) -> None:
        """Stop, and remove the socket."""
        if self._server is not None:
            await self._server.stop(0.5)
            self._path.unlink(missing_ok=True)
