"""A build's work on files, as calls: what ``program`` does in a process of its own."""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
from collections.abc import AsyncIterator, Mapping
from typing import Any

from pycompose.worker.builder.errors import BuildError, MissingSource
from pycompose.worker.images.errors import DiskFull

CHUNK = 1 << 20
_MODULE = "pycompose.worker.builder.program"


async def whole(job: Mapping[str, Any]) -> bytes:
    """Do a job; returns what it says. Raises MissingSource, BuildError, DiskFull."""
    return b"".join([piece async for piece in stream(job)])


async def stream(job: Mapping[str, Any], data: AsyncIterator[bytes] | None = None) -> AsyncIterator[bytes]:
    """Do a job; yields its output. `data`: its input. Raises as `whole`."""
    pipe = asyncio.subprocess.PIPE
    child = await asyncio.create_subprocess_exec(
        *(sys.executable, "-s", "-m", _MODULE, json.dumps(job)),
        stdin=pipe if data is not None else asyncio.subprocess.DEVNULL,
        stdout=pipe,
        stderr=pipe,
        limit=CHUNK,
    )
    assert child.stdout is not None
    assert child.stderr is not None
    feeding = asyncio.create_task(_feed(child.stdin, data)) if data is not None else None
    saying = asyncio.create_task(child.stderr.read())
    try:
        while piece := await child.stdout.read(CHUNK):
            yield piece
        if await child.wait() != 0:
            raise _error(await saying)
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


def _error(words: bytes) -> Exception:
    try:
        said = json.loads(words.splitlines()[-1])
        kind, message = str(said["kind"]), str(said["message"])
    except (ValueError, KeyError, IndexError, TypeError):
        return BuildError(f"the files cannot be reached: {words.decode('utf-8', 'replace')[-300:]}")
    if kind == "missing":
        return MissingSource(message)
    if kind == "full":
        return DiskFull(f"the build does not fit on the disk ({message}); make room: pycompose builder prune")
    return BuildError(message)
