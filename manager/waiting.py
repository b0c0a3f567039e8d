"""A manager whose store does not answer yet: it stays, says why to whoever calls, and tries on."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

import grpc

from pycompose.manager.doors import Calls, Door
from pycompose.manager.members.quorum import Refusing
from pycompose.manager.store import StoreUnavailableError

Result = TypeVar("Result")
log = logging.getLogger(__name__)
#: The first attempts are given little time: one that began without a majority learns too late of its return.
FIRST_SECONDS, LONGEST_SECONDS = 1.0, 5.0
PAUSE_SECONDS = 0.2


async def opened(
    opening: Callable[[], Awaitable[Result]],
    why: Callable[[], Awaitable[str]],
    doors: Sequence[Door],
    text: str = "",
    seconds: float = FIRST_SECONDS,
    calls: Sequence[grpc.GenericRpcHandler] = (),
) -> Result:
    """Return the store as soon as it answers.

    Args:
        opening: opens it; tried again while it raises StoreUnavailableError or takes too long.
        why: says why it does not answer.
        doors: are open meanwhile, and refuse every call with that.
        text: why it does not answer, where that is known before.
        seconds: how long the first attempt may take.
        calls: what is served all the same.

    Raises:
        StoreError: it cannot be opened, also later.
        OSError: a door cannot be opened.
    """
    attempt = asyncio.ensure_future(_tried(opening, seconds))

    def add(server: grpc.aio.Server) -> None:
        server.add_generic_rpc_handlers((*calls, Refusing(lambda: text)))

    waiting: list[Door] = []
    try:
        await asyncio.wait([attempt], timeout=PAUSE_SECONDS if text else FIRST_SECONDS)
        while not attempt.done():
            text = text or await why()
            for door in doors if not waiting else ():
                log.warning("waiting for the store: %s", text)
                waiting.append(door)
                await door.open(Calls([add], ()))
            await asyncio.wait([attempt], timeout=FIRST_SECONDS)
            text = await why()
        return await attempt
    finally:
        attempt.cancel()
        for door in waiting:
            await door.close()


async def _tried(opening: Callable[[], Awaitable[Result]], seconds: float) -> Result:
    while True:
        try:
            async with asyncio.timeout(seconds):
                return await opening()
        except (StoreUnavailableError, TimeoutError):
            seconds = max(seconds, min(LONGEST_SECONDS, seconds + 0.5))
        await asyncio.sleep(PAUSE_SECONDS)
