"""``ImageStore``: images by name or id, their layers, and containers' writable layers.

An image is listed when everything of it is there; that is the one moment that counts, so that a crash leaves whole
images only. What is fetched before that is held by a lease: a sweep leaves it alone. Opening the store removes what no
listed image has, and forgets images of which something is missing.

What came from a file, and may be nowhere else, is synced to the disk before it is listed. What was pulled is listed
first and synced soon after: where the power fails in between, the image is forgotten and pulled again.

The lock is held for what is short: changing the index. Fetching and unpacking go on beside each other.
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

from pycompose.worker.images import index, manifests, platforms, references
from pycompose.worker.images.blobs import Blobs, no_room
from pycompose.worker.images.errors import BadReference, ImageError
from pycompose.worker.images.files import NEW, remove_tree, sync_file_system, write_atomically
from pycompose.worker.images.index import Index
from pycompose.worker.images.layers import Layers, chain_ids
from pycompose.worker.images.shared import Shared
from pycompose.worker.images.snapshots import Snapshot, Snapshots

log = logging.getLogger(__name__)
SETTLE_SECONDS = 2.0


def boot_id() -> str:
    """Return what tells this boot of the machine from all others (proc(5), random/boot_id)."""
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


@dataclass(frozen=True)
class Image:
    """One image.

    Attributes:
        id: digest of the configuration.
        references: names with a tag, as people write them.
        digests: names with a digest, as people write them.
        config: the OCI image configuration.
        size: bytes of the files of its unpacked layers.
        named: when each of `references` was given or last found right, in ns since the epoch.
        manifest: digest of its manifest.
    """

    id: str
    references: tuple[str, ...]
    config: Mapping[str, Any]
    size: int
    digests: tuple[str, ...] = ()
    named: Mapping[str, int] = field(default_factory=dict)
    manifest: str = ""

    @property
    def diff_ids(self) -> tuple[str, ...]:
        """Layers, lowest first."""
        return tuple(self.config["rootfs"]["diff_ids"])

    @property
    def settings(self) -> dict[str, Any]:
        """What containers are made from: Env, Cmd, Entrypoint, User, …"""
        return dict(self.config.get("config") or {})

    @property
    def platform(self) -> str:
        """Such as linux/amd64."""
        return str(platforms.of(self.config))


class Lease:
    """Content that is on its way into an image. An async context manager.

    Args:
        everything: keep all content, for work that learns digests only when content is there; what it leaves behind is
            swept at its end.
    """

    def __init__(self, store: ImageStore, *, everything: bool = False) -> None:
        self._store, self.everything = store, everything
        self.held: set[str] = set()

    async def hold(self, *names: str) -> None:
        """Keep blobs (by digest) and layers (by chain id) from being swept, whether they are there yet or not."""
        async with self._store.lock:
            self.held.update(names)

    async def __aenter__(self) -> Lease:
        self._store.leases.append(self)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None
    ) -> None:
        self._store.leases.remove(self)
        if self.everything:
            await self._store.sweep()


class ImageStore:
    """Args:
    root: the store's directory, made when it is missing.
    kept: blobs (by digest) and layers (by chain id) that stay though no image has them, until `keep` says otherwise.
    """

    def __init__(self, root: Path, kept: Iterable[str] = ()) -> None:
        root.mkdir(parents=True, exist_ok=True)
        root.chmod(0o700)  # layers hold setuid programs and devices: nobody but root gets here
        self.root = root
        self.blobs, self._layers, self._snapshots = Blobs(root), Layers(root), Snapshots(root)
        self.lock = asyncio.Lock()
        self.leases: list[Lease] = []
        self._kept = Lease(self)
        self._kept.held.update(kept)
        self.leases.append(self._kept)
        self._unpacking: Shared[tuple[str, int]] = Shared()
        self._path = root / "index.json"
        self._index = self._read()
        self._known: dict[str, tuple[dict[str, Any], int]] = {}
        for path in (*root.glob(".*"), *self.blobs.directory.glob(NEW + "*"), *self._layers.directory.glob(NEW + "*")):
            remove_tree(path) if path.is_dir() else path.unlink()
        self._take_away(*self._unused())
        self._settling: asyncio.Task[None] | None = None
        if any(entry.unsafe_since for entry in self._index.images.values()):
            sync_file_system(root)
            self._settled(list(self._index.images))
            write_atomically(self._path, self._index.dump())

    def _read(self) -> Index:
        try:
            found = index.load(self._path.read_bytes())
        except FileNotFoundError:
            return Index()
        except (ValueError, TypeError, KeyError, AttributeError):
            log.error("%s cannot be read; the images are forgotten, pull or load them again", self._path)
            return Index()
        for identity in list(found.images):
            missing = self._missing(found, identity)
            if found.images[identity].unsafe_since not in ("", boot_id()):
                missing = "the machine stopped before it was wholly on the disk"
            if missing:
                names = ", ".join(map(references.familiar, found.images[identity].names)) or identity
                log.error("image %s is damaged and forgotten: %s; pull or load it again", names, missing)
                del found.images[identity]
        return found

    def _missing(self, found: Index, identity: str) -> str:
        """Return what of an image is not there; "" when all is."""
        try:
            manifest = manifests.parse(self.blobs.read(found.images[identity].manifest))
            if not isinstance(manifest, manifests.Manifest):
                return "its manifest is an index"
            for blob in (manifest.config, *manifest.layers):
                if self.blobs.size(blob.digest) != blob.size:
                    return f"blob {blob.digest} is not whole"
            config = manifests.config_of(self.blobs.read(identity), len(manifest.layers))
        except (ImageError, OSError) as error:
            return str(error)
        chains = chain_ids(config["rootfs"]["diff_ids"])
        lost = [chain for chain in chains if not self._layers.path(chain).is_dir()]
        return f"layer {lost[0]} is not there" if lost else ""

    # Finding.

    def all(self) -> list[Image]:
        """Return all images."""
        return [self._image(identity) for identity in self._index.images]

    def find(self, text: str) -> Image | None:
        """Return the image with that name, digest, id, or unique beginning of an id; None when there is none here."""
        identity = self._index.find(text) if text else None
        return self._image(identity) if identity is not None else None

    def require(self, text: str) -> Image:
        """Return the image. Raises ImageNotFound."""
        return self._image(self._index.require(text))

    def layers(self, image_id: str) -> tuple[Path, ...]:
        """Return the image's layers, topmost first. Raises ImageNotFound."""
        return tuple(self._layers.path(chain) for chain in reversed(chain_ids(self.require(image_id).diff_ids)))

    def layer_sizes(self, image: Image) -> list[int]:
        """Return the bytes of an image's unpacked layers, lowest first."""
        return [self._index.layers.get(chain, 0) for chain in chain_ids(image.diff_ids)]

    def manifest(self, image: Image) -> manifests.Manifest:
        """Return the manifest of an image. Raises ImageError."""
        found = manifests.parse(self.blobs.read(image.manifest))
        if not isinstance(found, manifests.Manifest):
            raise ImageError(f"{image.manifest} is no manifest; pull or load the image again")
        return found

    def repositories_with(self, layer: str) -> list[str]:
        """Return the repositories (registry and path) that have a layer's blob, as far as this node knows."""
        found: dict[str, None] = {}
        for entry in self._index.images.values():
            if entry.digests and any(one.digest == layer for one in self._manifest_of(entry.manifest)):
                found.update(dict.fromkeys(digest.partition("@")[0] for digest in entry.digests))
        return list(found)

    def _manifest_of(self, digest: str) -> Sequence[manifests.Descriptor]:
        found = manifests.parse(self.blobs.read(digest))
        return found.layers if isinstance(found, manifests.Manifest) else ()

    def _image(self, identity: str) -> Image:
        entry = self._index.images[identity]
        known = self._known.get(identity)
        if known is None:
            config = json.loads(self.blobs.read(identity))
            size = sum(self._index.layers.get(chain, 0) for chain in chain_ids(config["rootfs"]["diff_ids"]))
            known = self._known[identity] = (config, size)
        return Image(
            identity,
            tuple(map(references.familiar, entry.names)),
            known[0],
            known[1],
            tuple(map(references.familiar, entry.digests)),
            {references.familiar(name): when for name, when in entry.names.items()},
            entry.manifest,
        )

    # Coming in.

    async def unpack(self, lease: Lease, blob: str, lower: Sequence[str], diff_id: str) -> str:
        """Unpack a layer over others, unless it is there; callers that want the same at once share the work.

        Args:
            lease: holds what comes out.
            blob: digest of the layer's blob.
            lower: diff ids of the layers below, lowest first.
            diff_id: what must come out; "" for whatever does.

        Returns:
            The diff id.

        Raises:
            BadArchive, DiskFull.
        """
        key = chain_ids((*lower, diff_id or blob))[-1]
        if diff_id:
            await lease.hold(key)
        found, size = await self._unpacking.run(key, lambda: self._layers.unpack(self.blobs.path(blob), lower, diff_id))
        chain = chain_ids((*lower, found))[-1]
        await lease.hold(chain)
        self._index.layers[chain] = size or self._index.layers.get(chain, 0)
        return found

    async def adopt(self, lease: Lease, folder: Path, lower: Sequence[str], diff_id: str, size: int) -> None:
        """Take a folder that overlayfs wrote over layers as the next layer.

        Args:
            lease: holds it.
            folder: the upper directory, which nothing mounts any more; it is taken away.
            lower: diff ids of the layers below, lowest first.
            diff_id: of its tar.
            size: bytes of its files.
        """
        chain = chain_ids((*lower, diff_id))[-1]
        await lease.hold(chain)
        self._layers.adopt(folder, lower, diff_id)
        self._index.layers[chain] = size

    def has(self, blob: str, diff_ids: Sequence[str]) -> bool:
        """Whether a layer is there, as a blob and unpacked over those below it."""
        return self.blobs.size(blob) is not None and self._layers.path(chain_ids(diff_ids)[-1]).is_dir()

    def stack(self, diff_ids: Sequence[str]) -> tuple[Path, ...]:
        """Return the directories of layers, topmost first. `diff_ids`: lowest first."""
        return tuple(self._layers.path(chain) for chain in reversed(chain_ids(diff_ids)))

    def writable(self, container_id: str, diff_ids: Sequence[str]) -> Snapshot:
        """Return a writable layer over layers, made when it is missing; `release` removes it."""
        return self._snapshots.make(container_id, self.stack(diff_ids))

    async def add(
        self,
        manifest: bytes,
        names: Iterable[str] = (),
        digests: Iterable[str] = (),
        *,
        again: bool = False,
        named_at: Mapping[str, int] | None = None,
    ) -> Image:
        """List an image whose content is there.

        Args:
            manifest: its manifest, in the store already.
            names, digests: full references.
            again: the image can be had again from where it came; its content is synced to the disk soon, not before.
            named_at: names that another node gave it, with their times (ns since the epoch): they count where this
                node has given the name to no image since.

        Raises:
            DiskFull.
        """
        parsed = manifests.parse(manifest)
        assert isinstance(parsed, manifests.Manifest)
        identity = parsed.config.digest
        if not again:
            await self.sync()
        async with self.lock:
            new = identity not in self._index.images
            self._index.put(identity, parsed.digest, names, digests, time.time_ns())
            self._index.name_older(identity, named_at or {})
            if not again:
                self._settled([identity])
            elif new:
                self._index.images[identity].unsafe_since = boot_id()
                if self._settling is None or self._settling.done():
                    self._settling = asyncio.create_task(self._settle())
            await self._save()
            return self._image(identity)

    async def sync(self) -> None:
        """Put all content on the disk. Raises DiskFull."""
        try:
            await asyncio.to_thread(sync_file_system, self.root)
        except OSError as error:
            raise no_room(self.root, error) from error

    async def _settle(self) -> None:
        """Sync what was listed before it was on the disk."""
        await asyncio.sleep(SETTLE_SECONDS)
        while unsafe := [each for each, entry in self._index.images.items() if entry.unsafe_since]:
            try:
                await self.sync()
            except ImageError as error:
                log.error("%s", error)
                return
            async with self.lock:
                self._settled(unsafe)
                await self._save()

    def _settled(self, identities: Iterable[str]) -> None:
        for identity in identities:
            if identity in self._index.images:
                self._index.images[identity].unsafe_since = ""

    async def tag(self, source: str, target: str) -> None:
        """Give an image another name. Raises ImageNotFound, BadReference."""
        reference = references.parse(target)
        if reference.digest:
            raise BadReference(f"{target}: a digest is no name to give; use NAME:TAG")
        async with self.lock:
            self._index.name(self._index.require(source), str(reference), time.time_ns())
            await self._save()

    async def confirm(self, image: Image, names: Iterable[str] = (), digests: Iterable[str] = ()) -> Image:
        """Take note that names still mean an image, and of digests by which it can be had. Raises ImageNotFound."""
        async with self.lock:
            manifest = self._index.images[self._index.require(image.id)].manifest
            self._index.put(image.id, manifest, names, digests, time.time_ns())
            await self._save()
            return self._image(image.id)

    async def _save(self) -> None:
        await asyncio.to_thread(write_atomically, self._path, self._index.dump())

    # Going away.

    async def remove(self, text: str, *, force: bool, in_use: Mapping[str, list[str]]) -> list[str]:
        """Remove a name, and with its last name the image; returns what was done, in words as docker's.

        Args:
            in_use: names of containers by the id of the image that they use.

        Raises:
            ImageNotFound.
            ImageInUse: `in_use` has it, or it has more names, and `force` is not set.
        """
        async with self.lock:
            done = self._index.remove(text, in_use.get(self._index.require(text), []), force=force)
            await self._sweep()
        return done

    async def prune(self, identities: Iterable[str]) -> tuple[list[str], int]:
        """Remove images by id; returns the ids of those removed, and the bytes that this freed."""
        async with self.lock:
            gone = [identity for identity in identities if self._index.images.pop(identity, None) is not None]
            freed = await self._sweep()
        return gone, freed

    async def _sweep(self) -> int:
        """Write the index, then remove content that no image and no lease has; returns the bytes freed."""
        await self._save()
        unused = self._unused()
        freed = sum(path.stat().st_size for path in unused[0])
        freed += sum(size for chain, size in self._index.layers.items() if self._layers.path(chain) in unused[1])
        await asyncio.to_thread(self._take_away, *unused)
        return freed

    async def keep(self, names: Iterable[str]) -> int:
        """Keep these blobs and layers from now on, and no others; returns the bytes freed."""
        async with self.lock:
            self._kept.held = set(names)
            return await self._sweep()

    async def sweep(self) -> None:
        """Remove content that no image and no lease has."""
        async with self.lock:
            await self._sweep()

    def _unused(self) -> tuple[list[Path], list[Path]]:
        """Return the blobs and layers that nothing has."""
        if any(lease.everything for lease in self.leases):
            return [], []
        held = {name for lease in self.leases for name in lease.held}
        blobs = {self.blobs.path(name).name for name in held}
        layers = {self._layers.path(name) for name in held}
        for identity, entry in self._index.images.items():
            used = (identity, entry.manifest, *(layer.digest for layer in self._manifest_of(entry.manifest)))
            blobs.update(digest.removeprefix("sha256:") for digest in used)
            layers.update(map(self._layers.path, chain_ids(self._image(identity).diff_ids)))
        return (
            [path for path in self.blobs.directory.iterdir() if path.name not in blobs and path.name[0] != "."],
            [path for path in self._layers.all() if path not in layers],
        )

    def _take_away(self, blobs: Sequence[Path], layers: Sequence[Path]) -> None:
        for path in blobs:
            path.unlink(missing_ok=True)
        for path in layers:
            remove_tree(path)
        there = {path.name for path in self._layers.all()}
        known = self._index.layers.items()
        self._index.layers = {chain: size for chain, size in known if self._layers.path(chain).name in there}
        self._known = {each: known for each, known in self._known.items() if each in self._index.images}

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
    return platforms.local().architecture
