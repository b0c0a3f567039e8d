"""Attacks by a registry, or by whoever stands in its place, each with its benign twin.

E01 token servers chosen by the attacker, E03 TLS downgrades, E04 digests and names used as paths, B09 content that is
not what it says.
"""

from __future__ import annotations

import asyncio
import gzip
import json
import os
import ssl
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from node.evil import Evil, Listener, challenge, serving
from node.images import Built, build, entry, tar
from node.registry import Authority, authority, basic, network

from pycompose.worker.images import ImageStore, errors
from pycompose.worker.images.credentials import Credentials
from pycompose.worker.images.registries import Registries

__all__ = ["network"]
ANN = Credentials("ann", "her word")


def image(size: int = 1000) -> Built:
    return build([tar([entry("data", data=os.urandom(size))])], Cmd=["/x"])


def empty(store: ImageStore) -> bool:
    """Whether nothing of an image is in a store."""
    places = (store.root / "blobs/sha256", store.root / "layers")
    return not store.all() and not [path for place in places for path in place.iterdir()]


async def refused(
    store: ImageStore, name: str, kind: type[Exception], words: str, who: Credentials | None = None
) -> None:
    """Pull, which must fail in words, and leave nothing; nobody's password is in the words."""
    with pytest.raises(kind, match=words) as found:
        await Registries(store).pull(name, credentials=who)
    assert "her word" not in str(found.value)
    assert empty(store)


# E01: a realm is where the node connects to and what it sends there.


@pytest.mark.parametrize(
    ("realm", "words"),
    [
        ("http://169.254.169.254/latest/meta-data", "no registry has to do with"),
        ("https://169.254.169.254/latest/meta-data", "no registry has to do with"),
        ("file:///etc/shadow", "no https URL"),
        ("gopher://127.0.0.1:5999/", "no https URL"),
        ("http://ann:word@127.0.0.1:5999/", "user information"),
        ("", "no https URL"),
    ],
)
@pytest.mark.attack("E01")
async def test_e01_realms_that_are_not_asked(tmp_path: Path, network: None, realm: str, words: str) -> None:
    """Addresses of the machine and of clouds, other schemes, user names in the URL."""
    evil, listener = Evil(image()), Listener(5999)

    async def unknown(request: web.Request) -> web.StreamResponse:
        return challenge(realm)

    evil.before = unknown
    async with serving(evil, 5000), serving(listener, 5999):
        await refused(ImageStore(tmp_path / "s"), "127.0.0.1:5000/a:1", errors.Untrusted, words, ANN)
    assert not listener.seen


@pytest.mark.attack("E01")
async def test_e01_a_registry_elsewhere_gets_nobody_to_ask_this_machine(
    tmp_path: Path, network: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A registry elsewhere that names this machine's own addresses."""
    import aiohttp

    listener, store = Listener(5999), ImageStore(tmp_path / "s")
    made = authority(tmp_path / "ca")
    monkeypatch.setenv("PYCOMPOSE_CONFIG_DIR", str(tmp_path / "config"))
    (tmp_path / "config/certs.d/registry.test:5000").mkdir(parents=True)
    (tmp_path / "config/certs.d/registry.test:5000/ca.crt").write_bytes(made.certificate.read_bytes())
    addresses = {"registry.test": "10.9.8.7", "inner.test": "127.0.0.1", "meta.test": "169.254.169.254"}

    async def resolve(self: Any, host: str, port: int = 0, family: int = 0) -> list[dict[str, Any]]:
        return [{"hostname": host, "host": addresses[host], "port": port, "family": 2, "proto": 0, "flags": 0}]

    monkeypatch.setattr(aiohttp.ThreadedResolver, "resolve", resolve)
    evil = Evil(image())
    realm = ""

    async def unknown(request: web.Request) -> web.StreamResponse | None:
        return challenge(realm) if realm else None

    evil.before = unknown
    await asyncio.to_thread(os.system, "ip address add 10.9.8.7/32 dev lo")
    tls = context(made, "DNS:registry.test")
    async with serving(evil, 5000, tls, "10.9.8.7"), serving(listener, 5999, context(made, "DNS:inner.test")):
        for realm in ("https://inner.test:5999/token", "https://meta.test/token"):  # noqa: B007
            await refused(store, "registry.test:5000/a:1", errors.Untrusted, "no registry has to do with")
        realm = "https://127.0.0.1:5999/token"
        await refused(store, "registry.test:5000/a:1", errors.Untrusted, "this machine")
        realm = ""
        evil.blob = redirecting("https://inner.test:5999/blob")
        await refused(store, "registry.test:5000/a:1", errors.Untrusted, "no registry has to do with")
        evil.blob = None
        assert (await Registries(store).pull("registry.test:5000/a:1")).image.size == 1000
    assert not listener.seen


def redirecting(url: str) -> Any:
    async def elsewhere(request: web.Request, digest: str, data: bytes) -> web.StreamResponse:
        return web.Response(status=307, headers={"Location": url})

    return elsewhere


def context(made: Authority, name: str, **more: Any) -> ssl.SSLContext:
    certificate, key = made.server(name.replace(":", "-"), name, **more)
    found = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    found.load_cert_chain(certificate, key)
    return found


@pytest.mark.attack("E01")
async def test_e01_answers_of_a_token_server(tmp_path: Path, network: None) -> None:
    """Redirections, tokens that are too long or no words, no JSON."""
    evil, tokens, other = Evil(image()), Listener(5001), Listener(5999)

    async def unknown(request: web.Request) -> web.StreamResponse | None:
        if request.headers.get("Authorization") == "Bearer good":
            return None
        return challenge("http://127.0.0.1:5001/token", scope="repository:other/secret:push")

    evil.before = unknown
    store, name = ImageStore(tmp_path / "s"), "127.0.0.1:5000/a:1"
    async with serving(evil, 5000), serving(tokens, 5001), serving(other, 5999):
        tokens.status, tokens.headers = 302, {"Location": "http://127.0.0.1:5999/token"}
        await refused(store, name, errors.BadAnswer, "answers 302, and redirections are not followed", ANN)
        tokens.status, tokens.headers = 200, {}
        for body, words in (
            (b'{"token": "' + b"a" * (10 << 20) + b'"}', "more than 1,048,576 bytes"),
            (b'{"token": "a\\r\\nX-Injected: 1"}', "no token that can be used"),
            (b"<html>", "no token that can be used"),
        ):
            tokens.body = body
            await refused(store, name, errors.BadAnswer, words, ANN)
        tokens.body = b'{"token": "bad"}'
        await refused(store, name, errors.Denied, "does not let you at", ANN)
        tokens.body, tokens.seen = b'{"token": "good"}', []
        pulled = await Registries(store).pull(name, credentials=ANN)
        assert pulled.image.size == 1000
        (asked,) = tokens.seen
        assert asked[0] == "/token?service=s&scope=repository%3Aa%3Apull"
        assert asked[1]["Authorization"] == basic("ann", "her word")
    assert not other.seen


@pytest.mark.twin("E01")
async def test_e01_an_identity_token_is_traded_for_a_token(tmp_path: Path, network: None) -> None:
    """A token server that gives tokens for an identity."""
    evil, posted = Evil(image()), []

    async def unknown(request: web.Request) -> web.StreamResponse | None:
        if request.headers.get("Authorization") == "Bearer good":
            return None
        return challenge("http://127.0.0.1:5001/token")

    class Tokens:
        async def answer(self, request: web.BaseRequest) -> web.StreamResponse:
            posted.append((request.method, dict(await request.post())))
            return web.json_response({"access_token": "good"})

    evil.before = unknown
    async with serving(evil, 5000), serving(Tokens(), 5001):
        await Registries(ImageStore(tmp_path / "s")).pull(
            "127.0.0.1:5000/a:1", credentials=Credentials(identity_token="i")
        )
    ((method, form),) = posted
    assert method == "POST"
    assert form["grant_type"] == "refresh_token"
    assert (form["refresh_token"], form["scope"]) == ("i", "repository:a:pull")


@pytest.mark.attack("E01")
async def test_e01_a_redirection_gets_no_password(tmp_path: Path, network: None) -> None:
    """A registry that sends on to another host."""
    evil, store = Evil(image()), ImageStore(tmp_path / "s")
    listener = Listener(5999, body=evil.image.blobs[0])

    async def unknown(request: web.Request) -> web.StreamResponse | None:
        if request.headers.get("Authorization") == basic("ann", "her word"):
            return None
        return web.Response(status=401, headers={"WWW-Authenticate": 'Basic realm="x"'})

    async def layer_elsewhere(request: web.Request, digest: str, data: bytes) -> web.StreamResponse | None:
        if data == evil.image.config_bytes:
            return None
        return web.Response(status=302, headers={"Location": "http://127.0.0.1:5999/blob"})

    evil.before, evil.blob = unknown, layer_elsewhere
    async with serving(evil, 5000), serving(listener, 5999):
        assert (await Registries(store).pull("127.0.0.1:5000/a:1", credentials=ANN)).image.size == 1000
        (asked,) = listener.seen
        assert "Authorization" not in asked[1]
        for place, words in (
            ("http://169.254.169.254/x", "no registry has to do with"),
            ("file:///etc/shadow", "no https URL"),
            ("http://127.0.0.1:5000/v2/a/blobs/loop", "redirects without end"),
        ):
            evil.image = image()
            evil.blob = redirecting(place)
            if "loop" in place:
                evil.before = _looping(place)
            with pytest.raises(errors.RegistryError, match=words):
                await Registries(store).pull("127.0.0.1:5000/a:1", credentials=ANN)


def _looping(place: str) -> Any:
    async def again(request: web.Request) -> web.StreamResponse | None:
        return web.Response(status=302, headers={"Location": place}) if "/blobs/" in request.path else None

    return again


# E03: no TLS, or one that proves nothing.


@pytest.mark.attack("E03")
async def test_e03_certificates(tmp_path: Path, network: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Self-signed, expired, of another name, of another authority, old TLS; the right one works."""
    made, other, store = authority(tmp_path / "ca"), authority(tmp_path / "other"), ImageStore(tmp_path / "s")
    monkeypatch.setenv("PYCOMPOSE_CONFIG_DIR", str(tmp_path / "config"))
    certs = tmp_path / "config/certs.d/127.0.0.1:5000"
    certs.mkdir(parents=True)
    (certs / "ca.crt").write_bytes(made.certificate.read_bytes())
    evil, name = Evil(image()), "127.0.0.1:5000/a:1"
    old = context(made, "IP:127.0.0.1")
    old.minimum_version = ssl.TLSVersion.TLSv1
    old.maximum_version = ssl.TLSVersion.TLSv1_1
    old.set_ciphers("ALL:@SECLEVEL=0")
    for tls, words in (
        (context(other, "IP:127.0.0.1"), "is not to be trusted .*certs.d/127.0.0.1:5000/ca.crt"),
        (context(made, "DNS:registry.test"), "is not to be trusted .*mismatch"),
        (context(made, "IP:127.0.0.1", days=-1), "is not to be trusted .*expired"),
        (old, "no TLS connection|ends TLS connections"),
    ):
        async with serving(evil, 5000, tls):
            await refused(store, name, errors.Untrusted, words, ANN)
    assert not evil.seen
    async with serving(evil, 5000, context(made, "IP:127.0.0.1")):
        assert (await Registries(store).pull(name)).image.size == 1000


@pytest.mark.attack("E03")
async def test_e03_http_only_where_it_is_allowed(
    tmp_path: Path, network: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server that speaks http where https was asked for; hosts that are listed."""
    monkeypatch.setenv("PYCOMPOSE_CONFIG_DIR", str(tmp_path / "config"))
    await asyncio.to_thread(os.system, "ip address add 10.9.8.7/32 dev lo")
    evil, store = Evil(image()), ImageStore(tmp_path / "s")
    async with serving(evil, 5000, host="10.9.8.7"):
        await refused(store, "10.9.8.7:5000/a:1", errors.Untrusted, "does not speak TLS; .*insecure-registries", ANN)
        assert not evil.seen
        monkeypatch.setenv("PYCOMPOSE_INSECURE_REGISTRIES", "10.9.0.0/16")
        assert (await Registries(store).pull("10.9.8.7:5000/a:1")).image.size == 1000

    async def reset(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """End TLS at once, and answer http."""
        if (await reader.read(3))[:1] == b"\x16":
            writer.transport.abort()
            return
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
        writer.close()

    monkeypatch.setenv("PYCOMPOSE_INSECURE_REGISTRIES", "")
    server = await asyncio.start_server(reset, "10.9.8.7", 5001)
    async with server:
        with pytest.raises(errors.Unreachable, match=r"https://10.9.8.7:5001"):
            await Registries(ImageStore(tmp_path / "t")).pull("10.9.8.7:5001/a:1", credentials=ANN)


# E04: what a registry says is a digest, a name, or a place.


@pytest.mark.parametrize(
    "digest",
    [
        "sha256:../../../../tmp/canary",
        "sha256:",
        "sha256:ABC",
        "sha256:" + "A" * 64,
        "md5:" + "0" * 32,
        "sha512:" + "0" * 128,
        "sha256:" + "0" * 64 + "/x",
        "",
        None,
        7,
    ],
)
@pytest.mark.attack("E04")
async def test_e04_digests_that_are_none(tmp_path: Path, network: None, digest: Any) -> None:
    """Paths, other algorithms, capitals, and nothing in place of a digest."""
    evil, store = Evil(image()), ImageStore(tmp_path / "s")
    for place in ("config", "layers"):
        document = evil.image.manifest
        (document["config"] if place == "config" else document["layers"][0])["digest"] = digest
        evil.manifest = json.dumps(document).encode()
        async with serving(evil, 5000):
            await refused(store, "127.0.0.1:5000/a:1", errors.BadArchive, "where a sha256 digest should be")
    assert not [line for line in evil.seen if "/blobs/" in line]


@pytest.mark.attack("E04")
async def test_e04_places_that_are_elsewhere(tmp_path: Path, network: None) -> None:
    """Headers that lead to another host."""
    evil, listener, store = Evil(image()), Listener(5999), ImageStore(tmp_path / "s")

    async def elsewhere(request: web.Request) -> web.StreamResponse | None:
        if request.path.endswith("/tags/list"):
            link = {"Link": '<http://127.0.0.1:5999/v2/a/tags/list>; rel="next"'}
            return web.json_response({"tags": ["1", "../x", 7]}, headers=link)
        if request.method == "POST":
            return web.Response(status=202, headers={"Location": "http://127.0.0.1:5999/upload"})
        return web.Response(status=404) if request.method == "HEAD" and "/blobs/" in request.path else None

    async with serving(evil, 5000), serving(listener, 5999):
        await Registries(store).pull("127.0.0.1:5000/a:1")
        evil.before = elsewhere
        with pytest.raises(errors.BadAnswer, match="another server for the upload"):
            await Registries(store).push("127.0.0.1:5000/a:1", ANN)
        with pytest.raises(errors.BadAnswer, match="another server for the next page"):
            await Registries(store).tags("127.0.0.1:5000/a", ANN)
    assert not listener.seen


@pytest.mark.attack("E04")
async def test_e04_names_that_are_none_are_never_asked_for(tmp_path: Path, network: None) -> None:
    """Names that are paths."""
    evil, store = Evil(image()), ImageStore(tmp_path / "s")
    async with serving(evil, 5000):
        for path in ("a/../b:1", "..:1", "a:1/2", "a:%2e%2e", "a" * 300, "a@sha256:../x", "a:"):
            await refused(store, f"127.0.0.1:5000/{path}", errors.BadReference, "is no|at most|no digest")
    assert not evil.seen


# B09: content that is not what its digest says.


@pytest.mark.attack("B09")
async def test_b09_content_that_is_not_what_it_says(tmp_path: Path, network: None) -> None:
    """A byte flipped, packed anew, one more, one less, other diff ids and digests; then a good registry."""
    evil, store, name = Evil(image(200_000)), ImageStore(tmp_path / "s"), "127.0.0.1:5000/a:1"
    blob = evil.image.blobs[0]
    flipped = blob[:5000] + bytes([blob[5000] ^ 1]) + blob[5001:]
    repacked = gzip.compress(gzip.decompress(blob), 9, mtime=7)

    def sending(data: bytes) -> Any:
        async def send(request: web.Request, digest: str, real: bytes) -> web.StreamResponse | None:
            return web.Response(body=data) if real == blob else None

        return send

    async with serving(evil, 5000):
        for data, words in (
            (flipped, "in place of sha256:"),
            (repacked, "sends more than|in place of|ends sha256"),
            (blob + b"\0", "sends more than"),
            (blob[:-1000], "ends sha256:.* after"),
            (b"", "ends sha256:.* after 0"),
        ):
            evil.blob = sending(data)
            await refused(store, name, errors.BadAnswer, words)
        evil.blob = None
        config = evil.image.config
        config["rootfs"]["diff_ids"] = ["sha256:" + "0" * 64]
        await refused(store, name, errors.BadArchive, "is not the announced sha256:0000")
        config["rootfs"]["diff_ids"] = []
        await refused(store, name, errors.BadArchive, "lists 0 layers, the manifest 1")
        evil.image = image(200_000)
        evil.headers = {"Docker-Content-Digest": "sha256:" + "0" * 64}
        await refused(store, name, errors.BadAnswer, "sends a manifest with digest")
        evil.headers = {}
        await refused(store, f"127.0.0.1:5000/a@sha256:{'1' * 64}", errors.BadAnswer, "in place of sha256:1111")
        evil.manifest = b" " * (5 << 20)
        await refused(store, name, errors.BadAnswer, "more than 4,194,304 bytes")
        evil.manifest = None
        # the store is as good as new: a retry against a good registry works
        assert (await Registries(store).pull(name)).image.size == 200_000


@pytest.mark.twin("B09", "E03", "E04")
async def test_a_cut_connection_is_taken_up_again(tmp_path: Path, network: None) -> None:
    """A slow registry whose connections break: the image comes whole."""
    evil, store = Evil(image(3_000_000)), ImageStore(tmp_path / "s")
    cuts = 0

    async def cutting(request: web.Request, digest: str, data: bytes) -> web.StreamResponse | None:
        nonlocal cuts
        if data == evil.image.config_bytes or cuts == 3:
            return None
        cuts += 1
        offset = int(request.headers.get("Range", "bytes=0-").removeprefix("bytes=").rstrip("-"))
        evil.ranges.append(request.headers.get("Range", ""))
        headers = {"Content-Length": str(len(data) - offset)}
        if offset:
            headers["Content-Range"] = f"bytes {offset}-{len(data) - 1}/{len(data)}"
        response = web.StreamResponse(status=206 if offset else 200, headers=headers)
        await response.prepare(request)
        await response.write(data[offset : offset + 700_000])
        assert request.transport is not None
        request.transport.abort()
        return response

    evil.blob = cutting
    async with serving(evil, 5000):
        assert (await Registries(store).pull("127.0.0.1:5000/a:1")).image.size == 3_000_000
        assert evil.ranges[0] == ""
        assert all(each.startswith("bytes=") for each in evil.ranges[1:])
        assert len(evil.ranges) == 4

        # a registry that knows no ranges begins anew; one that never sends more is given up
        evil.image, cuts = image(3_000_000), 0

        async def forgetful(request: web.Request, digest: str, data: bytes) -> web.StreamResponse | None:
            if cuts == 3:
                return web.Response(body=data)
            request.headers.getall("Range", [])
            return await _whole(request, data)

        async def _whole(request: web.Request, data: bytes) -> web.StreamResponse | None:
            nonlocal cuts
            if data == evil.image.config_bytes:
                return None
            cuts += 1
            response = web.StreamResponse(headers={"Content-Length": str(len(data))})
            await response.prepare(request)
            await response.write(data[:500_000])
            assert request.transport is not None
            request.transport.abort()
            return response

        evil.blob = forgetful
        assert (await Registries(store).pull("127.0.0.1:5000/a:2")).image.size == 3_000_000


async def test_a_busy_registry_is_asked_again(tmp_path: Path, network: None) -> None:
    evil, store, busy = Evil(image()), ImageStore(tmp_path / "s"), [503, 429, 500]

    async def sometimes(request: web.Request) -> web.StreamResponse | None:
        return web.Response(status=busy.pop(), headers={"Retry-After": "0"}) if busy else None

    evil.before = sometimes
    async with serving(evil, 5000):
        assert (await Registries(store).pull("127.0.0.1:5000/a:1")).image.size == 1000
        busy[:] = [429] * 20
        with pytest.raises(errors.Unreachable, match="too many requests"):
            await Registries(ImageStore(tmp_path / "t")).pull("127.0.0.1:5000/a:1")


@pytest.mark.attack("B11")
async def test_a_cancelled_pull_leaves_nothing(tmp_path: Path, network: None) -> None:
    """A pull that is given up while another needs the same layer."""
    evil, store = Evil(image(2_000_000)), ImageStore(tmp_path / "s")
    begun, release = asyncio.Event(), asyncio.Event()

    async def slow(request: web.Request, digest: str, data: bytes) -> web.StreamResponse | None:
        if data == evil.image.config_bytes:
            return None
        response = web.StreamResponse(headers={"Content-Length": str(len(data))})
        await response.prepare(request)
        await response.write(data[:1_500_000])
        begun.set()
        await release.wait()
        await response.write(data[1_500_000:])
        return response

    evil.blob = slow
    registries = Registries(store)
    async with serving(evil, 5000):
        first = asyncio.create_task(registries.pull("127.0.0.1:5000/a:1"))
        second = asyncio.create_task(registries.pull("127.0.0.1:5000/b:1"))
        await begun.wait()
        await asyncio.sleep(0.2)
        first.cancel()
        await asyncio.gather(first, return_exceptions=True)
        release.set()
        # the other pull goes on with the same download
        assert (await second).image.size == 2_000_000
        assert sum("/blobs/" in line for line in evil.seen) <= 4
        evil.image, release = image(2_000_000), asyncio.Event()
        begun.clear()
        third = asyncio.create_task(registries.pull("127.0.0.1:5000/c:1"))
        await begun.wait()
        third.cancel()
        await asyncio.gather(third, return_exceptions=True)
        release.set()
        names = [path.name for path in (store.root / "blobs/sha256").iterdir()]
        assert len(names) == 3
        assert not [name for name in names if name.startswith(".")]
