"""Archives of images, docker's (manifest.json) and OCI layouts (index.json), read and written as streams.

Reading takes one pass, forwards: large members go into the content store as they come, small ones are kept, and what
belongs together is looked up at the end. What is written is both: an OCI layout with docker's manifest.json beside it,
as Docker 25 and later write it.
"""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, BinaryIO

from pycompose.worker.images import compression, limits, manifests, platforms
from pycompose.worker.images.blobs import Blobs, digest_of, is_digest
from pycompose.worker.images.errors import BadArchive, ImageError
from pycompose.worker.images.references import familiar, full, parse
from pycompose.worker.images.tarstream import FILE, HARDLINK, SYMLINK, Entry, TarError, TarStream

#: Members up to this size are kept in memory at first, and all together up to KEPT bytes.
SMALL, KEPT = limits.CONFIG_BYTES, 32 << 20
NAMES = ("io.containerd.image.name", "org.opencontainers.image.ref.name")


@dataclass(frozen=True)
class Found:
    """One image of an archive: configuration, digests of its layers' blobs, full references, manifest if any."""

    config: bytes
    layers: tuple[str, ...]
    references: tuple[str, ...]
    manifest: bytes = b""


class Peeked(io.RawIOBase):
    """A file that is read forwards, after a look at its first bytes.

    Attributes:
        kind: what it is packed with, as `compression.kind_of` names it.
    """

    def __init__(self, file: BinaryIO) -> None:
        super().__init__()
        self._file = file
        self._head = file.read(8)
        self.kind = compression.kind_of(self._head)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        found = self._head[: len(buffer)] or self._file.read(len(buffer))
        self._head = self._head[len(found) :]
        buffer[: len(found)] = found
        return len(found)


def unpacked(file: BinaryIO) -> Callable[[], bytes]:
    """Return a function that gives the next bytes of what a file holds, decompressed; it raises BadArchive."""
    peeked = Peeked(file)
    read = compression.reader(peeked, peeked.kind)

    def checked() -> bytes:
        try:
            return read()
        except compression.CompressionError as error:
            raise BadArchive(f"the archive is damaged: {error}") from error

    return checked


def pieces(read: Callable[[], bytes]) -> Iterator[bytes]:
    """Yield what a reading function gives."""
    while piece := read():
        yield piece


class Reader:
    """An archive.

    Args:
        file: read once, forwards; compressed or not.
        blobs: where large members go.
    """

    def __init__(self, file: BinaryIO, blobs: Blobs) -> None:
        self._blobs = blobs
        self._small: dict[str, bytes] = {}
        self._kept = 0
        self._large: dict[str, str] = {}
        self._links: dict[str, str] = {}
        self._stream = TarStream(unpacked(file), limits.HEADER_BYTES)
        try:
            for count, entry in enumerate(self._stream):
                if count > limits.ARCHIVE_ENTRIES:
                    raise BadArchive(f"the archive has more than {limits.ARCHIVE_ENTRIES:,} entries")
                self._take(entry)
        except TarError as error:
            raise BadArchive(f"this is no image archive: {error}") from error

    def _take(self, entry: Entry) -> None:
        name = _path(entry.name)
        if entry.kind in (SYMLINK, HARDLINK):
            base = name.rpartition("/")[0] if entry.kind == SYMLINK else ""
            self._links[name] = _join(base, entry.link.decode("utf-8", "replace"))
        if entry.kind != FILE or entry.sparse is not None:
            return
        content = pieces(lambda: bytes(self._stream.data()))
        if entry.size <= SMALL:
            self._small[name] = b"".join(content)
            self._kept += entry.size
            if self._kept > KEPT:
                self._spill()
        else:
            self._large[name] = self._blobs.put_stream(content)[0]

    def _spill(self) -> None:
        """Put kept members that are not quite small into the store."""
        for name in [name for name, data in self._small.items() if len(data) > 64 << 10]:
            self._large[name] = self._blobs.put(self._small.pop(name))
        self._kept = sum(map(len, self._small.values()))
        if self._kept > KEPT:
            raise BadArchive("the archive has too many small files")

    def images(self) -> Iterator[Found]:
        """Yield the images. Raises BadArchive."""
        if "manifest.json" in self._small:
            yield from self._docker()
        elif "index.json" in self._small:
            index = manifests.parse(self._small["index.json"], manifests.OCI_INDEX)
            for entry in index.entries if isinstance(index, manifests.Index) else ():
                found = self._oci(entry, entry.annotations or {})
                if found is not None:
                    yield found
        elif "repositories" in self._small:
            raise BadArchive("the archive is of a Docker before 1.10; load it there and save it again")
        else:
            raise BadArchive("this is no image archive: neither manifest.json nor index.json is in it")

    def _docker(self) -> Iterator[Found]:
        layout = self._layout()
        for entry in _entries(self._json("manifest.json")):
            config = self._read(entry["Config"])
            layers = tuple(self._digest(name) for name in entry["Layers"])
            tags = tuple(full(tag) for tag in entry["RepoTags"])
            beside = layout.get(digest_of(config))
            same = beside is not None and beside.layers == layers
            yield Found(config, layers, tags, beside.manifest if beside is not None and same else b"")

    def _layout(self) -> dict[str, Found]:
        """Return the images of the OCI layout that is beside docker's manifest.json, by their id."""
        found = {}
        if "index.json" in self._small:
            index = manifests.parse(self._small["index.json"], manifests.OCI_INDEX)
            for entry in index.entries if isinstance(index, manifests.Index) else ():
                image = self._oci(entry, {})
                if image is not None:
                    found[digest_of(image.config)] = image
        return found

    def _oci(self, entry: manifests.Descriptor, annotations: Mapping[str, str], depth: int = 0) -> Found | None:
        document = manifests.parse(self._checked(entry), entry.media_type)
        if isinstance(document, manifests.Index):
            chosen = document.choose(platforms.local())
            if chosen is None or depth:
                raise BadArchive(f"the archive has an image for {document.offers()} only; this is {platforms.local()}")
            return self._oci(chosen, annotations, depth + 1)
        names = [annotations[key] for key in NAMES if annotations.get(key)]
        # the second annotation is often no more than a tag, and then names nothing by itself
        references = [full(name) for name in names[:1] if name == annotations.get(NAMES[0]) or set("/:") & set(name)]
        config = self._checked(document.config)
        layers = []
        for layer in document.layers:
            digest = self._digest(_place(layer.digest))
            if digest != layer.digest:
                raise BadArchive(f"layer {layer.digest} of the archive has the digest {digest}; get it again")
            layers.append(digest)
        return Found(config, tuple(layers), tuple(references), document.raw)

    def _checked(self, entry: manifests.Descriptor) -> bytes:
        data = self._read(_place(entry.digest))
        if digest_of(data) != entry.digest:
            raise BadArchive(f"{entry.digest} of the archive has the digest {digest_of(data)}; get it again")
        return data

    def _followed(self, name: str) -> str:
        for _ in range(16):
            if name not in self._links:
                return name
            name = self._links[name]
        raise BadArchive(f"the archive's {name[:80]} is a link that leads nowhere")

    def _digest(self, name: str) -> str:
        name = self._followed(name)
        if name in self._small:
            self._large[name] = self._blobs.put(self._small[name])
        if name not in self._large:
            raise BadArchive(f"the archive has no {name[:100]}")
        return self._large[name]

    def _read(self, name: str) -> bytes:
        name = self._followed(name)
        if name in self._small:
            return self._small[name]
        if name in self._large and (self._blobs.size(self._large[name]) or 0) <= SMALL:
            return self._blobs.read(self._large[name])
        raise BadArchive(f"the archive has no {name[:100]}, or one that is too large")

    def _json(self, name: str) -> Any:
        try:
            return json.loads(self._small[name])
        except (ValueError, RecursionError):
            raise BadArchive(f"the archive's {name} is no JSON") from None


def _entries(document: Any) -> list[dict[str, Any]]:
    """Check docker's manifest.json."""
    if not isinstance(document, list) or len(document) > limits.ARCHIVE_IMAGES:
        raise BadArchive("the archive's manifest.json is no list of images")
    for entry in document:
        if not isinstance(entry, dict):
            raise BadArchive("the archive's manifest.json is no list of images")
        entry["RepoTags"] = entry.get("RepoTags") or []
        texts = [entry.get("Config"), *(entry.get("Layers") or []), *entry["RepoTags"]]
        if not all(isinstance(text, str) for text in texts) or len(texts) > 2 * limits.LAYERS:
            raise BadArchive("the archive's manifest.json has an image without Config and Layers")
        entry["Layers"] = entry.get("Layers") or []
    return document


def _path(name: bytes) -> str:
    return _join("", name.decode("utf-8", "replace"))


def _join(base: str, name: str) -> str:
    parts: list[str] = base.split("/") if base else []
    for part in name.split("/"):
        if part == "..":
            del parts[-1:]
        elif part not in ("", "."):
            parts.append(part)
    return "/".join(parts)


def _place(digest: str) -> str:
    return "blobs/" + digest.replace(":", "/")


@dataclass(frozen=True)
class Saved:
    """An image to write: its manifest, and the full references that it is written under."""

    manifest: manifests.Manifest
    references: tuple[str, ...]


def write(file: Any, blobs: Blobs, images: Sequence[Saved]) -> None:
    """Write images as an archive to a file that need not be seekable.

    Raises:
        ImageError: content is missing.
    """
    entries: list[dict[str, Any]] = []
    docker: list[dict[str, Any]] = []
    with tarfile.open(fileobj=file, mode="w|", format=tarfile.PAX_FORMAT) as tar:
        for name in ("blobs", "blobs/sha256"):
            folder = tarfile.TarInfo(name)
            folder.type, folder.mode = tarfile.DIRTYPE, 0o755
            tar.addfile(folder)
        done: set[str] = set()
        for image in images:
            manifest = image.manifest
            for digest in (manifest.digest, manifest.config.digest, *(layer.digest for layer in manifest.layers)):
                if digest not in done:
                    done.add(digest)
                    _add_blob(tar, blobs, digest)
            described = {"mediaType": manifest.media_type, "digest": manifest.digest, "size": len(manifest.raw)}
            for reference in image.references:
                annotations = {NAMES[0]: reference, NAMES[1]: parse(reference).tag}
                entries.append({**described, "annotations": annotations})
            if not image.references:
                entries.append(described)
            docker.append(
                {
                    "Config": _place(manifest.config.digest),
                    "RepoTags": [familiar(reference) for reference in image.references] or None,
                    "Layers": [_place(layer.digest) for layer in manifest.layers],
                }
            )
        index = {"schemaVersion": 2, "mediaType": manifests.OCI_INDEX, "manifests": entries}
        _add(tar, "index.json", json.dumps(index).encode())
        _add(tar, "manifest.json", json.dumps(docker).encode())
        _add(tar, "oci-layout", b'{"imageLayoutVersion": "1.0.0"}')


def _add(tar: tarfile.TarFile, name: str, data: bytes) -> None:
    info = tarfile.TarInfo(name)
    info.size, info.mode = len(data), 0o644
    tar.addfile(info, io.BytesIO(data))


def _add_blob(tar: tarfile.TarFile, blobs: Blobs, digest: str) -> None:
    assert is_digest(digest)
    try:
        with blobs.path(digest).open("rb") as file:
            info = tarfile.TarInfo(_place(digest))
            info.size, info.mode = file.seek(0, io.SEEK_END), 0o644
            file.seek(0)
            tar.addfile(info, file)
    except FileNotFoundError:
        raise ImageError(f"{digest} is missing from the image store; pull or load the image again") from None
