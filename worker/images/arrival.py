"""The layers of an image that comes: fetched beside each other, unpacked in order, each blob once.

Where they come from, a registry or other nodes, is the caller's: it gives what fetches one blob.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from typing import Any

from pycompose.worker.images import limits
from pycompose.worker.images.blobs import no_room
from pycompose.worker.images.errors import BadAnswer
from pycompose.worker.images.layers import chain_ids
from pycompose.worker.images.manifests import Descriptor
from pycompose.worker.images.progress import LayerState, Phase, Report
from pycompose.worker.images.shared import Shared
from pycompose.worker.images.store import ImageStore, Lease

AT_ONCE = 4
#: Fetches a blob into the store; tells the bytes that are there.
Fetch = Callable[[Descriptor, Callable[[int], None]], Coroutine[Any, Any, None]]


@dataclass
class Arrival:
    """One image's way into the store.

    Attributes:
        downloads: shared by all that comes to the node: a blob that two want is fetched once.
        fetch: brings one blob.
        report: hears of each layer.
    """

    store: ImageStore
    downloads: Shared[None]
    fetch: Fetch
    report: Report

    def check_room(self, layers: Sequence[Descriptor]) -> None:
        """Refuse what cannot fit: each layer that is not there takes its size at least twice, packed and unpacked.

        Raises: DiskFull.
        """
        missing = {layer.digest: layer.size for layer in layers if self.store.blobs.size(layer.digest) is None}
        if 2 * sum(missing.values()) > limits.room(self.store.root):
            raise no_room(self.store.root)

    async def layers(self, lease: Lease, layers: Sequence[Descriptor], diff_ids: Sequence[str]) -> None:
        """Fetch and unpack. Raises ImageError."""
        await lease.hold(*chain_ids(diff_ids))
        slots = asyncio.Semaphore(AT_ONCE)
        for layer in layers:
            self.report(LayerState(layer.digest, Phase.WAITING, 0, layer.size))
        fetching = [asyncio.create_task(self._one(layer, slots)) for layer in layers]
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

    async def _one(self, layer: Descriptor, slots: asyncio.Semaphore) -> bool:
        """Fetch a blob unless it is there; returns whether it was fetched."""
        if self.store.blobs.size(layer.digest) == layer.size:
            return False

        def tell(size: int) -> None:
            self.report(LayerState(layer.digest, Phase.DOWNLOADING, size, layer.size))

        async def work() -> None:
            async with slots:
                tell(0)
                await self.fetch(layer, tell)

        await self.downloads.run(layer.digest, work)
        if self.store.blobs.size(layer.digest) != layer.size:
            raise BadAnswer(f"layer {layer.digest} is not the size that its manifest says")
        return True
