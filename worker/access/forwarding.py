"""Connections to a container's ports, made from within its network.

A socket belongs to the network namespace that its thread is in when it is made (network_namespaces(7)), and stays
there: a thread enters the container's for that one call, and everything else happens on the agent's loop. Nothing of
the container is run or opened, so that it works in a container without a shell.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections.abc import AsyncIterator, Sequence
from typing import Any

from pycompose.proto.refusal import BlockedError, InvalidError
from pycompose.proto.v1 import access_pb2
from pycompose.worker.access.base import Calls, Context, begin
from pycompose.worker.agent.runner import Runner
from pycompose.worker.network import netns

PIECE = 64 * 1024
CONNECT_SECONDS = 10.0


class ForwardCalls(Calls):
    """PortForward."""

    async def PortForward(
        self, requests: AsyncIterator[access_pb2.PortForwardRequest], context: Context
    ) -> AsyncIterator[access_pb2.PortForwardResponse]:
        """Join a client's stream to a connection."""
        start, rest = await begin(requests)
        if not 0 < start.port < 1 << 16:
            raise InvalidError([("start.port", f"{start.port} is no port; want 1-65535")])
        runner = await self._running(start.task_id)
        reader, writer = await connected(runner, start.port)
        feeding = asyncio.create_task(_feed(rest, writer))
        try:
            yield access_pb2.PortForwardResponse(started=access_pb2.PortForwardStarted())
            while data := await reader.read(PIECE):
                yield access_pb2.PortForwardResponse(data=data)
                _raise_wrong(feeding)
            yield access_pb2.PortForwardResponse(closed=access_pb2.StreamClosed())
            await feeding
        except OSError as error:
            words = f"port {start.port} of {runner.task.name}: {error.strerror or error}"
            raise BlockedError(words, "CUT", runner.task.name) from None
        finally:
            feeding.cancel()
            writer.transport.abort()
            await asyncio.gather(feeding, return_exceptions=True)


def _raise_wrong(feeding: asyncio.Task[None]) -> None:
    if feeding.done() and not feeding.cancelled() and feeding.exception() is not None:
        feeding.result()


async def _feed(requests: AsyncIterator[Any], writer: asyncio.StreamWriter) -> None:
    """Write what a client sends, as fast as the program reads it. Raises InvalidError, OSError."""
    async for request in requests:
        kind = request.WhichOneof("message")
        if kind == "data":
            writer.write(request.data)
            await writer.drain()
        elif kind == "closed":
            writer.write_eof()
            return
        else:
            raise InvalidError([("message", "only the first message is a start; then bytes and their end")])


async def connected(runner: Runner, port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Connect to a port of a container: on its loopback, or else at an address of its own. Raises BlockedError."""
    own = [text.split("/")[0] for one in runner.task.attachments for text in (one.address, one.ipv6_address) if text]
    troubles: list[OSError | TimeoutError] = []
    for address in ("127.0.0.1", "::1", *own):
        try:
            sock = await asyncio.to_thread(_socket_inside, runner.record.pid, address)
        except OSError as error:
            troubles.append(error)
            continue
        try:
            async with asyncio.timeout(CONNECT_SECONDS):
                await asyncio.get_running_loop().sock_connect(sock, (address, port))
                return await asyncio.open_connection(sock=sock, limit=PIECE)
        except (OSError, TimeoutError) as error:
            sock.close()
            troubles.append(error)
        except BaseException:
            sock.close()
            raise
    raise BlockedError(refusal(runner.task.name, port, troubles), "NOT_LISTENING", runner.task.name)


def refusal(name: str, port: int, troubles: Sequence[OSError | TimeoutError]) -> str:
    """Return why a port could not be connected to. Pure."""
    if any(isinstance(one, ConnectionRefusedError) for one in troubles):
        return f"nothing listens on port {port} in container {name}"
    words = next((one.strerror for one in troubles if isinstance(one, OSError) and one.strerror), "it does not answer")
    return f"port {port} in container {name} cannot be reached: {words}"


def _socket_inside(pid: int, address: str) -> socket.socket:
    """Return a socket of the network namespace that a process is in; for a thread. Raises OSError."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with contextlib.ExitStack() as stack:
        home = netns.current()
        stack.callback(os.close, home)
        inside = netns.open_file(f"/proc/{pid}/ns/net")
        stack.callback(os.close, inside)
        stack.enter_context(netns.inside(inside, home))
        sock = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    sock.setblocking(False)
    return sock


__all__ = ["ForwardCalls"]
