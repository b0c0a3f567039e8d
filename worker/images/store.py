"""``ImageStore``: images by reference or id, their layers, and containers' writable layers.

The index (references and images) is one small JSON file, replaced atomically; blocking work runs in threads.
"""

from __future__ import annotations

import asyncio
import json
import os
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pycompose.worker.images import archives, references
from pycompose.worker.images.blobs import Blobs, write_atomically
from pycompose.worker.images.errors import ImageError, ImageInUse, ImageNotFound
from pycompose.worker.images.layers import Layers
from pycompose.worker.images.snapshots import Snapshot, Snapshots

MANIFEST = "application/vnd.oci.image.manifest.v1+json"


@dataclass(frozen=True)
class Image:
    """`id`: digest of the config; `config`: the OCI image configuration; `size`: bytes of the layers' blobs."""

    id: str
    references: tuple[str, ...]
    config: Mapping[str, Any]
    size: int

    @property
    def diff_ids(self) -> tuple[str, ...]:
        """Layers, lowest first."""
        return tuple(self.config.get("rootfs", {}).get("diff_ids", ()))

    @property
    def platform(self) -> str:
        """Such as linux/amd64."""
        variant = self.config.get("variant")
        return f"{self.config.get('os', 'linux')}/{self.config.get('architecture', '')}" + (
            f"/{variant}" if variant else ""
        )


class ImageStore:
    """Args: root: the store's directory, made when it is missing."""

    def __init__(self, root: Path) -> None:
        root.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.root = root
        self.blobs, self._layers, self._snapshots = Blobs(root), Layers(root), Snapshots(root)
        self._index = root / "index.json"
        self._lock = asyncio.Lock()
        #: Image id -> {"manifest": digest, "references": [full references]}.
        self._images: dict[str, dict[str, Any]] = {}
        self._configs: dict[str, Image] = {}
        if self._index.exists():
            self._images = json.loads(self._index.read_text())

    # Finding.

    def all(self) -> list[Image]:
        """Return all images."""
        return [self._image(identity) for identity in self._images]

    def find(self, text: str) -> Image | None:
        """Return the image with that reference, id, or unique id prefix; None when there is none here."""
        digits = text.removeprefix("sha256:")
        if f"sha256:{digits}" in self._images:
            return self._image(f"sha256:{digits}")
        try:
            wanted = references.full(text)
        except ImageError:
            wanted = ""
        for identity, entry in self._images.items():
            if wanted in entry["references"]:
                return self._image(identity)
        if len(digits) >= 4:
            matching = [i for i in self._images if i.removeprefix("sha256:").startswith(digits)]
            if len(matching) == 1:
                return self._image(matching[0])
        return None

    def require(self, text: str) -> Image:
        """Return the image. Raises ImageNotFound."""
        image = self.find(text)
        if image is None:
            raise ImageNotFound(f"no such image: {text}; see `pycompose image ls`, or load or import it")
        return image

    def layers(self, image_id: str) -> tuple[Path, ...]:
        """Return the image's layers, topmost first."""
        return tuple(self._layers.path(diff_id) for diff_id in reversed(self.require(image_id).diff_ids))

    def _image(self, identity: str) -> Image:
        known = self._configs.get(identity)
        names = tuple(references.familiar(name) for name in self._images[identity]["references"])
        if known is None or known.references != names:
            config = json.loads(self.blobs.read(identity))
            manifest = json.loads(self.blobs.read(self._images[identity]["manifest"]))
            size = sum(int(layer["size"]) for layer in manifest["layers"])
            known = self._configs[identity] = Image(identity, names, config, size)
        return known

    def inspect(self, text: str) -> dict[str, Any]:
        """Return the image as ``docker image inspect`` shows it. Raises ImageNotFound."""
        image = self.require(text)
        return {
            "Id": image.id,
            "RepoTags": list(image.references),
            "RepoDigests": [],
            "Created": image.config.get("created", ""),
            "Architecture": image.config.get("architecture", ""),
            "Os": image.config.get("os", "linux"),
            "Size": image.size,
            "Config": image.config.get("config") or {},
            "RootFS": {"Type": "layers", "Layers": list(image.diff_ids)},
        }

    # Coming in.

    async def load(self, archive: Path, progress: Callable[[str], None] = lambda _: None) -> list[Image]:
        """Take over the images of an archive file. Raises BadArchive."""
        async with self._lock:
            identities = await asyncio.to_thread(self._load, archive, progress)
        return [self._image(identity) for identity in identities]

    def _load(self, archive: Path, progress: Callable[[str], None]) -> list[str]:
        reader = archives.Reader(archive)
        try:
            found = []
            for image in reader.images(self.blobs):
                diff_ids = json.loads(image.config)["rootfs"]["diff_ids"]
                for blob, diff_id in zip(image.layers, diff_ids, strict=True):
                    progress(f"unpacking {diff_id[7:19]}")
                    self._layers.unpack(self.blobs.path(blob), diff_id)
                found.append(self._add(image.config, list(image.layers), list(image.references)))
            return found
        finally:
            reader.close()

    async def import_(self, archive: Path, reference: str, config: Mapping[str, Any]) -> Image:
        """Make an image of one layer from the tar of a root file system.

        Args:
            config: the image's ``config`` object: Env, Cmd, Entrypoint, User, WorkingDir, Healthcheck, …
        """
        name = references.full(reference) if reference else ""

        def work() -> str:
            with archive.open("rb") as file:
                blob, _ = self.blobs.put_stream(iter(lambda: file.read(1 << 20), b""))
            diff_id = self._layers.unpack(self.blobs.path(blob))
            now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
            document = {
                "created": now,
                "architecture": architecture(),
                "os": "linux",
                "config": dict(config),
                "rootfs": {"type": "layers", "diff_ids": [diff_id]},
                "history": [{"created": now, "comment": "imported"}],
            }
            return self._add(json.dumps(document).encode(), [blob], [name] if name else [])

        async with self._lock:
            return self._image(await asyncio.to_thread(work))

    async def derive(
        self,
        base: str,
        layer: AsyncIterator[bytes],
        reference: str,
        config: Mapping[str, Any],
        *,
        author: str = "",
        comment: str = "",
    ) -> Image:
        """Make an image of another one and a layer above it.

        Args:
            base: id of the image below.
            layer: the layer's tar.
            config: the new image's ``config`` object.

        Raises:
            ImageNotFound, BadReference, BadArchive.
        """
        name = references.full(reference) if reference else ""
        below = self.require(base)
        descriptor, path = tempfile.mkstemp(dir=self.root, prefix=".commit-")
        try:
            with os.fdopen(descriptor, "wb") as file:
                async for piece in layer:
                    await asyncio.to_thread(file.write, piece)
            async with self._lock:
                made = await asyncio.to_thread(self._derive, below, Path(path), name, config, author, comment)
                return self._image(made)
        finally:
            Path(path).unlink(missing_ok=True)

    def _derive(
        self, below: Image, layer: Path, name: str, config: Mapping[str, Any], author: str, comment: str
    ) -> str:
        with layer.open("rb") as file:
            blob, _ = self.blobs.put_stream(iter(lambda: file.read(1 << 20), b""))
        diff_id = self._layers.unpack(self.blobs.path(blob))
        manifest = json.loads(self.blobs.read(self._images[below.id]["manifest"]))
        now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        document = {
            **below.config,
            "created": now,
            "author": author,
            "config": dict(config),
            "rootfs": {"type": "layers", "diff_ids": [*below.diff_ids, diff_id]},
            "history": [*below.config.get("history", ()), {"created": now, "author": author, "comment": comment}],
        }
        layers = [str(each["digest"]) for each in manifest["layers"]]
        return self._add(json.dumps(document).encode(), [*layers, blob], [name] if name else [])

    def _add(self, config: bytes, layers: list[str], names: list[str]) -> str:
        identity = self.blobs.put(config)
        descriptors = [
            {
                "mediaType": "application/vnd.oci.image.layer.v1.tar",
                "digest": digest,
                "size": self.blobs.path(digest).stat().st_size,
            }
            for digest in layers
        ]
        manifest = {
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": {
                "mediaType": "application/vnd.oci.image.config.v1+json",
                "digest": identity,
                "size": len(config),
            },
            "layers": descriptors,
        }
        entry = self._images.setdefault(identity, {"manifest": "", "references": []})
        entry["manifest"] = self.blobs.put(json.dumps(manifest).encode())
        for name in names:
            self._name(identity, name)
        self._save()
        return identity

    def _name(self, identity: str, name: str) -> None:
        for entry in self._images.values():
            if name in entry["references"]:
                entry["references"].remove(name)
        self._images[identity]["references"].append(name)

    def _save(self) -> None:
        write_atomically(self._index, json.dumps(self._images, indent=1).encode())

    # Going out.

    async def save(self, names: list[str], target: Path) -> None:
        """Write an archive with these images. Raises ImageNotFound."""
        chosen = []
        for name in names:
            image = self.require(name)
            manifest = json.loads(self.blobs.read(self._images[image.id]["manifest"]))
            tags = [] if image.id.startswith(name) else [references.full(name)]
            chosen.append((image.id, manifest, tags))
        await asyncio.to_thread(archives.write, target, self.blobs, chosen)

    async def tag(self, source: str, target: str) -> None:
        """Give an image another name. Raises ImageNotFound, BadReference."""
        name = references.full(target)
        async with self._lock:
            self._name(self.require(source).id, name)
            await asyncio.to_thread(self._save)

    async def remove(self, text: str, *, force: bool, in_use: Mapping[str, list[str]]) -> list[str]:
        """Remove a name, and with its last name the image; returns what was done, in words as docker's.

        Raises:
            ImageNotFound.
            ImageInUse: `in_use` (image id -> container names) has it, and `force` is not set.
        """
        async with self._lock:
            image = self.require(text)
            entry = self._images[image.id]
            by_id = image.id.removeprefix("sha256:").startswith(text.removeprefix("sha256:"))
            name = "" if by_id else references.full(text)
            last = by_id or len(entry["references"]) <= 1
            if last and in_use.get(image.id) and not force:
                users = ", ".join(in_use[image.id][:5])
                raise ImageInUse(f"image {text} is used by {users}; remove them first, or use force")
            done = [f"Untagged: {references.familiar(n)}" for n in entry["references"] if by_id or n == name]
            if last and not in_use.get(image.id):
                del self._images[image.id]
                done.append(f"Deleted: {image.id}")
            else:
                entry["references"] = [] if by_id else [n for n in entry["references"] if n != name]
            await asyncio.to_thread(self._sweep)
            return done

    async def prune(self, *, everything: bool, in_use: Mapping[str, list[str]]) -> list[str]:
        """Remove unused images: those without a name, or all of them; returns their ids."""
        async with self._lock:
            gone = [i for i, e in self._images.items() if i not in in_use and (everything or not e["references"])]
            for identity in gone:
                del self._images[identity]
            await asyncio.to_thread(self._sweep)
            return gone

    def _sweep(self) -> None:
        """Write the index, then remove content that no image has."""
        import shutil

        self._save()
        blobs, layers = set(), set()
        for identity, entry in self._images.items():
            manifest = json.loads(self.blobs.read(entry["manifest"]))
            blobs |= {identity, entry["manifest"], *(layer["digest"] for layer in manifest["layers"])}
            layers |= {self._layers.path(diff_id) for diff_id in self._image(identity).diff_ids}
        for path in self.blobs.directory.iterdir():
            if f"sha256:{path.name}" not in blobs:
                path.unlink()
        for path in list(self._layers.all()):
            if path not in layers:
                shutil.rmtree(path, ignore_errors=True)

    # Containers.

    async def snapshot(self, container_id: str, image_id: str) -> Snapshot:
        """Return a container's writable layer over an image, made when it is missing."""
        return self._snapshots.make(container_id, self.layers(image_id))

    async def release(self, container_id: str) -> None:
        """Remove a container's writable layer."""
        await asyncio.to_thread(self._snapshots.release, container_id)

    def snapshots(self) -> list[str]:
        """Return the containers that have a writable layer."""
        return self._snapshots.ids()


def architecture() -> str:
    """Return this machine's architecture as Go names it."""
    import platform

    machine = platform.machine()
    return {"x86_64": "amd64", "aarch64": "arm64", "armv7l": "arm"}.get(machine, machine)
