"""Pulling an image: what its name means at the registry, then its layers, fetched beside each other, unpacked in order.

A blob that two pulls want is fetched once, and what is there is not fetched again. The image is listed at the end, so
that it is there as a whole or not at all.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from pycompose.worker.images import limits, manifests, platforms
from pycompose.worker.images.arrival import Arrival
from pycompose.worker.images.download import download
from pycompose.worker.images.errors import BadArchive, ImageError, Unreachable, WrongPlatform
from pycompose.worker.images.manifests import Descriptor, Index, Manifest
from pycompose.worker.images.platforms import Platform
from pycompose.worker.images.progress import LayerState, Phase, Report
from pycompose.worker.images.references import Reference, familiar
from pycompose.worker.images.registry import Registry
from pycompose.worker.images.shared import Shared
from pycompose.worker.images.store import Image, ImageStore, Lease


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
            arrival = Arrival(self.store, self.downloads, self._download, self.report)
            arrival.check_room(layers)
            await arrival.layers(lease, layers, config["rootfs"]["diff_ids"])
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

    async def _download(self, layer: Descriptor, tell: Callable[[int], None]) -> None:
        await download(self.registry, layer, self.store.blobs, tell)

    async def _config(self, blob: Descriptor) -> bytes:
        if self.store.blobs.size(blob.digest) == blob.size:
            return await asyncio.to_thread(self.store.blobs.read, blob.digest)
        return await self.registry.small(blob, limits.CONFIG_BYTES)
