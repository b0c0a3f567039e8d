"""Blobs from a registry into the content store: checked as they come, taken up again where a connection was cut."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable

import aiohttp

from pycompose.worker.images.blobs import CHUNK, Blobs, Writer
from pycompose.worker.images.errors import BadAnswer, Unreachable
from pycompose.worker.images.manifests import Descriptor
from pycompose.worker.images.registry import Registry
from pycompose.worker.images.shared import in_thread
from pycompose.worker.images.transport import CUT

#: Pauses in seconds after failures that brought nothing; bytes that came start them anew.
PAUSES = (0.1, 0.5, 1.0, 2.0, 4.0)
_RANGE = re.compile(r"bytes (\d+)-\d+/(?:\d+|\*)\Z")


async def download(registry: Registry, blob: Descriptor, blobs: Blobs, tell: Callable[[int], None]) -> None:
    """Fetch a blob into the store.

    Args:
        tell: is told the bytes that are there.

    Raises:
        BadAnswer: another size or digest than announced.
        Unreachable: the connection was cut again and again.
        RegistryError, DiskFull.
    """
    with blobs.writer() as writer:
        failures = 0
        while writer.size < blob.size:
            before = writer.size
            try:
                await _more(registry, blob, writer, tell)
            except (*CUT, aiohttp.ClientError) as error:
                failures = 0 if writer.size > before else failures + 1
                if failures >= len(PAUSES):
                    raise Unreachable(
                        f"the connection to {registry.host} was cut {failures} times in a row while fetching "
                        f"{blob.digest[7:19]} ({writer.size:,} of {blob.size:,} bytes came); try again"
                    ) from error
                await asyncio.sleep(PAUSES[failures])
            else:
                if writer.size < blob.size:
                    raise BadAnswer(f"{registry.host} ends {blob.digest} after {writer.size:,} of {blob.size:,} bytes")
        if writer.digest() != blob.digest:
            raise BadAnswer(
                f"{registry.host} sends content with digest {writer.digest()} in place of {blob.digest}; "
                "it, or something on the way, changes what it stores"
            )
        writer.commit()


async def _more(registry: Registry, blob: Descriptor, writer: Writer, tell: Callable[[int], None]) -> None:
    """Append what a request brings; the bytes that came before a cut are kept."""
    async with registry.blob(blob.digest, writer.size) as response:
        if writer.size and not _begins_at(response, writer.size):
            writer.restart()
        waiting: list[bytes] = []
        size = writer.size

        async def store() -> None:
            pieces = waiting.copy()
            waiting.clear()
            await in_thread(lambda: _write(writer, pieces))
            tell(writer.size)

        try:
            async for piece in response.content.iter_any():
                size += len(piece)
                if size > blob.size:
                    raise BadAnswer(f"{registry.host} sends more than the {blob.size:,} bytes of {blob.digest}")
                waiting.append(piece)
                if size - writer.size >= CHUNK:
                    await store()
        except (*CUT, aiohttp.ClientError):
            await store()
            raise
        await store()


def _write(writer: Writer, pieces: list[bytes]) -> None:
    for piece in pieces:
        writer.write(piece)


def _begins_at(response: aiohttp.ClientResponse, offset: int) -> bool:
    found = _RANGE.match(response.headers.get("Content-Range", ""))
    return response.status == 206 and found is not None and int(found[1]) == offset
