"""The doors for others: the API over mutual TLS, and joining, on the address that the cluster was made with.

Who joins has no certificate yet, so that joining has a port of its own, where the caller shows none. Nothing else is
there, and it may take few connections, for a short time each: who fills it up keeps others from joining, and from
nothing else.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable
from pathlib import Path

import grpc

from pycompose.manager.cache import Cache
from pycompose.manager.cluster.identity import Keeper
from pycompose.manager.cluster.listening import Listening, joined, why_not
from pycompose.manager.doors import Calls, put, translate
from pycompose.manager.model import CLUSTER, CLUSTER_ID
from pycompose.proto.guard import Guard
from pycompose.proto.peer import Authorizer
from pycompose.proto.serving import new_server
from pycompose.proto.tls import Identity, server_credentials

log = logging.getLogger(__name__)
FIRST_SECONDS, AGAIN_SECONDS = 0.5, 3.0
#: Connections of machines that join: how many at once, and for how many milliseconds each.
JOINING = (
    ("grpc.max_allowed_incoming_connections", 256),
    ("grpc.server_handshake_timeout_ms", 5_000),
    ("grpc.max_connection_age_ms", 60_000),
    ("grpc.max_connection_idle_ms", 10_000),
)
Serving = Callable[[], Awaitable[None]]


class TlsDoor:
    """Opens as soon as there is a cluster and its address is free; that it is not keeps no other door closed.

    Args:
        folder: the manager's; says where to listen.
        keeper: the certificate.
        cache: has the cluster.
        more: puts on the server what only others call.
    """

    def __init__(
        self, folder: Path, keeper: Keeper, cache: Cache, more: Callable[[grpc.aio.Server], None] = lambda _: None
    ) -> None:
        self._folder, self._cache, self._keeper, self._more = folder, cache, keeper, more
        self.listening: Listening | None = None
        self.problem = ""
        self._calls = Calls((), ())
        self._server: grpc.aio.Server | None = None
        self._opening: asyncio.Task[None] | None = None

    def cluster_id(self) -> str:
        """Return the cluster's id; "" while there is none."""
        cluster = self._cache.get(CLUSTER, CLUSTER_ID)
        return "" if cluster is None else str(cluster.id)

    async def open(self, calls: Calls) -> None:
        """Serve the calls once there is a cluster, now or later."""
        self._calls = calls
        await self.begin()

    async def begin(self) -> None:
        """Begin to open, where this node is of a cluster; tried for ever, in the background. Raises ValueError."""
        self.listening = Listening.load(self._folder)
        if self.listening is not None and self.cluster_id() and self._opening is None:
            self._opening = asyncio.create_task(self._open(self.listening))
            await asyncio.wait([self._opening], timeout=FIRST_SECONDS)

    async def _open(self, listening: Listening) -> None:
        while True:
            self.problem = await self._try(listening)
            if not self.problem:
                return
            log.error("%s; trying again", self.problem)
            await asyncio.sleep(AGAIN_SECONDS)

    def _port(self, listening: Listening) -> int:
        return listening.port

    def _made(self) -> tuple[grpc.aio.Server, Serving]:
        """Return a server with its calls, and what tells that it serves."""
        server = new_server(Guard("the manager's log", translate), Authorizer(self.cluster_id), *self._calls.checks)
        self._more(server)
        return server, put(self._calls, server)

    def _credentials(self) -> grpc.ServerCredentials:
        return server_credentials(self._keeper.current)

    async def _try(self, listening: Listening) -> str:
        """Open the door; returns why it cannot be, "" when it is."""
        port = self._port(listening)
        if reason := why_not(listening.address, port):
            return reason
        bound = joined(listening.address, port)
        server, serving = self._made()
        try:
            server.add_secure_port(bound, self._credentials())
        except (OSError, RuntimeError, ValueError) as error:
            return f"nothing can listen on {bound}: {error}"
        await server.start()
        await serving()
        self._server = server
        log.info("serving on %s, reached as %s", bound, joined(listening.advertise, port))
        return ""

    async def close(self) -> None:
        """Stop."""
        if self._opening is not None:
            self._opening.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._opening
        if self._server is not None:
            await self._server.stop(0.5)


class JoinDoor(TlsDoor):
    """Where machines join; `more` alone is served."""

    def _port(self, listening: Listening) -> int:
        return listening.join_port

    def _made(self) -> tuple[grpc.aio.Server, Serving]:
        checks = (Authorizer(self.cluster_id), *self._calls.checks)
        server = new_server(Guard("the manager's log", translate), *checks, options=JOINING)
        self._more(server)

        async def serving() -> None:
            return None

        return server, serving

    def _credentials(self) -> grpc.ServerCredentials:
        return server_credentials(self._with_authorities, mutual=False)

    def _with_authorities(self) -> Identity:
        """Return what is shown: the certificate, and the authorities after it, by which a token knows the cluster."""
        own = self._keeper.current()
        return Identity(own.certificate + own.authorities, own.key, own.authorities)
