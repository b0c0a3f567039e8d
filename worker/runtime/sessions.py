"""The agent's end of an attach or exec: streams both ways over one connection to the shim."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

from pycompose.worker.runtime import protocol
from pycompose.worker.runtime.errors import RuntimeFault


class Session:
    """Iterate it for (stream, data) with stream "stdout" or "stderr"; a terminal has "stdout" only.

    ``wait`` gives the exit code once the output has been read to its end.
    """

    def __init__(
        self, connection: socket.socket, pid: int, control: Callable[[dict[str, Any]], Awaitable[None]], *, own: bool
    ) -> None:
        """``control`` asks the shim something beside the streams; ``own``: an attach, not an exec."""
        self._connection, self.pid, self._control, self._own = connection, pid, control, own
        self._loop = asyncio.get_running_loop()
        #: Of an attach: output since the start comes; else that from this time on (ns since the epoch).
        self.from_start, self.at_ns = False, 0
        self._code: int | None = None
        self._ended = False

    async def read(self) -> tuple[str, bytes] | None:
        """The next piece of output; None at the end."""
        while not self._ended:
            try:
                message = await self._loop.sock_recv(self._connection, protocol.LIMIT)
            except OSError:
                message = b""
            kind = message[:1]
            if kind in (protocol.STDOUT, protocol.STDERR):
                return ("stdout" if kind == protocol.STDOUT else "stderr"), message[1:]
            if kind == protocol.EXIT:
                self._code = int(protocol.decode(message)["code"])
            if kind == protocol.EXIT or not message:
                self._ended = True
                self.close()
        return None

    def __aiter__(self) -> AsyncIterator[tuple[str, bytes]]:
        return self._pieces()

    async def _pieces(self) -> AsyncIterator[tuple[str, bytes]]:
        while (piece := await self.read()) is not None:
            yield piece

    async def write(self, data: bytes) -> None:
        """Bytes for standard input."""
        for start in range(0, len(data), protocol.CHUNK):
            await self._send(protocol.STDIN + data[start : start + protocol.CHUNK])

    async def close_stdin(self) -> None:
        """End of file on standard input (on a terminal: its end-of-file character)."""
        await self._send(protocol.CLOSE)

    async def resize(self, rows: int, columns: int) -> None:
        """The terminal's size in characters."""
        size = {"rows": rows, "columns": columns}
        await self._beside({"op": "resize", **size} if self._own else {"op": "exec_resize", "pid": self.pid, **size})

    async def signal(self, number: int) -> None:
        """Send a signal to the process; it passes input that waits."""
        what = {"signal": int(number)}
        await self._beside({"op": "kill", **what} if self._own else {"op": "exec_signal", "pid": self.pid, **what})

    async def _beside(self, request: dict[str, Any]) -> None:
        with contextlib.suppress(RuntimeFault):  # it has ended; read and wait tell
            await self._control(request)

    async def _send(self, message: bytes) -> None:
        if not self._ended:
            try:
                await self._loop.sock_sendall(self._connection, message)
            except OSError:
                return  # it has ended; read and wait tell

    async def wait(self) -> int | None:
        """Discard further output until the end; returns the exit code, None when detached or lost before it."""
        while await self.read() is not None:
            pass
        return self._code

    def leave(self) -> None:
        """Leave, also while somebody reads: the read ends."""
        with contextlib.suppress(OSError):
            self._connection.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Leave. A container goes on; an exec is hung up, unless it is detached or has ended."""
        self._ended = True
        self._connection.close()
