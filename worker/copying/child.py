"""A child process that works on files for us: one JSON request, bytes in and out, and one line on standard error."""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any

CHUNK = 256 << 10


async def stream(
    module: str,
    request: Mapping[str, Any],
    data: AsyncIterator[bytes] | None,
    failure: Callable[[bytes], Exception],
) -> AsyncIterator[bytes]:
    """Run a module with a request as its argument; yield its output.

    Args:
        module: run by `python -m`.
        request: as JSON.
        data: its standard input; None: nothing.
        failure: makes the error of what it said on standard error, when it ended with another status than 0.

    Raises:
        what `failure` returns.
    """
    pipe = asyncio.subprocess.PIPE
    child = await asyncio.create_subprocess_exec(
        *(sys.executable, "-s", "-m", module, json.dumps(request)),
        stdin=pipe if data is not None else asyncio.subprocess.DEVNULL,
        stdout=pipe,
        stderr=pipe,
    )
    assert child.stdout is not None
    assert child.stderr is not None
    feeding = asyncio.create_task(_feed(child.stdin, data)) if data is not None else None
    saying = asyncio.create_task(child.stderr.read())
    try:
        while piece := await child.stdout.read(CHUNK):
            yield piece
        if await child.wait() != 0:
            raise failure(await saying)
        if feeding is not None:
            await feeding
    finally:
        for task in (feeding, saying):
            if task is not None:
                task.cancel()
        with contextlib.suppress(ProcessLookupError):
            child.kill()
        await asyncio.shield(child.wait())


async def _feed(pipe: asyncio.StreamWriter | None, data: AsyncIterator[bytes]) -> None:
    """Carry input to the process; one that has ended says itself why."""
    assert pipe is not None
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):
        async for piece in data:
            pipe.write(piece)
            await pipe.drain()
    pipe.close()
