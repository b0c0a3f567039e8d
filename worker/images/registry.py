"""One repository of one registry, by the OCI distribution protocol (distribution-spec).

It authenticates when it is asked to: with a token or with name and password, as `challenge` allows. Credentials live
as long as this object and appear in no message.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import urlencode, urljoin

import aiohttp

from pycompose.worker.images import challenge, limits, manifests, transport
from pycompose.worker.images.blobs import digest_of, is_digest
from pycompose.worker.images.credentials import Credentials
from pycompose.worker.images.errors import BadAnswer, Denied, NotInRegistry, RegistryError, Unreachable
from pycompose.worker.images.hosts import Settings
from pycompose.worker.images.references import HUB, Reference
from pycompose.worker.images.transport import Transport

RETRIES, LONGEST_PAUSE = 3, 10.0
_TAG = re.compile(r"[\w][\w.-]{0,127}\Z", re.ASCII)


class Registry:
    """Args: reference: names the repository; actions: "pull" or "pull,push"."""

    def __init__(
        self, link: Transport, reference: Reference, credentials: Credentials, settings: Settings, actions: str = "pull"
    ) -> None:
        self._link, self._reference, self._credentials, self._settings = link, reference, credentials, settings
        self._scopes = [f"repository:{reference.path}:{actions}"] if reference.path else []
        self._header = ""
        self._lock = asyncio.Lock()

    @property
    def host(self) -> str:
        """The registry's name, for messages."""
        return self._reference.registry

    def _url(self, rest: str) -> str:
        return f"{self._link.registry.url}/v2/{self._reference.path}/{rest}"

    # Reading.

    async def ping(self) -> None:
        """Ask whether the registry accepts the credentials. Raises RegistryError."""
        async with self._call("GET", f"{self._link.registry.url}/v2/") as response:
            if response.status != 200:
                raise await self._failure(response, "its API")

    async def head(self, which: str) -> str:
        """Return the digest of a tag's manifest, "" when the registry does not say it. Raises RegistryError."""
        async with self._call("HEAD", self._url(f"manifests/{which}"), {"Accept": manifests.ACCEPT}) as response:
            if response.status != 200:
                raise await self._failure(response, which)
            digest = response.headers.get("Docker-Content-Digest", "")
            return digest if is_digest(digest) else ""

    async def manifest(self, which: str) -> manifests.Manifest | manifests.Index:
        """Return a manifest or an index by tag or digest. Raises RegistryError, BadArchive."""
        return manifests.parse(*await self.document(which))

    async def document(self, which: str) -> tuple[bytes, str]:
        """Return a manifest or index of anything, unread, and its media type as it was sent. Raises RegistryError."""
        headers = {"Accept": manifests.ACCEPT}
        async with self._call("GET", self._url(f"manifests/{which}"), headers, follow=True) as response:
            if response.status != 200:
                raise await self._failure(response, which)
            raw = await transport.read(response, limits.MANIFEST_BYTES)
            said = response.headers.get("Docker-Content-Digest", "")
            for wanted in (which, said):
                if is_digest(wanted) and wanted != digest_of(raw):
                    raise BadAnswer(
                        f"{self.host} sends a manifest with digest {digest_of(raw)} in place of {wanted}; "
                        "it, or something on the way, changes what it stores"
                    )
            return raw, response.headers.get("Content-Type", "")

    async def small(self, blob: manifests.Descriptor, most: int) -> bytes:
        """Return a blob that is read as a whole, such as a configuration. Raises RegistryError."""
        if blob.size > most:
            raise BadAnswer(f"{self.host}: {blob.digest} has {blob.size:,} bytes, and at most {most:,} make sense")
        async with self.blob(blob.digest) as response:
            raw = await transport.read(response, most)
        if digest_of(raw) != blob.digest:
            raise BadAnswer(f"{self.host} sends content with digest {digest_of(raw)} in place of {blob.digest}")
        return raw

    @asynccontextmanager
    async def blob(self, digest: str, offset: int = 0) -> AsyncIterator[aiohttp.ClientResponse]:
        """Open a blob from a byte on; the answer is 206 when the registry begins there, 200 when at the start.

        Raises:
            RegistryError.
        """
        headers = {"Range": f"bytes={offset}-"} if offset else {}
        async with self._call("GET", self._url(f"blobs/{digest}"), headers, follow=True) as response:
            if response.status not in (200, 206):
                raise await self._failure(response, digest)
            yield response

    async def tags(self) -> list[str]:
        """Return all tags of the repository. Raises RegistryError."""
        found: dict[str, None] = {}
        url = self._url("tags/list?n=1000")
        for _ in range(100):
            async with self._call("GET", url) as response:
                if response.status != 200:
                    raise await self._failure(response, "its tags")
                try:
                    page = (await response_json(response))["tags"] or []
                except (KeyError, TypeError, ValueError):
                    raise BadAnswer(f"{self.host} sends no list of tags") from None
                found.update(dict.fromkeys(tag for tag in page if isinstance(tag, str) and _TAG.match(tag)))
                following = re.match(r'<([^<>]+)>;\s*rel="?next"?', response.headers.get("Link", ""))
            if not following:
                return sorted(found)
            url = self._own(urljoin(url, following[1]), "next page")
        raise BadAnswer(f"{self.host} has a list of tags without end")

    # Writing.

    async def has(self, digest: str) -> bool:
        """Return whether the repository has a blob. Raises RegistryError."""
        async with self._call("HEAD", self._url(f"blobs/{digest}"), follow=True) as response:
            if response.status in (200, 404):
                return response.status == 200
            raise await self._failure(response, digest)

    async def begin_upload(self, digest: str, mount_from: str = "") -> str:
        """Return the URL to upload a blob to, "" when the registry took it over from another repository.

        Raises:
            RegistryError.
        """
        query = "?" + urlencode({"mount": digest, "from": mount_from}) if mount_from else ""
        async with self._call("POST", self._url(f"blobs/uploads/{query}")) as response:
            if response.status == 201 and mount_from:
                return ""
            if response.status != 202:
                raise await self._failure(response, "uploads")
            place = urljoin(self._url("blobs/uploads/"), response.headers.get("Location", ""))
            return self._own(place, "upload")

    async def upload(self, place: str, digest: str, size: int, content: Any) -> None:
        """Upload a blob in one request.

        Args:
            place: as `begin_upload` gave it.
            content: bytes, or an async iterator of them.

        Raises:
            RegistryError.
        """
        url = place + ("&" if "?" in place else "?") + urlencode({"digest": digest})
        headers = {"Content-Type": "application/octet-stream", "Content-Length": str(size)}
        async with self._call("PUT", url, headers, body=content, retry=False) as response:
            if response.status not in (201, 204):
                raise await self._failure(response, digest)

    async def put_manifest(self, which: str, manifest: manifests.Manifest | manifests.Index) -> None:
        """Upload a manifest or an index under a tag, or under its digest. Raises RegistryError."""
        headers = {"Content-Type": manifest.media_type}
        async with self._call("PUT", self._url(f"manifests/{which}"), headers, body=manifest.raw) as response:
            if response.status not in (201, 200, 202):
                raise await self._failure(response, which)

    def allow(self, path: str) -> None:
        """Ask for pulling from another repository of the registry as well (for taking blobs over)."""
        scope = f"repository:{path}:pull"
        if scope not in self._scopes:
            self._scopes.append(scope)

    # Asking.

    def _own(self, url: str, what: str) -> str:
        """Return a URL that the registry gave when it is its own. Raises BadAnswer."""
        if challenge.site_of(url) != self._link.registry:
            raise BadAnswer(f"{self.host} names another server for the {what}: {url[:100]!r}")
        return url

    @asynccontextmanager
    async def _call(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str] | None = None,
        *,
        body: Any = None,
        follow: bool = False,
        retry: bool = True,
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """Send a request, authenticated when the registry asks for it; again after a pause when it is busy."""
        failures, answered = 0, False
        while True:
            header = self._header
            sent = {**(headers or {}), **({"Authorization": header} if header else {})}
            try:
                response = await self._link.request(method, url, sent, body=body, follow=follow)
            except Unreachable as error:
                if not retry or failures >= RETRIES or not _passing(error):
                    raise
                await asyncio.sleep(0.5 * 2**failures)
                failures += 1
                continue
            asked = challenge.choose(_challenges(response)) if response.status == 401 and not answered else None
            if asked is not None:
                response.close()
                answered = True
                await self._authenticate(asked, header)
            elif retry and response.status in (429, 500, 502, 503, 504) and failures < RETRIES:
                response.close()
                await asyncio.sleep(_pause(response, failures))
                failures += 1
            else:
                break
        async with response:
            yield response

    async def _authenticate(self, asked: challenge.Challenge, used: str) -> None:
        """Get what the registry asks for, unless another request has just got it. Raises RegistryError."""
        async with self._lock:
            if self._header != used:
                return
            if asked.scheme == "basic":
                if not self._credentials.username:
                    raise Denied(f"{self.host} wants a name and a password; run pycompose login {self.host}")
                if used:
                    raise Denied(f"{self.host} refuses these credentials; run pycompose login {self.host}")
                self._header = self._credentials.basic
                return
            self._header = "Bearer " + await self._token(asked)

    async def _token(self, asked: challenge.Challenge) -> str:
        credentials = self._credentials
        wanted = challenge.token_request(
            asked,
            self._link.registry,
            self._scopes,
            credentials=bool(credentials),
            allowed=self._settings.token_hosts(self.host),
        )
        headers, method, url, body = {"Accept": "application/json"}, "GET", wanted.url, None
        if credentials.identity_token and wanted.with_credentials:
            form = {**dict(wanted.form), "scope": " ".join(self._scopes), "client_id": "pycompose"}
            form |= {"grant_type": "refresh_token", "refresh_token": credentials.identity_token}
            method, url, body = "POST", wanted.url.partition("?")[0], urlencode(form).encode()
            headers["Content-Type"] = "application/x-www-form-urlencoded"
        elif wanted.with_credentials:
            headers["Authorization"] = credentials.basic
        async with await self._link.request(method, url, headers, body=body) as response:
            if response.status in (401, 403, 400) and credentials:
                raise Denied(f"{self.host} refuses these credentials; run pycompose login {self.host}")
            if response.status in (401, 403):
                raise Denied(f"{self.host} gives nothing to strangers; run pycompose login {self.host}")
            if response.status != 200:
                why = ", and redirections are not followed there" if 300 <= response.status < 400 else ""
                raise BadAnswer(f"the token server {wanted.site.host} of {self.host} answers {response.status}{why}")
            return challenge.token_of(await transport.read(response, limits.TOKEN_BYTES), wanted.site.host)

    async def _failure(self, response: aiohttp.ClientResponse, what: str) -> RegistryError:
        """Return the error for an answer that is not what was asked for."""
        name, status = self._reference.name, response.status
        said = self._credentials.removed_from(await transport.error_of(response))
        if self._header:
            said = said.replace(self._header.split()[-1], "***")
        words = f" ({said})" if said else ""
        login = f"pycompose login {self.host}"
        if status == 404:
            thing = what if is_digest(what) or not _TAG.match(what) else f"tag {what}"
            return NotInRegistry(f"{self.host} has no {thing} of {self._reference.path}{words}; check name and tag")
        if status in (401, 403) and self._credentials:
            return Denied(f"{self.host} does not let you at {name}{words}; check the name, or {login} as who may")
        if status in (401, 403):
            return Denied(f"{self.host} has no {name}, or not for strangers{words}; check the name, or {login}")
        if status == 429:
            hint = f"wait, or {login}" if not self._credentials else "wait"
            more = " (Docker Hub counts pulls)" if self.host == HUB else ""
            return Unreachable(f"{self.host} has had too many requests from here{more}; {hint}")
        return BadAnswer(f"{self.host} answers {status} for {what} of {name}{words}")


def _challenges(response: aiohttp.ClientResponse) -> list[challenge.Challenge]:
    return challenge.parse(response.headers.getall("WWW-Authenticate", []))


def _pause(response: aiohttp.ClientResponse, failures: int) -> float:
    after = response.headers.get("Retry-After", "")
    return min(float(after), LONGEST_PAUSE) if after.isdigit() else 0.5 * 2**failures


def _passing(error: Unreachable) -> bool:
    """Return whether a failure is one that time may heal: a cut connection, not a name that does not exist."""
    return isinstance(error.__cause__, transport.CUT)


async def response_json(response: aiohttp.ClientResponse) -> Any:
    """Return an answer's JSON. Raises RegistryError, ValueError."""
    import json

    return json.loads(await transport.read(response, limits.ANSWER_BYTES))
