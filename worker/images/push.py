"""Pushing an image: the blobs that its repository does not have, its configuration, and at last its manifest.

Layers that are not packed are packed first (gzip, as every registry and runtime takes it), and stay packed in the
store: the second push of an image sends nothing and has the same digest.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from pycompose.worker.images import manifests
from pycompose.worker.images.blobs import CHUNK
from pycompose.worker.images.errors import BadReference, ImageNotFound, Unreachable
from pycompose.worker.images.manifests import LAYER_TYPES, Descriptor, Manifest
from pycompose.worker.images.progress import LayerState, Phase, Report
from pycompose.worker.images.references import Reference, familiar
from pycompose.worker.images.registry import Registry
from pycompose.worker.images.shared import in_thread
from pycompose.worker.images.store import Image, ImageStore, Lease

AT_ONCE = 4
PAUSES = (0.5, 2.0, 5.0)
GZIP_LEVEL = 1
_PLAIN = {LAYER_TYPES["tar"], manifests.DOCKER + "image.rootfs.diff.tar"}


@dataclass
class Push:
    """One push."""

    store: ImageStore
    registry: Registry
    reference: Reference
    report: Report

    async def run(self) -> Manifest:
        """Push; returns the manifest. Raises ImageError."""
        if self.reference.digest:
            raise BadReference(f"{familiar(str(self.reference))}: a push goes to a tag; use NAME:TAG")
        image = self.store.find(str(self.reference))
        if image is None:
            name = familiar(str(self.reference))
            raise ImageNotFound(f"no image has the name {name} here; give it one: pycompose image tag IMAGE {name}")
        async with Lease(self.store) as lease:
            manifest = await self._packed(lease, image)
            await lease.hold(*(blob.digest for blob in (manifest.config, *manifest.layers)))
            slots = asyncio.Semaphore(AT_ONCE)
            blobs = {layer.digest: layer for layer in manifest.layers}
            for layer in blobs.values():
                self.report(LayerState(layer.digest, Phase.WAITING, 0, layer.size))
                elsewhere = self._elsewhere(layer.digest)
                if elsewhere:
                    self.registry.allow(elsewhere)
            tasks = [asyncio.create_task(self._blob(layer, slots)) for layer in blobs.values()]
            try:
                await asyncio.gather(*tasks)
            finally:
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)
            if not await self.registry.has(manifest.config.digest):
                await self._upload(manifest.config, "", lambda _: None)
            await self.registry.put_manifest(self.reference.tag, manifest)
        await self.store.confirm(image, digests=[f"{self.reference.name}@{manifest.digest}"])
        return manifest

    async def _packed(self, lease: Lease, image: Image) -> Manifest:
        """Return the image's manifest, with all layers packed."""
        manifest = self.store.manifest(image)
        if not any(layer.media_type in _PLAIN for layer in manifest.layers):
            return manifest
        layers = [await self._pack(lease, layer) for layer in manifest.layers]
        # a manifest of Docker's with layers of OCI's would be neither
        config = replace(manifest.config, media_type=manifests.OCI_CONFIG)
        raw = manifests.make(config, [replace(layer, media_type=_oci(layer)) for layer in layers])
        made = manifests.parse(raw)
        assert isinstance(made, Manifest)
        await lease.hold(made.digest)
        await asyncio.to_thread(self.store.blobs.put, raw)
        await self.store.add(raw)
        return made

    async def _pack(self, lease: Lease, layer: Descriptor) -> Descriptor:
        if layer.media_type not in _PLAIN:
            return layer
        self.report(LayerState(layer.digest, Phase.COMPRESSING, 0, layer.size))
        with self.store.blobs.writer() as writer:
            source = self.store.blobs.path(layer.digest)

            def pack() -> None:
                for piece in _gzip(source):
                    writer.write(piece)

            await in_thread(pack)
            await lease.hold(writer.digest())
            return Descriptor(LAYER_TYPES["gzip"], writer.commit(), writer.size)

    async def _blob(self, layer: Descriptor, slots: asyncio.Semaphore) -> None:
        async with slots:
            if await self.registry.has(layer.digest):
                self.report(LayerState(layer.digest, Phase.EXISTS, layer.size, layer.size))
                return

            def tell(size: int) -> None:
                self.report(LayerState(layer.digest, Phase.UPLOADING, size, layer.size))

            mounted = await self._upload(layer, self._elsewhere(layer.digest), tell)
            phase = Phase.MOUNTED if mounted else Phase.DONE
            self.report(LayerState(layer.digest, phase, layer.size, layer.size))

    def _elsewhere(self, digest: str) -> str:
        """Return the path of another repository of the same registry that has a blob, "" when none is known."""
        prefix = self.reference.registry + "/"
        for repository in self.store.repositories_with(digest):
            if repository.startswith(prefix) and repository != self.reference.name:
                return repository.removeprefix(prefix)
        return ""

    async def _upload(self, blob: Descriptor, mount_from: str, tell: Callable[[int], None]) -> bool:
        """Upload a blob; returns whether the registry took it over from another repository instead."""
        failures = 0
        while True:
            place = await self.registry.begin_upload(blob.digest, mount_from)
            if not place:
                return True
            try:
                content = _content(self.store.blobs.path(blob.digest), tell)
                await self.registry.upload(place, blob.digest, blob.size, content)
                return False
            except Unreachable:
                if failures >= len(PAUSES):
                    raise
                await asyncio.sleep(PAUSES[failures])
                failures += 1


def _oci(layer: Descriptor) -> str:
    """Return the OCI media type of a packed layer."""
    return LAYER_TYPES["zstd" if layer.media_type.endswith("zstd") else "gzip"]


def _gzip(source: Path) -> Iterator[bytes]:
    """Yield a file's content packed; the same content gives the same bytes (no time, no name in the header)."""
    from isal import isal_zlib

    packer = isal_zlib.compressobj(GZIP_LEVEL, isal_zlib.DEFLATED, 31)
    with source.open("rb") as file:
        while piece := file.read(CHUNK):
            yield packer.compress(piece)
    yield packer.flush()


async def _content(path: Path, tell: Callable[[int], None]) -> AsyncIterator[bytes]:
    """Yield a file's content, and tell how much of it went out."""
    done = 0
    with path.open("rb") as file:
        while piece := await asyncio.to_thread(file.read, CHUNK):
            yield piece
            done += len(piece)
            tell(done)
