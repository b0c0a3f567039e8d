"""What the sockets on published ports (``hostports``) forward: what nftables does not carry.

nftables carries traffic from outside and from the machine to its own addresses. What is left for these sockets:
loopback (``route_localnet`` stays 0, so it cannot be translated) and IPv6.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

Target = Callable[[], tuple[str, int]]
OpenSocket = Callable[[int, int], Awaitable[socket.socket]]
"""Open a socket of (family, type) in the machine's namespace."""
_UDP_IDLE_S = 30.0
_CHUNK = 64 * 1024


class Forwarder:
    """The sockets of one published port, and what they forward. ``target`` is asked for each connection."""

    def __init__(self, sockets: list[socket.socket], target: Target, open_socket: OpenSocket) -> None:
        self._sockets = sockets
        self._target = target
        self._open = open_socket
        self._servers: list[asyncio.Server] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._peers: dict[tuple[int, Any], asyncio.Queue[bytes]] = {}

    async def start(self) -> None:
        """Serve."""
        for each in self._sockets:
            if each.type & socket.SOCK_STREAM and not each.type & socket.SOCK_DGRAM:
                self._servers.append(await asyncio.start_server(self._connection, sock=each))
            else:
                self._spawn(self._datagrams(each))

    async def close(self) -> None:
        """Give the port back and end what was forwarded."""
        for server in self._servers:
            server.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for each in self._sockets:
            each.close()

    def _spawn(self, work: Any) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        outward = await self._open(socket.AF_INET, socket.SOCK_STREAM)
        try:
            async with asyncio.timeout(10):
                await asyncio.get_running_loop().sock_connect(outward, self._target())
            far_reader, far_writer = await asyncio.open_connection(sock=outward)
        except (OSError, TimeoutError):
            outward.close()
            writer.transport.abort()
            return
        try:
            await asyncio.gather(_pump(reader, far_writer), _pump(far_reader, writer))
        except (OSError, asyncio.CancelledError):
            pass  # cancelled when the port is given back: this task ends here
        finally:
            far_writer.close()
            writer.close()

    async def _datagrams(self, near: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                data, peer = await loop.sock_recvfrom(near, _CHUNK)
            except OSError:
                continue
            key = (near.fileno(), peer)
            queue = self._peers.get(key)
            if queue is None:
                queue = self._peers[key] = asyncio.Queue(256)
                self._spawn(self._udp_peer(near, peer, key, queue))
            with suppress(asyncio.QueueFull):
                queue.put_nowait(data)

    async def _udp_peer(
        self, near: socket.socket, peer: Any, key: tuple[int, Any], queue: asyncio.Queue[bytes]
    ) -> None:
        loop = asyncio.get_running_loop()
        far = await self._open(socket.AF_INET, socket.SOCK_DGRAM)

        async def back() -> None:
            while True:
                with suppress(ConnectionRefusedError):
                    await loop.sock_sendto(near, await loop.sock_recv(far, _CHUNK), peer)

        returning = None
        try:
            await loop.sock_connect(far, self._target())
            returning = asyncio.create_task(back())
            while True:
                async with asyncio.timeout(_UDP_IDLE_S):
                    data = await queue.get()
                with suppress(ConnectionRefusedError):
                    await loop.sock_sendall(far, data)
        except (TimeoutError, OSError):
            pass
        finally:
            del self._peers[key]
            if returning is not None:
                returning.cancel()
            far.close()


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(_CHUNK):
        writer.write(data)
        await writer.drain()
    writer.write_eof()
    if writer.can_write_eof():
        writer.write_eof()
