"""Small images for tests: layers as tars, and image archives made with skopeo's and docker's own forms in mind."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import subprocess
import tarfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


def entry(
    name: str, kind: bytes = tarfile.REGTYPE, data: bytes = b"", link: str = "", **more: Any
) -> tuple[Any, bytes]:
    """A tar entry; `more` are attributes of tarfile.TarInfo."""
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.size, info.mtime = kind, link, len(data), 1_000
    info.mode = {tarfile.DIRTYPE: 0o755, tarfile.SYMTYPE: 0o777}.get(kind, 0o644)
    for key, value in more.items():
        setattr(info, key, value)
    return info, data


def folder(name: str, **more: Any) -> tuple[Any, bytes]:
    """A directory's entry."""
    return entry(name, tarfile.DIRTYPE, **more)


def symlink(target: str, name: str) -> tuple[Any, bytes]:
    """A symbolic link's entry."""
    return entry(name, tarfile.SYMTYPE, link=target)


def hardlink(target: str, name: str) -> tuple[Any, bytes]:
    """A hard link's entry."""
    return entry(name, tarfile.LNKTYPE, link=target)


def tar(entries: Iterable[tuple[Any, bytes]], form: int = tarfile.PAX_FORMAT) -> bytes:
    """A layer's tar."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=form) as archive:
        for info, data in entries:
            archive.addfile(info, io.BytesIO(data))
    return out.getvalue()


def sha(data: bytes) -> str:
    """The digest of some bytes."""
    return "sha256:" + hashlib.sha256(data).hexdigest()


@dataclass
class Built:
    """An image as its parts, each of which a test may spoil."""

    layers: list[bytes]
    blobs: list[bytes]
    config: dict[str, Any]
    media_type: str = "application/vnd.oci.image.layer.v1.tar+gzip"
    more: dict[str, Any] = field(default_factory=dict)

    @property
    def config_bytes(self) -> bytes:
        """The configuration as JSON."""
        return json.dumps(self.config).encode()

    @property
    def manifest(self) -> dict[str, Any]:
        """The manifest."""
        config = self.config_bytes
        layers = [{"mediaType": self.media_type, "digest": sha(blob), "size": len(blob)} for blob in self.blobs]
        return {
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": {
                "mediaType": "application/vnd.oci.image.config.v1+json",
                "digest": sha(config),
                "size": len(config),
            },
            "layers": layers,
            **self.more,
        }

    def docker_archive(self, *names: str) -> bytes:
        """The image as docker's archive, its layers not packed."""
        config = self.config_bytes
        files = {f"{sha(config)[7:]}.json": config}
        files |= {f"{number}/layer.tar": layer for number, layer in enumerate(self.layers)}
        listed = [{"Config": next(iter(files)), "RepoTags": list(names), "Layers": list(files)[1:]}]
        files["manifest.json"] = json.dumps(listed).encode()
        return tar(entry(name, data=data) for name, data in files.items())


def build(layers: Sequence[bytes], platform: tuple[str, str] = ("linux", "amd64"), **settings: Any) -> Built:
    """An image of layers' tars, packed with gzip; `settings` is the configuration's `config`."""
    config = {
        "os": platform[0],
        "architecture": platform[1],
        "created": "2024-05-06T07:08:09.123456789Z",
        "config": settings,
        "rootfs": {"type": "layers", "diff_ids": [sha(layer) for layer in layers]},
        "history": [{"created_by": f"layer {number}"} for number in range(len(layers))],
    }
    return Built(list(layers), [gzip.compress(layer, 1, mtime=0) for layer in layers], config)


_PREFIX: list[str] = []


@contextmanager
def skopeo_on(prefix: Sequence[str]) -> Iterator[None]:
    """Let skopeo run on another machine: `prefix` are words before the command."""
    _PREFIX[:] = prefix
    try:
        yield
    finally:
        _PREFIX.clear()


def skopeo(*words: str) -> str:
    """Run skopeo; it must succeed."""
    done = subprocess.run([*_PREFIX, "skopeo", "--insecure-policy", *words], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def upload(built: Built, registry: str, name: str, folder_: Path, *options: str) -> None:
    """Push an image with skopeo."""
    path = folder_ / "upload.tar"
    path.unlink(missing_ok=True)
    path.write_bytes(built.docker_archive("upload:it"))
    skopeo("copy", "--dest-tls-verify=false", *options, f"docker-archive:{path}", f"docker://{registry}/{name}")
