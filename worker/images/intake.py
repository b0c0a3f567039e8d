"""Images that come as files: archives of images, the tar of a root file system, a layer above another image."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, BinaryIO

from pycompose.worker.images import archives, compression, manifests, platforms, references
from pycompose.worker.images.archives import Found
from pycompose.worker.images.blobs import digest_of
from pycompose.worker.images.errors import BadArchive, BadReference
from pycompose.worker.images.manifests import Descriptor
from pycompose.worker.images.store import Image, ImageStore, Lease


async def load(store: ImageStore, file: BinaryIO, tell: Callable[[str, str], None] = lambda *_: None) -> list[Image]:
    """Take over the images of an archive, compressed or not; of their names, those that the archive gives.

    Args:
        file: read forwards, in a thread.
        tell: is told a layer's digest and what is being done with it.

    Raises:
        BadArchive, DiskFull, BadReference.
    """
    async with Lease(store, everything=True) as lease:
        reader = await asyncio.to_thread(archives.Reader, file, store.blobs)
        found = await asyncio.to_thread(lambda: list(reader.images()))
        if not found:
            raise BadArchive("there is no image in the archive")
        taken = []
        for one in found:
            image = await _take(store, lease, one, tell)
            taken.append(replace(image, references=tuple(map(references.familiar, one.references))))
        return taken


async def _take(store: ImageStore, lease: Lease, found: Found, tell: Callable[[str, str], None]) -> Image:
    config = manifests.config_of(found.config, len(found.layers))
    below: list[str] = []
    for blob, diff_id in zip(found.layers, config["rootfs"]["diff_ids"], strict=True):
        tell(blob, "unpacking")
        await store.unpack(lease, blob, below, diff_id)
        below.append(diff_id)
        tell(blob, "done")
    if not found.manifest:
        return await list_image(store, found.config, [layer_of(store, one) for one in found.layers], found.references)
    await asyncio.to_thread(store.blobs.put, found.config)
    await asyncio.to_thread(store.blobs.put, found.manifest)
    return await store.add(found.manifest, found.references)


async def import_root(
    store: ImageStore,
    file: BinaryIO,
    reference: str,
    settings: Mapping[str, Any],
    *,
    platform: str = "",
    message: str = "",
) -> Image:
    """Make an image of one layer from the tar of a root file system.

    Args:
        file: read forwards, in a thread; compressed or not.
        reference: a name, or "" for none.
        settings: the image's ``config`` object: Env, Cmd, Entrypoint, User, WorkingDir, Healthcheck, …
        platform: "" for this machine's.
        message: for people; kept in the image's history.

    Raises:
        BadArchive, DiskFull, BadReference.
    """
    name = references.parse(reference) if reference else None
    if name is not None and name.digest:
        raise BadReference(f"{reference}: an import cannot be given a digest; use NAME:TAG")
    made_for = platforms.parse(platform) if platform else platforms.local()

    def receive() -> str:
        peeked = archives.Peeked(file)
        if peeked.kind in manifests.LAYER_TYPES:
            return store.blobs.put_stream(iter(lambda: peeked.read(1 << 20), b""))[0]
        read = compression.reader(peeked, peeked.kind)
        return store.blobs.put_stream(archives.pieces(read))[0]

    async with Lease(store, everything=True) as lease:
        try:
            blob = await asyncio.to_thread(receive)
        except compression.CompressionError as error:
            raise BadArchive(f"the archive is damaged: {error}") from error
        diff_id = await store.unpack(lease, blob, (), "")
        now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        document = {
            "created": now,
            "architecture": made_for.architecture,
            **({"variant": made_for.variant} if made_for.variant else {}),
            "os": made_for.os,
            "config": dict(settings),
            "rootfs": {"type": "layers", "diff_ids": [diff_id]},
            "history": [{"created": now, "created_by": "", "comment": message or "imported"}],
        }
        config = json.dumps(document).encode()
        return await list_image(store, config, [layer_of(store, blob)], [str(name)] if name is not None else [])


async def derive(
    store: ImageStore,
    base: str,
    layer: AsyncIterator[bytes],
    reference: str,
    settings: Mapping[str, Any],
    *,
    author: str = "",
    comment: str = "",
) -> Image:
    """Make an image of another one and a layer above it.

    Args:
        base: name or id of the image below.
        layer: the layer's tar.
        reference: a name, or "" for none.
        settings: the new image's ``config`` object.
        author, comment: for people; kept in the image's history.

    Raises:
        ImageNotFound, BadReference, BadArchive, DiskFull.
    """
    name = str(references.parse(reference)) if reference else ""
    below = store.require(base)
    async with Lease(store, everything=True) as lease:
        with store.blobs.writer() as writer:
            async for piece in layer:
                await asyncio.to_thread(writer.write, piece)
            blob = writer.commit()
        diff_id = await store.unpack(lease, blob, below.diff_ids, "")
        now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        document = {
            **below.config,
            "created": now,
            "author": author,
            "config": dict(settings),
            "rootfs": {"type": "layers", "diff_ids": [*below.diff_ids, diff_id]},
            "history": [*(below.config.get("history") or ()), {"created": now, "author": author, "comment": comment}],
        }
        layers = [*store.manifest(below).layers, layer_of(store, blob)]
        return await list_image(store, json.dumps(document).encode(), layers, [name] if name else [])


async def list_image(store: ImageStore, config: bytes, layers: Sequence[Descriptor], names: Sequence[str]) -> Image:
    """Write configuration and manifest of an image whose layers are there, and list it. Raises BadArchive, DiskFull."""
    manifests.config_of(config, len(layers))
    manifest = manifests.make(Descriptor(manifests.OCI_CONFIG, digest_of(config), len(config)), layers)
    await asyncio.to_thread(store.blobs.put, config)
    await asyncio.to_thread(store.blobs.put, manifest)
    return await store.add(manifest, names)


def saved(store: ImageStore, names: Sequence[str]) -> list[archives.Saved]:
    """Return what `archives.write` writes for images by name or id; names of one image go together.

    Raises:
        ImageNotFound.
    """
    chosen: dict[str, archives.Saved] = {}
    for text in names:
        image = store.require(text)
        try:
            wanted = str(references.parse(text))
        except BadReference:
            wanted = ""
        named = (wanted,) if references.familiar(wanted) in image.references else ()
        before = chosen.get(image.id)
        kept = before.references if before is not None else ()
        together = tuple(dict.fromkeys((*kept, *named)))
        chosen[image.id] = archives.Saved(store.manifest(image), together)
    return list(chosen.values())


def layer_of(store: ImageStore, digest: str) -> Descriptor:
    """Return the descriptor of a layer's blob that is in the store."""
    path = store.blobs.path(digest)
    with path.open("rb") as file:
        kind = compression.kind_of(file.read(8))
    return Descriptor(manifests.LAYER_TYPES[kind], digest, path.stat().st_size)
