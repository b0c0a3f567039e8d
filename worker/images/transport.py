"""HTTP for registries on aiohttp: connections, TLS, proxies, redirections, and what goes wrong in words.

The server of the registry is the user's choice and may be anywhere. All others, token servers and where blobs are
redirected to, are the registry's choice: they go through `Guard`, which refuses addresses that no registry has to do
with after names were resolved, so that a name cannot stand for this machine.

aiohttp takes a fifth of a second to import: this module is imported when a registry is first talked to.
"""

from __future__ import annotations

import asyncio
import re
import socket
import ssl
from collections.abc import Mapping
from types import TracebackType
from typing import Any
from urllib.parse import urljoin, urlsplit
from urllib.request import getproxies, proxy_bypass

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from yarl import URL

import pycompose
from pycompose.worker.images import challenge, hosts, limits
from pycompose.worker.images.challenge import Site
from pycompose.worker.images.errors import BadAnswer, RegistryError, Unreachable, Untrusted

CONNECT_SECONDS, SILENCE_SECONDS, REDIRECTIONS = 30.0, 60.0, 5
AGENT = f"pycompose/{pycompose.__version__}"
#: A connection that ended before the answer did.
CUT = (aiohttp.ClientPayloadError, aiohttp.ServerDisconnectedError, ConnectionResetError, BrokenPipeError, TimeoutError)
_NOT_TLS = (
    "WRONG_VERSION_NUMBER",
    "HTTP_REQUEST",
    "UNKNOWN_PROTOCOL",
    "RECORD_LAYER_FAILURE",
    "PACKET_LENGTH_TOO_LONG",
)


class Guard(AbstractResolver):
    """Resolves names of servers that a registry names; an address that none may have is left out."""

    def __init__(self, *, loopback: bool) -> None:
        self._loopback = loopback
        self._inner = aiohttp.ThreadedResolver()

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        """Resolve a name. Raises OSError when nothing is left."""
        found = await self._inner.resolve(host, port, family)
        kept = [one for one in found if challenge.reachable(one["host"], loopback=self._loopback)]
        if not kept:
            raise OSError(None, f"{host} is {found[0]['host']}, an address that no registry has to do with")
        return kept

    async def close(self) -> None:
        """Nothing is kept."""


class Transport:
    """Connections of one piece of work with one registry. An async context manager.

    Args:
        api: "host" or "host:port" of the registry's API.
        settings: the node's.
    """

    def __init__(self, api: str, settings: hosts.Settings) -> None:
        self._api, self._settings = api, settings
        self.registry = hosts.site_of(api, "https")
        self._insecure = settings.is_insecure(api)
        self._contexts: dict[Site, ssl.SSLContext] = {}
        self._own: aiohttp.ClientSession | None = None
        self._foreign: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Transport:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None
    ) -> None:
        for session in (self._own, self._foreign):
            if session is not None:
                await session.close()

    async def open(self) -> None:
        """Find out how the registry is spoken to: by https, or by http where that is allowed and it has no TLS.

        Raises:
            RegistryError.
        """
        if (self.registry.loopback or self._insecure) and not await self._speaks_tls():
            self.registry = hosts.site_of(self._api, "http")
        self._own = self._session(aiohttp.TCPConnector(limit=16, ttl_dns_cache=30))
        guard = Guard(loopback=self.registry.loopback)
        self._foreign = self._session(aiohttp.TCPConnector(limit=16, resolver=guard, use_dns_cache=False))

    def _session(self, connector: aiohttp.TCPConnector) -> aiohttp.ClientSession:
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_SECONDS, sock_read=SILENCE_SECONDS)
        return aiohttp.ClientSession(
            connector=connector,
            timeout=timeout,
            auto_decompress=False,
            cookie_jar=aiohttp.DummyCookieJar(),
            read_bufsize=1 << 20,
            headers={"User-Agent": AGENT, "Accept-Encoding": "identity"},
        )

    async def _speaks_tls(self) -> bool:
        context = await self._context(self.registry)
        name = self.registry.host
        try:
            opening = asyncio.open_connection(
                name, self.registry.port or 443, ssl=context, server_hostname=name, ssl_handshake_timeout=10
            )
            _, writer = await asyncio.wait_for(opening, CONNECT_SECONDS)
            writer.transport.abort()
        except ssl.SSLError as error:
            return not any(word in str(error) for word in _NOT_TLS)
        except ConnectionRefusedError as error:
            if not self.registry.port:
                return False  # nothing at port 443; there may be at 80
            raise explain(error, self.registry) from error
        except (ConnectionError, asyncio.IncompleteReadError) as error:
            # it hangs up on TLS: because it does not speak it, or not as it should be spoken
            if await self._speaks_http():
                return False
            raise Untrusted(f"{self.registry.url} ends TLS connections before they begin") from error
        except (OSError, TimeoutError) as error:
            raise explain(error, self.registry) from error
        return True

    async def _speaks_http(self) -> bool:
        try:
            opening = asyncio.open_connection(self.registry.host, self.registry.port or 80)
            reader, writer = await asyncio.wait_for(opening, CONNECT_SECONDS)
            try:
                writer.write(f"GET /v2/ HTTP/1.1\r\nHost: {self._api}\r\nConnection: close\r\n\r\n".encode())
                return await asyncio.wait_for(reader.readexactly(5), CONNECT_SECONDS) == b"HTTP/"
            finally:
                writer.transport.abort()
        except (OSError, TimeoutError, asyncio.IncompleteReadError):
            return False

    async def _context(self, site: Site) -> ssl.SSLContext:
        context = self._contexts.get(site)
        if context is None:
            loose = self._insecure and site.host == self.registry.host
            context = await asyncio.to_thread(_tls, self._settings, site, loose)
            self._contexts[site] = context
        return context

    async def request(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str],
        *,
        body: Any = None,
        follow: bool = False,
    ) -> aiohttp.ClientResponse:
        """Send a request; the caller closes the answer (`async with`).

        Args:
            url: absolute; of the registry, or of a server that the caller has checked.
            headers: sent to the registry only; a redirection gets none of them but Range and Accept.
            follow: whether redirections are followed, by the rules of `challenge.check`.

        Raises:
            RegistryError; and the answer, when the connection is cut while its body is read, one of CUT.
        """
        sent = dict(headers)
        for _ in range(REDIRECTIONS + 1):
            site = challenge.site_of(url)
            proxy = _proxy(site)
            # by way of a proxy it is the proxy that is connected to, and that resolves names
            session = self._own if proxy or site == self.registry else self._foreign
            assert session is not None
            context = await self._context(site) if site.scheme == "https" else False
            try:
                response = await session.request(
                    method,
                    URL(url, encoded=True),
                    headers=sent,
                    data=body,
                    ssl=context,
                    proxy=proxy,
                    allow_redirects=False,
                )
            except (aiohttp.ClientError, OSError, TimeoutError, UnicodeError, ValueError) as error:
                raise explain(error, site) from error
            if not (follow and response.status in (301, 302, 303, 307, 308)):
                return response
            url = urljoin(url, response.headers.get("Location", ""))
            response.close()
            challenge.check(challenge.site_of(url), self.registry, "redirection")
            sent = {key: value for key, value in headers.items() if key in ("Range", "Accept")}
        raise BadAnswer(f"{self.registry.host} redirects without end")


async def read(response: aiohttp.ClientResponse, most: int) -> bytes:
    """Return an answer's body. Raises BadAnswer when it has more than `most` bytes, RegistryError when it is cut."""
    parts, size = [], 0
    site = challenge.site_of(str(response.url.with_user(None)))
    try:
        async for piece in response.content.iter_any():
            size += len(piece)
            if size > most:
                raise BadAnswer(f"{site.host} answers with more than {most:,} bytes, too much for what was asked")
            parts.append(piece)
    except (aiohttp.ClientError, OSError, TimeoutError) as error:
        raise explain(error, site) from error
    return b"".join(parts)


def explain(error: BaseException, site: Site) -> RegistryError:
    """Return what went wrong with a server in words, with what to do."""
    where = site.url
    if isinstance(error, aiohttp.ClientConnectorDNSError):
        if error.os_error.errno is None:
            return Untrusted(f"{where} is not asked: {error.os_error.strerror}")
        return Unreachable(f"the name {site.host} cannot be resolved; check the image's name, and this node's DNS")
    certificate = _certificate_error(error)
    if certificate is not None:
        return Untrusted(
            f"the certificate of {where} is not to be trusted ({certificate}); put the authority that made it into "
            f"/etc/pycompose/certs.d/{site.host}{f':{site.port}' if site.port else ''}/ca.crt"
        )
    if isinstance(error, (ssl.SSLError, aiohttp.ClientConnectorSSLError, aiohttp.ClientSSLError)):
        if any(word in str(error) for word in _NOT_TLS):
            return Untrusted(
                f"{where} does not speak TLS; if it is meant to be without, add it to the node's insecure-registries "
                "(/etc/pycompose/insecure-registries or PYCOMPOSE_INSECURE_REGISTRIES)"
            )
        return Untrusted(f"no TLS connection to {where}: {_plain(error)}")
    if isinstance(error, aiohttp.ClientHttpProxyError):
        return Unreachable(f"the proxy on the way to {where} refuses ({error.status}); see HTTPS_PROXY and NO_PROXY")
    if isinstance(error, TimeoutError):
        return Unreachable(f"{where} does not answer; check the address, and whether a firewall is in between")
    inner: BaseException = getattr(error, "os_error", None) or error
    if isinstance(inner, ConnectionRefusedError):
        return Unreachable(f"nothing listens at {where}; check the address, and whether the registry runs")
    if isinstance(error, CUT):
        return Unreachable(f"{where} ended the connection before its answer; try again")
    if isinstance(inner, OSError) and inner.errno:
        return Unreachable(f"no connection to {where}: {(inner.strerror or str(inner)).lower()}")
    return Unreachable(f"no answer from {where} that can be understood: {_plain(error)}")


def _certificate_error(error: BaseException) -> str | None:
    inner = getattr(error, "certificate_error", error)
    if isinstance(inner, ssl.SSLCertVerificationError):
        return inner.verify_message or str(inner)
    return None


def _plain(error: BaseException) -> str:
    return re.sub(r"\s+", " ", str(error) or type(error).__name__)[:200]


def _tls(settings: hosts.Settings, site: Site, loose: bool) -> ssl.SSLContext:
    """Return how a server is authenticated (blocking: reads files). Raises Untrusted."""
    context = ssl.create_default_context()
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    for folder in settings.certificates(site):
        for path in sorted(folder.glob("*.crt")):
            try:
                context.load_verify_locations(path)
            except (ssl.SSLError, OSError) as error:
                raise Untrusted(f"{path} cannot be read as a certificate: {_plain(error)}") from error
        for path in sorted(folder.glob("*.cert")):
            try:
                context.load_cert_chain(path, path.with_suffix(".key"))
            except (ssl.SSLError, OSError) as error:
                raise Untrusted(f"{path} and its .key cannot be read: {_plain(error)}") from error
    if loose:
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context


def _proxy(site: Site) -> str | None:
    found = getproxies()
    if site.loopback or proxy_bypass(site.host):
        return None
    return found.get(site.scheme)


def path_of(url: str) -> str:
    """Return path and query of a URL."""
    parts = urlsplit(url)
    return parts.path + (f"?{parts.query}" if parts.query else "")


async def error_of(response: aiohttp.ClientResponse) -> str:
    """Return what a registry says went wrong, for a message: its own words, printable and short."""
    import json

    try:
        document = json.loads(await read(response, limits.ERROR_BYTES))
        first = document["errors"][0]
        said = first.get("message") or first.get("code") or ""
    except (RegistryError, ValueError, KeyError, IndexError, TypeError, AttributeError):
        said = response.reason or ""
    return "".join(letter for letter in str(said) if letter.isprintable())[:200].strip()
