"""An image from the other nodes that have it: found by its id, which is the digest of its configuration.

Everything is checked down to the id: the configuration has it as its digest, each layer unpacks to the digest that the
configuration says, each blob has the digest by which it is kept. What a blob's bytes came from may change on the way:
where a node dies, is silent, or sends on to another, the next goes on from the byte that is here.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Protocol

from pycompose.worker.images import limits, manifests
from pycompose.worker.images.arrival import Arrival
from pycompose.worker.images.blobs import Writer, digest_of
from pycompose.worker.images.errors import BadAnswer, BadArchive, CutOff
from pycompose.worker.images.manifests import Descriptor, Manifest
from pycompose.worker.images.progress import Report
from pycompose.worker.images.shared import Shared, in_thread
from pycompose.worker.images.spreading import Growing, Holder, Spreading
from pycompose.worker.images.store import Image, ImageStore, Lease

#: Seconds without a byte after which a node is left.
SILENT_SECONDS = 10.0
#: How often in a row nothing may come before the image is given up, and how far a caller lets itself be sent on.
FAILURES, HOPS = 6, 32
#: How often a blob may come with another digest than it should have.
WRONG = 3
#: Pauses in seconds after failures in a row.
PAUSES = (0.0, 0.1, 0.3, 1.0, 2.0, 2.0)


@dataclass(frozen=True)
class Offer:
    """What a node says of an image. `named_at`: full names, and when they were given (ns since the epoch)."""

    manifest: bytes
    config: bytes
    named_at: Mapping[str, int] = field(default_factory=dict)
    digests: Sequence[str] = ()


class Peers(Protocol):
    """The way to the other nodes."""

    async def find(self, image_id: str) -> list[Holder]:
        """Return nodes that have an image as a whole. Raises CutOff: no manager can be asked."""

    async def offer(self, holder: Holder, image_id: str) -> Offer:
        """Ask a node for an image's documents. Raises CutOff."""

    def blob(self, holder: Holder, digest: str, offset: int, *, insist: bool) -> AsyncGenerator[bytes | Holder, None]:
        """Ask a node for a blob: yields its bytes, or the node to ask instead. Raises CutOff."""


@dataclass
class Peering:
    """Args: store, downloads: the node's; spreading: gives what comes on to others; peers: the way to other nodes."""

    store: ImageStore
    downloads: Shared[None]
    spreading: Spreading
    peers: Peers
    shuffled: Callable[[Sequence[Holder]], list[Holder]] = lambda holders: random.sample(holders, len(holders))
    silent_seconds: float = SILENT_SECONDS
    _running: Shared[Image | None] = field(default_factory=Shared)

    async def fetch(self, image_id: str, report: Report = lambda _: None) -> Image | None:
        """Bring an image here; None: no node has it, or none that can be reached.

        Raises:
            CutOff: nodes had it, and none sends it whole.
            BadArchive, DiskFull.
        """
        return await self._running.run(image_id, lambda: self._fetch(image_id, report))

    async def _fetch(self, image_id: str, report: Report) -> Image | None:
        found = self.store.find(image_id)
        if found is not None:
            return found
        holders = await self.peers.find(image_id)
        chosen = await self._offer(self.shuffled(holders), image_id)
        if chosen is None:
            return None
        offer, manifest = chosen
        config = manifests.config_of(offer.config, len(manifest.layers))

        async def fetch(blob: Descriptor, tell: Callable[[int], None]) -> None:
            await self._blob(image_id, holders, blob, tell)

        async with Lease(self.store) as lease:
            await lease.hold(manifest.digest, image_id, *(layer.digest for layer in manifest.layers))
            arrival = Arrival(self.store, self.downloads, fetch, report)
            arrival.check_room(manifest.layers)
            await arrival.layers(lease, manifest.layers, config["rootfs"]["diff_ids"])
            await asyncio.to_thread(self.store.blobs.put, offer.config)
            await asyncio.to_thread(self.store.blobs.put, offer.manifest)
            return await self.store.add(offer.manifest, (), offer.digests, again=True, named_at=offer.named_at)

    async def _offer(self, holders: Sequence[Holder], image_id: str) -> tuple[Offer, Manifest] | None:
        """Return the first offer that is what was asked for."""
        for holder in holders:
            try:
                offer = await self.peers.offer(holder, image_id)
                manifest = manifests.parse(offer.manifest)
            except (CutOff, BadArchive):
                continue
            right = isinstance(manifest, Manifest) and manifest.config.digest == image_id == digest_of(offer.config)
            if right and len(offer.config) <= limits.CONFIG_BYTES:
                assert isinstance(manifest, Manifest)
                return offer, manifest
        return None

    async def _blob(
        self, image_id: str, holders: Sequence[Holder], blob: Descriptor, tell: Callable[[int], None]
    ) -> None:
        """Fetch a blob into the store. Raises CutOff, BadAnswer, DiskFull."""
        blamed: set[Holder] = set()
        with self.store.blobs.writer() as writer, self.spreading.coming(blob.digest, writer.path) as growing:
            for _ in range(WRONG):
                able = [one for one in holders if one not in blamed] or list(holders)
                way = _Way(self.shuffled(able), image_id, insists=bool(blamed))
                await self._all(way, blob, writer, growing, tell)
                if writer.digest() == blob.digest:
                    writer.commit()
                    growing.whole = True
                    return
                blamed |= way.used
                writer.restart()
        names = ", ".join(sorted(one.address for one in blamed))
        raise BadAnswer(f"layer {blob.digest[7:19]} of image {image_id[7:19]} came with another digest from {names}")

    async def _all(
        self, way: _Way, blob: Descriptor, writer: Writer, growing: Growing, tell: Callable[[int], None]
    ) -> None:
        """Append until the blob has its size. Raises CutOff, DiskFull."""
        while writer.size < blob.size:
            if way.failures >= FAILURES:
                raise CutOff(
                    f"no node sends layer {blob.digest[7:19]} of image {way.image_id[7:19]} whole "
                    f"({writer.size:,} of {blob.size:,} bytes came): {way.trouble}"
                )
            await asyncio.sleep(PAUSES[min(way.failures, len(PAUSES) - 1)])
            if not way.left:
                way.begin(self.shuffled(await self.peers.find(way.image_id)))
            if way.left:
                await self._from(way, blob, writer, growing, tell)
            else:
                way.failed("no node has it any more", progress=False)

    async def _from(
        self, way: _Way, blob: Descriptor, writer: Writer, growing: Growing, tell: Callable[[int], None]
    ) -> None:
        """Append what the next node sends."""
        holder, before = way.left[0], writer.size
        growing.source = holder.node_id
        stream = self.peers.blob(holder, blob.digest, writer.size, insist=way.insists)
        try:
            while True:
                async with asyncio.timeout(self.silent_seconds):
                    piece = await anext(stream, None)
                if piece is None:
                    break
                if isinstance(piece, Holder):
                    way.sent_on(piece)
                    return
                if writer.size + len(piece) > blob.size:
                    raise CutOff(f"{holder.address} sends more than the {blob.size:,} bytes of the layer")
                await in_thread(partial(writer.write, piece))
                way.used.add(holder)
                growing.tell()
                tell(writer.size)
        except (CutOff, TimeoutError) as error:
            words = str(error) or f"{holder.address} was silent for {self.silent_seconds:g} s"
            way.failed(words, progress=writer.size > before)
        else:
            if writer.size < blob.size:
                way.failed(f"{holder.address} ended the layer early", progress=writer.size > before)
        finally:
            await stream.aclose()


class _Way:
    """Whom to ask next for one blob: the nodes that have it whole, in turn, and those that they send on to."""

    def __init__(self, holders: list[Holder], image_id: str, *, insists: bool) -> None:
        self.left, self.image_id = holders, image_id
        self.failures = self.hops = 0
        self.trouble = "none answers"
        self.used: set[Holder] = set()
        self._insists = insists

    def begin(self, holders: list[Holder]) -> None:
        """Ask these from now on."""
        self.left, self.hops = holders, 0

    @property
    def insists(self) -> bool:
        """Whether the next node must send, and not send on."""
        return self._insists or self.failures >= 2 or self.hops >= HOPS

    def sent_on(self, holder: Holder) -> None:
        """The first sends on to another."""
        self.hops += 1
        self.left.insert(0, holder)

    def failed(self, trouble: str, *, progress: bool) -> None:
        """The first did not send all."""
        self.trouble = trouble
        self.failures = 0 if progress else self.failures + 1
        self.hops = 0
        if self.left:
            del self.left[0]
