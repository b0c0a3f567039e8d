"""Pulling an image: what its name means at the registry, then its layers, fetched beside each other, unpacked in order.

A blob that two pulls want is fetched once, and what is there is not fetched again. The image is listed at the end, so
that it is there as a whole or not at all.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from pycompose.worker.images import limits, manifests, platforms
from pycompose.worker.images.blobs import no_room
from pycompose.worker.images.download import download
from pycompose.worker.images.errors import BadAnswer, BadArchive, ImageError, Unreachable, WrongPlatform
from pycompose.worker.images.layers import chain_ids
from pycompose.worker.images.manifests import Descriptor, Index, Manifest
from pycompose.worker.images.platforms import Platform
from pycompose.worker.images.progress import LayerState, Phase, Report
from pycompose.worker.images.references import Reference, familiar
from pycompose.worker.images.registry import Registry
from pycompose.worker.images.shared import Shared
from pycompose.worker.images.store import Image, ImageStore, Lease

AT_ONCE = 4


@dataclass(frozen=True)
class Pulled:
    """`digest`: what the name means at the registry; `previous`: id of the image that had the name before, or ""."""

    image: Image
    digest: str
    previous: str


@dataclass
class Pull:
    """One pull.

    Attributes:
        downloads: shared by all pulls of the node.
        platform: what the caller asks for, None for this machine's.
    """

    store: ImageStore
    registry: Registry
    downloads: Shared[None]
    reference: Reference
    platform: Platform | None
    report: Report

    async def run(self) -> Pulled:
        """Pull. What came before a failure is kept only where another try may need it. Raises ImageError."""
        try:
            return await self._pull()
        except Unreachable:
            raise
        except ImageError:
            await self.store.sweep()
            raise

    async def _pull(self) -> Pulled:
        before = self.store.find(str(self.reference))
        known = await self._known(before)
        if known is not None:
            return known
        top = await self.registry.manifest(self.reference.which)
        manifest = await self._manifest(top)
        async with Lease(self.store) as lease:
            layers = manifest.layers
            await lease.hold(manifest.digest, manifest.config.digest, *(layer.digest for layer in layers))
            raw = await self._config(manifest.config)
            config = manifests.config_of(raw, len(layers))
            self._check_platform(platforms.of(config))
            self._check_room(layers)
            await self._layers(lease, layers, config["rootfs"]["diff_ids"])
            await asyncio.to_thread(self.store.blobs.put, raw)
            await asyncio.to_thread(self.store.blobs.put, manifest.raw)
            image = await self.store.add(manifest.raw, self._names(), self._digests(top, manifest), again=True)
        previous = before.id if before is not None else ""
        return Pulled(image, top.digest, previous)

    async def _known(self, image: Image | None) -> Pulled | None:
        """Return the image when it is here and the registry says that its name still means it."""
        if image is None or not self._fits(image):
            return None
        digest = self.reference.digest or await self.registry.head(self.reference.which)
        if familiar(f"{self.reference.name}@{digest}") not in image.digests:
            return None
        manifest = self.store.manifest(image)
        for layer in manifest.layers:
            self.report(LayerState(layer.digest, Phase.EXISTS, layer.size, layer.size))
        found = await self.store.confirm(image, self._names())
        return Pulled(found, digest, image.id)

    def _fits(self, image: Image) -> bool:
        wanted = self.platform or platforms.local()
        return platforms.of(image.config) == wanted

    def _names(self) -> list[str]:
        return [] if self.reference.digest else [str(self.reference)]

    def _digests(self, *documents: Manifest | Index) -> list[str]:
        return list(dict.fromkeys(f"{self.reference.name}@{one.digest}" for one in documents))

    async def _manifest(self, top: Manifest | Index) -> Manifest:
        """Return the manifest for the platform."""
        if isinstance(top, Manifest):
            return top
        wanted = self.platform or platforms.local()
        chosen = top.choose(wanted)
        if chosen is None:
            raise WrongPlatform(
                f"{familiar(str(self.reference))} is there for {top.offers()}, not for {wanted}; "
                "--platform, or platform: in the file, takes another"
            )
        found = await self.registry.manifest(chosen.digest)
        if not isinstance(found, Manifest):
            raise BadArchive(f"{familiar(str(self.reference))} is an index of indexes, which no image is")
        return found

    def _check_platform(self, found: Platform) -> None:
        """Refuse an image that cannot run here unless it was asked for."""
        wanted = self.platform or platforms.local()
        if found not in platforms.accepted(wanted):
            raise WrongPlatform(
                f"{familiar(str(self.reference))} is for {found}, not for {wanted}; "
                f"--platform {found}, or platform: in the file, takes it anyway"
            )

    def _check_room(self, layers: Sequence[Descriptor]) -> None:
        """Refuse what cannot fit: each layer that is not there takes its size at least twice, packed and unpacked."""
        missing = {layer.digest: layer.size for layer in layers if self.store.blobs.size(layer.digest) is None}
        if 2 * sum(missing.values()) > limits.room(self.store.root):
            raise no_room(self.store.root)

    async def _config(self, blob: Descriptor) -> bytes:
        if self.store.blobs.size(blob.digest) == blob.size:
            return await asyncio.to_thread(self.store.blobs.read, blob.digest)
        return await self.registry.small(blob, limits.CONFIG_BYTES)

    async def _layers(self, lease: Lease, layers: Sequence[Descriptor], diff_ids: Sequence[str]) -> None:
        """Fetch and unpack."""
        await lease.hold(*chain_ids(diff_ids))
        slots = asyncio.Semaphore(AT_ONCE)
        for layer in layers:
            self.report(LayerState(layer.digest, Phase.WAITING, 0, layer.size))
        fetching = [asyncio.create_task(self._fetch(layer, slots)) for layer in layers]
        try:
            for number, (layer, diff_id) in enumerate(zip(layers, diff_ids, strict=True)):
                fresh = await fetching[number]
                if fresh:
                    self.report(LayerState(layer.digest, Phase.UNPACKING, layer.size, layer.size))
                await self.store.unpack(lease, layer.digest, diff_ids[:number], diff_id)
                phase = Phase.DONE if fresh else Phase.EXISTS
                self.report(LayerState(layer.digest, phase, layer.size, layer.size))
        finally:
            for task in fetching:
                task.cancel()
            await asyncio.gather(*fetching, return_exceptions=True)

    async def _fetch(self, layer: Descriptor, slots: asyncio.Semaphore) -> bool:
        """Fetch a blob unless it is there; returns whether it was fetched."""
        if self.store.blobs.size(layer.digest) == layer.size:
            return False

        def tell(size: int) -> None:
            self.report(LayerState(layer.digest, Phase.DOWNLOADING, size, layer.size))

        async def work() -> None:
            async with slots:
                tell(0)
                await download(self.registry, layer, self.store.blobs, tell)

        await self.downloads.run(layer.digest, work)
        if self.store.blobs.size(layer.digest) != layer.size:
            raise BadAnswer(f"layer {layer.digest} is not the size that its manifest says")
        return True
