"""A registry made to misbehave, in the test's own event loop: aiohttp's server with hooks for what goes wrong."""

from __future__ import annotations

import json
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web
from node.images import Built, sha

Handler = Callable[[web.Request], Awaitable[web.StreamResponse | None]]
MANIFEST = "application/vnd.oci.image.manifest.v1+json"


@dataclass
class Listener:
    """Counts requests; answers each with `status`, `headers` and `body`."""

    port: int
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b'{"token": "stolen"}'
    seen: list[tuple[str, dict[str, str]]] = field(default_factory=list)

    async def answer(self, request: web.Request) -> web.StreamResponse:
        """Handle any request."""
        self.seen.append((request.path_qs, dict(request.headers)))
        return web.Response(status=self.status, headers=self.headers, body=self.body)


@dataclass
class Evil:
    """A registry with one image under every name.

    Attributes:
        before: looks at each request first; what it returns is the answer.
        blob: changes a blob's answer.
    """

    image: Built
    address: str = ""
    before: Handler | None = None
    blob: Callable[[web.Request, str, bytes], Awaitable[web.StreamResponse | None]] | None = None
    manifest: bytes | None = None
    headers: dict[str, str] = field(default_factory=dict)
    seen: list[str] = field(default_factory=list)
    ranges: list[str] = field(default_factory=list)

    async def answer(self, request: web.Request) -> web.StreamResponse:
        """Handle any request."""
        self.seen.append(f"{request.method} {request.path}")
        if self.before is not None:
            found = await self.before(request)
            if found is not None:
                return found
        raw = self.manifest if self.manifest is not None else json.dumps(self.image.manifest).encode()
        if "/manifests/" in request.path:
            return web.Response(body=raw, headers={"Content-Type": MANIFEST, **self.headers})
        digest = request.path.rpartition("/")[2]
        for data in (self.image.config_bytes, *self.image.blobs):
            if sha(data) == digest:
                return await self._content(request, digest, data)
        return web.Response(status=404 if digest else 200)

    async def _content(self, request: web.Request, digest: str, data: bytes) -> web.StreamResponse:
        if self.blob is not None:
            found = await self.blob(request, digest, data)
            if found is not None:
                return found
        begin = request.headers.get("Range", "")
        if begin:
            self.ranges.append(begin)
            offset = int(begin.removeprefix("bytes=").rstrip("-"))
            there = f"bytes {offset}-{len(data) - 1}/{len(data)}"
            return web.Response(status=206, body=data[offset:], headers={"Content-Range": there})
        return web.Response(body=data)


@asynccontextmanager
async def serving(
    handler: Any, port: int, tls: ssl.SSLContext | None = None, host: str = "127.0.0.1"
) -> AsyncIterator[None]:
    """Serve everything by `handler.answer` at a port of loopback."""
    runner = web.ServerRunner(web.Server(handler.answer), shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, host, port, ssl_context=tls).start()
    if isinstance(handler, Evil):
        handler.address = f"{host}:{port}"
    try:
        yield
    finally:
        await runner.cleanup()


def challenge(realm: str, **more: str) -> web.Response:
    """A 401 that names a token server."""
    parts = ",".join(f'{key}="{value}"' for key, value in {"realm": realm, "service": "s", **more}.items())
    return web.Response(status=401, headers={"WWW-Authenticate": f"Bearer {parts}"})
