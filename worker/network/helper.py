"""JSON lines to and from a helper process of ours (nft helper, resolver).

Requests carry an id and may overlap; what the child says without an id of ours goes to ``on_event``.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import sys
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import Any

from pycompose.worker.network.errors import HelperGone

Event = Callable[[dict[str, Any]], Awaitable[None]]
_LINE_LIMIT = 64 * 1024 * 1024


class Helper:
    """One child; started again by nobody: its owner sees ``HelperGone`` and decides."""

    def __init__(self, module: str, arguments: Sequence[str] = (), on_event: Event | None = None) -> None:
        self._command = [sys.executable, "-m", module, *arguments]
        self._on_event = on_event
        self._process: asyncio.subprocess.Process | None = None
        self._ids = itertools.count(1)
        self._waiting: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._reader: asyncio.Task[None] | None = None
        self._events: set[asyncio.Task[None]] = set()

    @property
    def alive(self) -> bool:
        """Whether the child can be asked."""
        return self._process is not None and self._process.returncode is None

    async def start(self) -> None:
        """Start the child."""
        pipe = asyncio.subprocess.PIPE
        self._process = await asyncio.create_subprocess_exec(
            *self._command, stdin=pipe, stdout=pipe, limit=_LINE_LIMIT, start_new_session=True
        )
        self._reader = asyncio.create_task(self._read())

    async def ask(self, request: dict[str, Any], timeout_s: float = 20.0) -> dict[str, Any]:
        """The child's reply.

        Raises:
            HelperGone: it died or did not answer in ``timeout_s``.
        """
        number = next(self._ids)
        future: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        self._waiting[number] = future
        try:
            self.tell({**request, "id": number})
            async with asyncio.timeout(timeout_s):
                return await future
        except TimeoutError:
            raise HelperGone(f"{self._command[-1]} did not answer in {timeout_s:g} s") from None
        finally:
            self._waiting.pop(number, None)

    def tell(self, message: dict[str, Any]) -> None:
        """Send without waiting for a reply."""
        if self._process is None or self._process.stdin is None or self._process.returncode is not None:
            raise HelperGone(f"{' '.join(self._command[1:3])} is not running; restart the node")
        self._process.stdin.write(json.dumps(message).encode() + b"\n")

    async def stop(self) -> None:
        """End the child by closing its input; kill it when that does not help within a second."""
        process = self._process
        if process is None:
            return
        if process.stdin is not None:
            process.stdin.close()
        try:
            async with asyncio.timeout(1.0):
                await process.wait()
        except TimeoutError:
            with suppress(ProcessLookupError):
                process.kill()
            await process.wait()
        if self._reader is not None:
            await self._reader
        self._process = None

    async def _read(self) -> None:
        assert self._process is not None
        assert self._process.stdout is not None
        async for line in self._process.stdout:
            message = json.loads(line)
            future = self._waiting.get(message.get("id", 0))
            if future is not None:
                if not future.done():
                    future.set_result(message)
            elif self._on_event is not None:
                task = asyncio.ensure_future(self._on_event(message))
                self._events.add(task)
                task.add_done_callback(self._events.discard)
        for future in self._waiting.values():
            if not future.done():
                future.set_exception(HelperGone(f"{self._command[2]} ended"))
