"""Pulling from and pushing to a real registry: Debian's docker-registry, with skopeo as the counter-client."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import shutil
import time
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from node.evil import serving
from node.images import build, entry, folder, skopeo, tar, upload
from node.registry import NAME, PASSWORD, Authority, authority, basic, docker_registry, network, with_password
from node.test_images_store import load

from pycompose.worker.images import ImageStore, errors
from pycompose.worker.images.credentials import Credentials
from pycompose.worker.images.progress import LayerState, Phase
from pycompose.worker.images.registries import Registries

__all__ = ["network"]
BIG = os.urandom(3 << 20)
LAYERS = [
    tar([folder("etc"), entry("etc/name", data=b"one"), entry("etc/gone", data=b"x"), entry("big", data=BIG)]),
    tar([folder("etc"), entry("etc/.wh.gone"), entry("etc/more", data=b"two")]),
]


def names(store: ImageStore) -> set[str]:
    return {path.name for path in (store.root / "blobs/sha256").iterdir()}


async def test_pull_what_skopeo_pushed(tmp_path: Path, network: None) -> None:
    with docker_registry(tmp_path / "registry") as registry:
        upload(build(LAYERS, Cmd=["/x"]), registry.address, "team/app:1", tmp_path)
        store = ImageStore(tmp_path / "store")
        registries = Registries(store)
        seen: list[LayerState] = []
        pulled = await registries.pull(f"{registry.address}/team/app:1", report=seen.append)
        assert pulled.previous == ""
        assert pulled.image.references == (f"{registry.address}/team/app:1",)
        raw = skopeo("inspect", "--tls-verify=false", "--raw", f"docker://{registry.address}/team/app:1")
        assert store.blobs.read(pulled.digest) == raw.encode()
        top, base = store.layers(pulled.image.id)
        assert (base / "big").read_bytes() == BIG
        assert (top / "etc/gone").lstat().st_rdev == 0
        assert {state.phase for state in seen} >= {Phase.WAITING, Phase.DOWNLOADING, Phase.UNPACKING, Phase.DONE}

        # nothing is fetched again, and the name still means the same
        before = registry.requests("GET", "/blobs/")
        again = await registries.pull(f"{registry.address}/team/app:1")
        by_digest = await registries.pull(f"{registry.address}/team/app@{pulled.digest}")
        assert again.image.id == by_digest.image.id == pulled.image.id
        assert again.previous == pulled.image.id
        assert registry.requests("GET", "/blobs/") == before

        # a moved tag: shared layers stay, the new image has the name
        other = build([LAYERS[0], tar([entry("new", data=b"new")])])
        upload(other, registry.address, "team/app:1", tmp_path)
        moved = await registries.pull(f"{registry.address}/team/app:1")
        assert moved.previous == pulled.image.id != moved.image.id
        assert store.layers(moved.image.id)[1] == base
        assert store.require(pulled.image.id).references == ()
        assert registry.requests("GET", "/blobs/") == before + 2
        assert await registries.tags(f"{registry.address}/team/app") == ["1"]
        assert await registries.resolve(f"{registry.address}/team/app:1") == moved.digest


async def test_push_what_skopeo_pulls(tmp_path: Path, network: None) -> None:
    with docker_registry(tmp_path / "registry") as registry:
        store = ImageStore(tmp_path / "store")
        registries = Registries(store)
        from pycompose.worker.images import intake

        path = tmp_path / "in.tar"
        path.write_bytes(build(LAYERS, Cmd=["/x"]).docker_archive(f"{registry.address}/own/app:2"))
        with path.open("rb") as file:
            (image,) = await intake.load(store, file)
        seen: list[LayerState] = []
        manifest = await registries.push(f"{registry.address}/own/app:2", report=seen.append)
        assert {state.phase for state in seen} >= {Phase.COMPRESSING, Phase.UPLOADING, Phase.DONE}
        assert store.require(image.id).digests == (f"{registry.address}/own/app@{manifest.digest}",)
        out = tmp_path / "out"
        skopeo("copy", "--src-tls-verify=false", f"docker://{registry.address}/own/app:2", f"dir:{out}")
        assert (out / "manifest.json").read_bytes() == manifest.raw

        # a second push sends nothing; another repository takes the blobs over
        posts = registry.requests("POST", "/blobs/uploads/")
        assert (await registries.push(f"{registry.address}/own/app:2")).digest == manifest.digest
        assert registry.requests("POST", "/blobs/uploads/") == posts
        await store.tag(image.id, f"{registry.address}/other/app:2")
        seen.clear()
        await registries.push(f"{registry.address}/other/app:2", report=seen.append)
        assert Phase.MOUNTED in {state.phase for state in seen}
        assert Phase.UPLOADING not in {state.phase for state in seen}
        # what was pushed can be pulled into an empty store, and is the same image
        fresh = ImageStore(tmp_path / "fresh")
        assert (await Registries(fresh).pull(f"{registry.address}/other/app:2")).image.id == image.id


async def test_name_and_password(tmp_path: Path, network: None) -> None:
    with docker_registry(tmp_path / "registry", **with_password(tmp_path / "registry")) as registry:
        upload(build(LAYERS), registry.address, "app:1", tmp_path, "--dest-creds", f"{NAME}:{PASSWORD}")
        store = ImageStore(tmp_path / "store")
        registries = Registries(store)
        name, good = f"{registry.address}/app:1", Credentials(NAME, PASSWORD)
        with pytest.raises(errors.Denied, match=f"wants a name and a password; run pycompose login {registry.address}"):
            await registries.pull(name)
        with pytest.raises(errors.Denied, match="login") as refused:
            await registries.pull(name, credentials=Credentials(NAME, "wrong word"))
        assert "wrong word" not in str(refused.value)
        with pytest.raises(errors.Denied):
            await registries.check(registry.address, Credentials(NAME, "wrong word"))
        await registries.check(registry.address, good)
        assert (await registries.pull(name, credentials=good)).image.size > 0
        await registries.push(name, good)
        assert "wonder" not in repr(good)


async def test_tls_with_an_authority_of_ones_own(
    tmp_path: Path, network: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = authority(tmp_path / "ca")
    certificate, key = made.server()
    monkeypatch.setenv("PYCOMPOSE_CONFIG_DIR", str(tmp_path / "config"))
    tls = {"http": {"tls": {"certificate": str(certificate), "key": str(key)}}}
    with docker_registry(tmp_path / "registry", **tls) as registry:
        upload(build(LAYERS), registry.address, "app:1", tmp_path)
        registries = Registries(ImageStore(tmp_path / "store"))
        with pytest.raises(
            errors.Untrusted, match=r"certificate of https://127.0.0.1:5000.*certs.d/127.0.0.1:5000/ca.crt"
        ):
            await registries.pull(f"{registry.address}/app:1")
        certs = tmp_path / "config/certs.d/127.0.0.1:5000"
        certs.mkdir(parents=True)
        shutil.copy(made.certificate, certs / "ca.crt")
        assert (await registries.pull(f"{registry.address}/app:1")).image.size > 0


async def test_words_for_what_is_not_there(tmp_path: Path, network: None) -> None:
    registries = Registries(ImageStore(tmp_path / "store"))
    with pytest.raises(errors.Unreachable, match=r"nothing listens at https://127.0.0.1:5000"):
        await registries.pull("127.0.0.1:5000/app:1")
    with pytest.raises(errors.Unreachable, match=r"the name registry.invalid cannot be resolved"):
        await registries.pull("registry.invalid/app:1")
    with docker_registry(tmp_path / "registry") as registry:
        upload(build(LAYERS), registry.address, "app:1", tmp_path)
        with pytest.raises(errors.NotInRegistry, match=r"127.0.0.1:5000 has no tag 2 of app"):
            await registries.pull(f"{registry.address}/app:2")
        with pytest.raises(errors.ImageNotFound, match="no image has the name"):
            await registries.push(f"{registry.address}/app:2")


async def test_pulls_at_once_share_blobs(tmp_path: Path, network: None) -> None:
    with docker_registry(tmp_path / "registry") as registry:
        for number in range(6):
            layers = [*LAYERS, tar([entry(f"own-{number}", data=bytes([number]))])]
            upload(build(layers), registry.address, f"app:{number}", tmp_path)
        store = ImageStore(tmp_path / "store")
        registries = Registries(store)
        wanted = [f"{registry.address}/app:{number % 6}" for number in range(20)]
        pulled = await asyncio.gather(*map(registries.pull, wanted))
        assert len({one.image.id for one in pulled}) == 6
        # 2 shared layers, 6 of one image each, 6 configurations
        fetched = registry.requests("GET", "/blobs/")
        assert 14 <= fetched <= 2 + 6 + 20
        assert len(list((store.root / "layers").iterdir())) == 8
        assert not [name for name in names(store) if name.startswith(".")]


class Tokens:
    """A token server as the distribution project specifies it: it signs what it grants for the real registry."""

    def __init__(self, made: Authority) -> None:
        from cryptography.hazmat.primitives.serialization import load_pem_private_key

        self._key: Any = load_pem_private_key((made.folder / "ca.key").read_bytes(), None)
        pem = made.certificate.read_text()
        self._certificate = "".join(pem.split("-----")[2].split())
        self.asked: list[tuple[str, str]] = []

    async def answer(self, request: web.BaseRequest) -> web.StreamResponse:
        """Grant pulling to everybody who asks, and pushing to NAME."""
        from cryptography.hazmat.primitives import hashes
        from cryptography.hazmat.primitives.asymmetric import padding

        who = request.headers.get("Authorization", "")
        self.asked.append((who, request.query.get("scope", "")))
        if who not in ("", basic()):
            return web.Response(status=401)
        kind, _, rest = request.query["scope"].partition(":")
        name, _, actions = rest.rpartition(":")
        granted = [each for each in actions.split(",") if each == "pull" or who]
        now = int(time.time())
        claims = {
            "iss": "tokens", "sub": "", "aud": "registry", "exp": now + 300, "nbf": now - 10, "iat": now, "jti": "1",
            "access": [{"type": kind, "name": name, "actions": granted}],
        }  # fmt: skip
        header = {"typ": "JWT", "alg": "RS256", "x5c": [self._certificate]}
        text = ".".join(_base64(json.dumps(part).encode()) for part in (header, claims))
        signature = self._key.sign(text.encode(), padding.PKCS1v15(), hashes.SHA256())
        return web.json_response({"token": f"{text}.{_base64(signature)}"})


def _base64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


async def test_tokens_of_a_token_server(tmp_path: Path, network: None) -> None:
    made = authority(tmp_path / "ca")
    tokens = Tokens(made)
    auth = {"realm": "http://127.0.0.1:5001/token", "service": "registry", "issuer": "tokens"}
    with docker_registry(
        tmp_path / "registry", auth={"token": {**auth, "rootcertbundle": str(made.certificate)}}
    ) as registry:
        store, name = ImageStore(tmp_path / "store"), f"{registry.address}/team/app:1"
        registries = Registries(store)
        (image,) = await load(store, build(LAYERS).docker_archive(name))
        async with serving(tokens, 5001):
            with pytest.raises(errors.Denied):
                await registries.push(name)
            with pytest.raises(errors.Denied, match="refuses these credentials"):
                await registries.push(name, Credentials(NAME, "wrong"))
            await registries.push(name, Credentials(NAME, PASSWORD))
            assert tokens.asked[-1] == (basic(), "repository:team/app:pull,push")
            pulled = await Registries(ImageStore(tmp_path / "other")).pull(name)
            assert pulled.image.id == image.id
            assert tokens.asked[-1] == ("", "repository:team/app:pull")
