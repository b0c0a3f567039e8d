"""Bytes of a call to a thread that reads a file, and of a thread that writes one to a call: by a pipe (pipe(7)).

The pipe holds back whoever is too quick, and tells each side when the other has gone.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any, BinaryIO, TypeVar

T = TypeVar("T")
SIZE = 1 << 20
F_SETPIPE_SZ = 1031


def _pipe() -> tuple[int, int]:
    ends = os.pipe()
    with contextlib.suppress(OSError):  # beyond a user's soft limit it stays as it is
        fcntl.fcntl(ends[1], F_SETPIPE_SZ, SIZE)
    return ends


async def received(pieces: AsyncIterator[bytes], work: Callable[[BinaryIO], Coroutine[Any, Any, T]]) -> T:
    """Let `work` read what comes in as a file; returns what it gives.

    Args:
        pieces: what comes in; an error of it is raised here, and `work` sees the end of the file.
        work: reads the file in threads of its own.
    """
    reading, writing = _pipe()

    async def feed() -> None:
        try:
            async for piece in pieces:
                left = memoryview(piece)
                while left:
                    left = left[await asyncio.to_thread(os.write, writing, left) :]
        except BrokenPipeError:
            pass  # the reader has seen enough, and says why
        finally:
            os.close(writing)

    feeding = asyncio.create_task(feed())
    with open(reading, "rb") as file:
        try:
            found = await work(file)
        except BaseException:
            file.close()
            feeding.cancel()
            await asyncio.gather(feeding, return_exceptions=True)
            raise
    await feeding
    return found


async def sent(write: Callable[[BinaryIO], None]) -> AsyncIterator[bytes]:
    """Yield what `write`, run in a thread, writes to a file. Its error is raised at the end."""
    reading, writing = _pipe()

    def run() -> None:
        with open(writing, "wb") as file:
            write(file)

    writer = asyncio.create_task(asyncio.to_thread(run))
    try:
        while piece := await asyncio.to_thread(os.read, reading, SIZE):
            yield piece
        await writer
    finally:
        os.close(reading)
        await asyncio.gather(writer, return_exceptions=True)
