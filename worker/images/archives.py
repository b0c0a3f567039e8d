"""Archives of images: docker's (manifest.json) and OCI layouts (index.json), read and written as tar files."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from pycompose.worker.images.blobs import CHUNK, Blobs
from pycompose.worker.images.errors import BadArchive
from pycompose.worker.images.references import familiar, full


@dataclass(frozen=True)
class Found:
    """One image of an archive: config, digests of its layers' blobs, references in full."""

    config: bytes
    layers: tuple[str, ...]
    references: tuple[str, ...]


class Reader:
    """An archive in a file."""

    def __init__(self, path: Path) -> None:
        try:
            self._tar = tarfile.open(path, "r:*")  # noqa: SIM115
            self._names = {name.name.removeprefix("./"): name for name in self._tar}
        except (tarfile.TarError, OSError, EOFError) as error:
            raise BadArchive(f"this is no image archive: {error}") from error

    def close(self) -> None:
        """Close the file."""
        self._tar.close()

    def images(self, blobs: Blobs) -> Iterator[Found]:
        """Store the layers and yield the images. Raises BadArchive."""
        if "manifest.json" in self._names:
            yield from self._docker(blobs)
        elif "index.json" in self._names:
            index = json.loads(self._read("index.json"))
            for entry in index.get("manifests", []):
                yield from self._oci(blobs, entry, entry.get("annotations") or {})
        else:
            raise BadArchive("this is no image archive: neither manifest.json nor index.json is in it")

    def _docker(self, blobs: Blobs) -> Iterator[Found]:
        for entry in json.loads(self._read("manifest.json")):
            layers = [blobs.put_stream(self._pieces(name))[0] for name in entry["Layers"]]
            references = tuple(full(tag) for tag in entry.get("RepoTags") or ())
            yield Found(self._read(entry["Config"]), tuple(layers), references)

    def _oci(self, blobs: Blobs, entry: dict[str, Any], annotations: dict[str, str]) -> Iterator[Found]:
        document = json.loads(self._read(self._place(entry["digest"])))
        if "manifests" in document:
            for inner in document["manifests"]:
                if (inner.get("platform") or {}).get("os", "linux") == "linux":
                    yield from self._oci(blobs, inner, annotations)
                    return
            return
        for layer in document["layers"]:
            blobs.put_stream(self._pieces(self._place(layer["digest"])), layer["digest"])
        name = annotations.get("io.containerd.image.name") or annotations.get("org.opencontainers.image.ref.name", "")
        references = (full(name),) if name else ()
        config = self._read(self._place(document["config"]["digest"]))
        yield Found(config, tuple(layer["digest"] for layer in document["layers"]), references)

    @staticmethod
    def _place(digest: str) -> str:
        return "blobs/" + digest.replace(":", "/")

    def _open(self, name: str) -> IO[bytes]:
        member = self._names.get(name)
        while member is not None and (member.issym() or member.islnk()):
            member = self._names.get(member.linkname.removeprefix("../"))
        file = self._tar.extractfile(member) if member is not None else None
        if file is None:
            raise BadArchive(f"the archive has no {name}")
        return file

    def _read(self, name: str) -> bytes:
        return self._open(name).read(64 << 20)

    def _pieces(self, name: str) -> Iterator[bytes]:
        file = self._open(name)
        while piece := file.read(CHUNK):
            yield piece


def write(path: Path, blobs: Blobs, images: list[tuple[str, dict[str, Any], list[str]]]) -> None:
    """Write a docker archive: (config digest, manifest, references) of each image."""
    manifest = []
    with tarfile.open(path, "w") as tar:
        done: set[str] = set()
        for config, document, references in images:
            names = []
            for digest in [config, *(layer["digest"] for layer in document["layers"])]:
                name = "blobs/" + digest.replace(":", "/")
                names.append(name)
                if digest not in done:
                    tar.add(blobs.path(digest), name)
                    done.add(digest)
            tags = [familiar(reference) for reference in references]
            manifest.append({"Config": names[0], "RepoTags": tags, "Layers": names[1:]})
        data = json.dumps(manifest).encode()
        info = tarfile.TarInfo("manifest.json")
        info.size = len(data)
        tar.addfile(info, io.BytesIO(data))
