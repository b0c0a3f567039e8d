"""The worker's calls for managers and other nodes: TCP, mutual TLS, and the table of who may call what."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable
from pathlib import Path

import grpc

from pycompose.proto.guard import Guard
from pycompose.proto.peer import Authorizer
from pycompose.proto.serving import new_server
from pycompose.proto.tls import Identity, server_credentials
from pycompose.worker.access.refusals import translate

log = logging.getLogger(__name__)
AGAIN_SECONDS = 3.0


class RemoteDoor:
    """Opens as soon as it can; that it cannot (its port is taken, say) keeps the node from nothing else.

    Args:
        make: makes the server, which is not started. Raises OSError, RuntimeError: it cannot listen.
        address: for messages.
    """

    def __init__(self, make: Callable[[], grpc.aio.Server], address: str) -> None:
        self._make, self._address = make, address
        self._server: grpc.aio.Server | None = None
        self._opening: asyncio.Task[None] | None = None
        #: Why it is not open; "" when it is.
        self.problem = ""

    async def open(self) -> None:
        """Open now, or go on trying."""
        if not await self._try():
            self._opening = asyncio.create_task(self._go_on())

    async def _try(self) -> bool:
        try:
            server = self._make()
            await server.start()
        except (OSError, RuntimeError, ValueError) as error:
            self.problem = (
                f"managers and other nodes do not reach this one: nothing can listen on {self._address} ({error}); "
                "stop what listens there"
            )
            log.error("%s; trying again", self.problem)
            return False
        self._server, self.problem = server, ""
        return True

    async def _go_on(self) -> None:
        while True:
            await asyncio.sleep(AGAIN_SECONDS)
            if await self._try():
                return

    async def stop(self, grace: float) -> None:
        """Stop; calls may end within `grace` seconds."""
        if self._opening is not None:
            self._opening.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._opening
        if self._server is not None:
            await self._server.stop(grace)


def new_remote_server(identity: Path, cluster_id: str, address: str) -> grpc.aio.Server:
    """Return a server that is not started.

    Args:
        identity: folder of the node's certificate; a renewed one is shown from the next connection on.
        cluster_id: certificates of others are refused.
        address: "HOST:PORT" to listen on.

    Raises: OSError: there is no certificate; RuntimeError: the address cannot be had.
    """
    server = new_server(Guard("the node's log", translate), Authorizer(lambda: cluster_id))
    server.add_secure_port(address, server_credentials(lambda: Identity.load(identity)))
    return server
