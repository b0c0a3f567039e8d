"""What registries keep besides images: a manifest that says of what type it is, and small pieces.

Sources: image-spec, manifest.md (guidelines for artifact usage: `artifactType`, or the configuration's media type where
there is none), image-index.md (`subject`). Nothing of it is kept here: pieces are read as a whole, and never unpacked.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pycompose.worker.images import limits, manifests
from pycompose.worker.images.blobs import CHUNK, digest_of
from pycompose.worker.images.errors import BadAnswer, BadArchive, BadReference
from pycompose.worker.images.manifests import Descriptor, Index, Manifest
from pycompose.worker.images.references import Reference, familiar
from pycompose.worker.images.registry import Registry

EMPTY_TYPE, EMPTY = "application/vnd.oci.empty.v1+json", b"{}"
DEEPEST = 3


@dataclass(frozen=True)
class Piece:
    """One piece: what it is, its content, and what is said about it."""

    media_type: str
    data: bytes
    annotations: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Kind:
    """What an artifact is: its type in OCI 1.1, and its configuration's media type in OCI 1.0."""

    artifact_type: str
    config_type: str


async def fetch(registry: Registry, name: Reference, types: Sequence[str]) -> tuple[list[Piece], str]:
    """Return an artifact's pieces and its manifest's digest.

    Args:
        registry: of the name.
        types: those that are wanted.

    Raises:
        RegistryError: it cannot be had.
        BadArchive: it is of another type, or too large.
    """
    shown = familiar(str(name))
    raw, _ = await registry.document(name.which)
    document = manifests.json_object(raw, "a manifest")
    if "manifests" in document and "layers" not in document:
        entries = manifests.listed(document, "manifests", limits.INDEX_ENTRIES)
        fitting = [one for one in entries if isinstance(one, dict) and one.get("artifactType") in types]
        if not fitting:
            raise BadArchive(f"{shown} is an index without any {types[0] if types else 'artifact'}")
        raw, _ = await registry.document(manifests.descriptor(fitting[-1], "manifests").digest)
        document = manifests.json_object(raw, "a manifest")
    config = manifests.descriptor(document.get("config"), "config")
    found = str(document.get("artifactType") or config.media_type)
    if found not in types:
        raise BadArchive(f"{shown} is no {types[0] if types else 'artifact'}, but {found[:80]!r}")
    described = [manifests.descriptor(one, "layers") for one in manifests.listed(document, "layers", limits.LAYERS)]
    if sum(one.size for one in described) > limits.ARTIFACT_BYTES:
        raise BadArchive(f"{shown} has more than {limits.ARTIFACT_BYTES >> 20} MiB, too much for a {types[0]}")
    pieces = [
        Piece(one.media_type, await registry.small(one, limits.ARTIFACT_BYTES), one.annotations or {})
        for one in described
    ]
    return pieces, digest_of(raw)


async def push(
    registry: Registry, name: Reference, kind: Kind, version: str, pieces: Sequence[Piece], notes: Mapping[str, str]
) -> Manifest:
    """Write an artifact under a tag; returns its manifest.

    Args:
        version: "1.0" or "1.1" of the specification; "" for 1.1, and 1.0 where the registry refuses that.
        notes: annotations of the manifest.

    Raises:
        RegistryError: the registry does not take it.
        BadReference: the name has a digest, or the version is unknown.
    """
    if name.digest:
        raise BadReference(f"{familiar(str(name))}: an artifact goes to a tag; use NAME:TAG")
    if version not in ("", "1.0", "1.1"):
        raise BadReference(f"version {version[:20]!r} of the OCI specification is unknown; use 1.0 or 1.1")
    for content in dict.fromkeys([EMPTY, *(piece.data for piece in pieces)]):
        await _put(registry, content)
    if version:
        return await _manifest(registry, name, kind, version, pieces, notes)
    try:
        return await _manifest(registry, name, kind, "1.1", pieces, notes)
    except BadAnswer:
        return await _manifest(registry, name, kind, "1.0", pieces, notes)


async def _manifest(
    registry: Registry, name: Reference, kind: Kind, version: str, pieces: Sequence[Piece], notes: Mapping[str, str]
) -> Manifest:
    modern = version == "1.1"
    config = Descriptor(EMPTY_TYPE if modern else kind.config_type, digest_of(EMPTY), len(EMPTY))
    layers = [Descriptor(one.media_type, digest_of(one.data), len(one.data)) for one in pieces]
    document = {
        "schemaVersion": 2,
        "mediaType": manifests.OCI_MANIFEST,
        **({"artifactType": kind.artifact_type} if modern else {}),
        "config": config.document(),
        "layers": [
            {**layer.document(), "annotations": dict(piece.annotations)}
            for layer, piece in zip(layers, pieces, strict=True)
        ],
        "annotations": dict(notes),
    }
    raw = json.dumps(document).encode()
    made = Manifest(raw, digest_of(raw), manifests.OCI_MANIFEST, config, tuple(layers))
    await registry.put_manifest(name.tag, made)
    return made


async def _put(registry: Registry, content: bytes) -> None:
    digest = digest_of(content)
    if not await registry.has(digest):
        place = await registry.begin_upload(digest)
        await registry.upload(place, digest, len(content), content)


async def copy_image(source: Registry, target: Registry, which: str, mount_from: str, depth: int = 0) -> dict[str, Any]:
    """Copy an image from one repository to another; returns its descriptor as JSON has it.

    Args:
        which: the image's digest.
        mount_from: path of the source's repository where both are at one registry, else "".

    Raises:
        ImageError: it cannot be had, or is not taken.
    """
    raw, sent_as = await source.document(which)
    # read loosely: what lies beside an image in its index (attestations) is copied, and need not be unpacked
    document = manifests.json_object(raw, "a manifest")
    media_type = str(document.get("mediaType") or sent_as.partition(";")[0])
    if "manifests" in document and "layers" not in document:
        if depth >= DEEPEST:
            raise BadArchive(f"{which} is an index of indexes of indexes, which no image is")
        for entry in manifests.listed(document, "manifests", limits.INDEX_ENTRIES):
            below = manifests.descriptor(entry, "manifests").digest
            await copy_image(source, target, below, mount_from, depth + 1)
    else:
        parts = [document.get("config"), *manifests.listed(document, "layers", limits.LAYERS)]
        blobs = {one.digest: one for one in (manifests.descriptor(part, "layers") for part in parts)}
        for blob in blobs.values():
            if await target.has(blob.digest):
                continue
            place = await target.begin_upload(blob.digest, mount_from)
            if place:
                await target.upload(place, blob.digest, blob.size, _content(source, blob.digest))
    copied = Index(raw, digest_of(raw), media_type, ())
    await target.put_manifest(copied.digest, copied)
    return {"mediaType": media_type, "digest": copied.digest, "size": len(raw)}


async def _content(source: Registry, digest: str) -> AsyncIterator[bytes]:
    async with source.blob(digest) as response:
        async for piece in response.content.iter_chunked(CHUNK):
            yield piece


async def index(
    registry: Registry, manifest: Manifest, kind: Kind, images: Sequence[dict[str, Any]], notes: Mapping[str, str]
) -> str:
    """Write an index of images whose subject is an artifact, under its digest alone; returns that."""
    subject = {"mediaType": manifest.media_type, "digest": manifest.digest, "size": len(manifest.raw)}
    document = {
        "schemaVersion": 2,
        "mediaType": manifests.OCI_INDEX,
        "artifactType": kind.artifact_type,
        "manifests": list(images),
        "subject": subject,
        "annotations": dict(notes),
    }
    raw = json.dumps(document).encode()
    made = Index(raw, digest_of(raw), manifests.OCI_INDEX, ())
    await registry.put_manifest(made.digest, made)
    return made.digest
