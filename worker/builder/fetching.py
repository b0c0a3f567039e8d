"""Files that ADD takes from the web."""

from __future__ import annotations

import hashlib
import os
import posixpath
import re
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from pathlib import Path
from urllib.parse import unquote, urlsplit

from pycompose.worker.builder.errors import BuildError

SECONDS, CHUNK = 60.0, 1 << 20
_GIT = re.compile(r"(git@|git://|ssh://|https?://[^?#]*\.git(#|\Z))")


@dataclass(frozen=True)
class Fetched:
    """A file: `name` in `folder`, with a `digest` ("sha256:…")."""

    folder: Path
    name: str
    digest: str


def is_remote(source: str) -> bool:
    """Whether a source of ADD is no path."""
    return source.startswith(("http://", "https://")) or _GIT.match(source) is not None


async def fetch(url: str, folder: Path, checksum: str = "") -> Fetched:
    """Fetch a file into a folder, which is made.

    Args:
        checksum: "sha256:…" that it must have; "" for none.

    Raises:
        BuildError.
    """
    import aiohttp

    if _GIT.match(url):
        raise BuildError(f"{url}: repositories cannot be added yet; clone it beside the Dockerfile, and use COPY")
    name = posixpath.basename(unquote(urlsplit(url).path)) or "index.html"
    if name in (".", "..") or "\0" in name:
        raise BuildError(f"{url}: its name cannot be a file's; name the target's file")
    folder.mkdir()
    total = hashlib.sha256()
    try:
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=SECONDS, sock_read=SECONDS)
        async with aiohttp.ClientSession(timeout=timeout, trust_env=True) as session, session.get(url) as answer:
            if answer.status != 200:
                raise BuildError(f"{url}: the server answers {answer.status} {answer.reason}")
            with (folder / name).open("wb") as file:
                async for piece in answer.content.iter_chunked(CHUNK):
                    total.update(piece)
                    file.write(piece)
            when = parsedate_to_datetime(answer.headers["Last-Modified"]) if "Last-Modified" in answer.headers else None
    except (aiohttp.ClientError, TimeoutError, ValueError) as error:
        raise BuildError(f"{url}: {error or 'no answer'}") from error
    seconds = int(when.timestamp()) if when is not None else 0
    os.utime(folder / name, (seconds, seconds))
    digest = f"sha256:{total.hexdigest()}"
    if checksum and checksum != digest:
        raise BuildError(f"{url}: it has the checksum {digest}, and {checksum} was expected")
    return Fetched(folder, name, digest)
