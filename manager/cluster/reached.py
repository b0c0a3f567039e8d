"""Whether the address by which a new cluster's machines are to reach this one leads here."""

from __future__ import annotations

import asyncio
import contextlib
import secrets

from pycompose.manager.cluster.listening import ANY, Listening
from pycompose.proto.refusal import BlockedError
from pycompose.proto.tls import why

SECONDS = 3.0


async def check_reached(listening: Listening, seconds: float = SECONDS) -> None:
    """Listen for a moment where the manager will, and connect there as others will. Raises BlockedError.

    Args:
        listening: nothing listens there yet.
        seconds: how long to wait.
    """
    word = secrets.token_bytes(16)

    async def answer(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(word)
        writer.close()

    host = None if listening.address == ANY else listening.address
    server = await asyncio.start_server(answer, host, listening.port)
    async with server:
        reason = await _reason(listening, word, seconds)
    if reason:
        raise BlockedError(
            f"this machine does not reach itself at {listening.reached} ({reason}); give an address of it that the "
            "others reach by --advertise-addr, and open its port",
            "UNREACHABLE",
            listening.reached,
        )


async def _reason(listening: Listening, word: bytes, seconds: float) -> str:
    try:
        async with asyncio.timeout(seconds):
            reader, writer = await asyncio.open_connection(listening.advertise, listening.port)
            try:
                found = await reader.read(len(word))
            finally:
                writer.close()
                with contextlib.suppress(OSError):
                    await writer.wait_closed()
    except TimeoutError:
        return f"no answer within {seconds:.0f} s"
    except OSError as error:
        return why(error)
    return "" if found == word else "another machine or program answers there"
