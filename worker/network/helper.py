"""JSON lines to and from a helper process of ours (nft helper, resolver), which is replaced when it dies.

Requests carry an id and may overlap; what the child says without an id of ours goes to ``on_event``. A request that
was under way when the child died is put to the next one: requests must be such that twice is as good as once.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import logging
import sys
import time
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from contextlib import suppress
from typing import Any

from pycompose.worker.network.errors import HelperGone

Event = Callable[[dict[str, Any]], Awaitable[None]]
log = logging.getLogger(__name__)
_LINE_LIMIT = 64 * 1024 * 1024
_ATTEMPTS = 3
_GOOD_RUN_S, _LONGEST_PAUSE_S = 5.0, 5.0


class Helper:
    """Args: module: what the child runs; on_event: hears its own messages; on_restart: told after it was replaced."""

    def __init__(
        self,
        module: str,
        arguments: Sequence[str] = (),
        on_event: Event | None = None,
        on_restart: Callable[[], Coroutine[Any, Any, None]] | None = None,
    ) -> None:
        self._command = [sys.executable, "-m", module, *arguments]
        self._on_event, self._on_restart = on_event, on_restart
        self._process: asyncio.subprocess.Process | None = None
        self._ids = itertools.count(1)
        self._waiting: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._up = asyncio.Event()
        self._stopping = False
        self._keeper: asyncio.Task[None] | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def pid(self) -> int:
        """The child's process id; 0 while it is being replaced."""
        return self._process.pid if self._process is not None and self._up.is_set() else 0

    async def start(self) -> None:
        """Start the child, and keep one running until ``stop``."""
        await self._spawn()
        self._keeper = asyncio.create_task(self._keep())

    async def ask(self, request: dict[str, Any], timeout_s: float = 20.0) -> dict[str, Any]:
        """The child's reply.

        Raises:
            HelperGone: it died again and again, or did not answer in ``timeout_s``.
        """
        try:
            async with asyncio.timeout(timeout_s):
                for _ in range(_ATTEMPTS):
                    await self._up.wait()
                    number = next(self._ids)
                    future: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
                    self._waiting[number] = future
                    try:
                        self.tell({**request, "id": number})
                        return await future
                    except HelperGone:
                        continue
                    finally:
                        self._waiting.pop(number, None)
        except TimeoutError:
            raise HelperGone(f"{self._command[2]} did not answer in {timeout_s:g} s") from None
        raise HelperGone(f"{self._command[2]} died {_ATTEMPTS} times at the same request")

    def tell(self, message: dict[str, Any]) -> None:
        """Send without waiting for a reply. Lost when the child is being replaced: ``on_restart`` tells all anew."""
        if self._process is not None and self._process.stdin is not None and self._up.is_set():
            self._process.stdin.write(json.dumps(message).encode() + b"\n")

    async def stop(self) -> None:
        """End the child by closing its input; kill it when that does not help within a second."""
        self._stopping = True
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
        for task in [*self._tasks, *([self._keeper] if self._keeper is not None else [])]:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
        self._process = None

    async def _spawn(self) -> None:
        pipe = asyncio.subprocess.PIPE
        self._process = await asyncio.create_subprocess_exec(
            *self._command, stdin=pipe, stdout=pipe, limit=_LINE_LIMIT, start_new_session=True
        )
        self._up.set()

    async def _keep(self) -> None:
        pause = 0.05
        while True:
            began = time.monotonic()
            await self._read()
            self._up.clear()
            self._fail("ended")
            if self._stopping:
                return
            assert self._process is not None
            status = await self._process.wait()
            pause = 0.05 if time.monotonic() - began > _GOOD_RUN_S else min(2 * pause, _LONGEST_PAUSE_S)
            log.warning("%s ended with %d; it starts again in %.1f s", self._command[2], status, pause)
            await asyncio.sleep(pause)
            await self._spawn()
            if self._on_restart is not None:
                self._beside(self._on_restart())

    async def _read(self) -> None:
        """Hand over what the child says until it is gone."""
        assert self._process is not None
        assert self._process.stdout is not None
        async for line in self._process.stdout:
            try:
                message = json.loads(line)
            except ValueError:
                continue  # it died within a line
            future = self._waiting.get(message.get("id", 0))
            if future is not None:
                if not future.done():
                    future.set_result(message)
            elif self._on_event is not None:
                self._beside(self._on_event(message))

    def _fail(self, what: str) -> None:
        for future in self._waiting.values():
            if not future.done():
                future.set_exception(HelperGone(f"{self._command[2]} {what}"))

    def _beside(self, work: Awaitable[None]) -> None:
        async def carry() -> None:
            try:
                await work
            except Exception:
                log.exception("%s: an answer to it failed", self._command[2])

        task = asyncio.create_task(carry())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
