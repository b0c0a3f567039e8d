"""The door for others: the API over mutual TLS, on the address that the cluster was made with."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from pathlib import Path

import grpc

from pycompose.manager.cache import Cache
from pycompose.manager.cluster.identity import Keeper
from pycompose.manager.cluster.listening import Listening, why_not
from pycompose.manager.doors import Calls, put, translate
from pycompose.manager.model import CLUSTER, CLUSTER_ID
from pycompose.proto.guard import Guard
from pycompose.proto.peer import Authorizer
from pycompose.proto.serving import new_server
from pycompose.proto.tls import server_credentials

log = logging.getLogger(__name__)
FIRST_SECONDS, AGAIN_SECONDS = 0.5, 3.0
#: Workers ping each 2 s, clients while a call runs, to notice a manager that hangs; gRPC would end such connections.
PINGS = (("grpc.http2.min_recv_ping_interval_without_data_ms", 1000),)


class TlsDoor:
    """Opens as soon as there is a cluster and its address is free; that it is not keeps no other door closed.

    Args:
        folder: the manager's; says where to listen.
        keeper: the certificate.
        cache: has the cluster.
    """

    def __init__(self, folder: Path, keeper: Keeper, cache: Cache) -> None:
        self._folder, self._keeper, self._cache = folder, keeper, cache
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
            self._opening = asyncio.create_task(self._open(self.listening, self._calls))
            await asyncio.wait([self._opening], timeout=FIRST_SECONDS)

    async def _open(self, listening: Listening, calls: Calls) -> None:
        while True:
            self.problem = await self._try(listening, calls)
            if not self.problem:
                return log.info("serving on %s, reached as %s", listening.bound, listening.reached)
            log.error("%s; trying again", self.problem)
            await asyncio.sleep(AGAIN_SECONDS)

    async def _try(self, listening: Listening, calls: Calls) -> str:
        """Open the door; returns why it cannot be, "" when it is."""
        if reason := why_not(listening):
            return reason
        server = new_server(Guard("the manager's log", translate), Authorizer(self.cluster_id), options=PINGS)
        serving = put(calls, server)
        try:
            server.add_secure_port(listening.bound, server_credentials(self._keeper.current))
        except (OSError, RuntimeError, ValueError) as error:
            return f"nothing can listen on {listening.bound}: {error}"
        await server.start()
        await serving()
        self._server = server
        return ""

    async def close(self) -> None:
        """Stop."""
        if self._opening is not None:
            self._opening.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._opening
        if self._server is not None:
            await self._server.stop(0.5)
