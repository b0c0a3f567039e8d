"""What a node does with registries: pull, push, resolve, try credentials. HTTP is imported when it is needed."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from pycompose.worker.images import hosts, platforms, references
from pycompose.worker.images.blobs import digest_of
from pycompose.worker.images.credentials import Credentials
from pycompose.worker.images.errors import BadReference
from pycompose.worker.images.progress import Report
from pycompose.worker.images.references import Reference
from pycompose.worker.images.shared import Shared
from pycompose.worker.images.store import ImageStore

if TYPE_CHECKING:
    from pycompose.worker.images.artifacts import Kind, Piece
    from pycompose.worker.images.manifests import Manifest
    from pycompose.worker.images.pull import Pulled
    from pycompose.worker.images.registry import Registry


def _nothing(_: object) -> None:
    return


class Registries:
    """Registries as one node sees them. Credentials come with each call and go with it."""

    def __init__(self, store: ImageStore) -> None:
        self._store = store
        self.downloads: Shared[None] = Shared()
        """Shared with all else that brings blobs to the node."""

    async def pull(
        self,
        reference: str,
        *,
        platform: str = "",
        credentials: Credentials | None = None,
        report: Report = _nothing,
    ) -> Pulled:
        """Pull an image; one that is here and still means the same is left as it is.

        Args:
            platform: "os/arch[/variant]"; "" for this machine's.

        Raises:
            ImageError.
        """
        from pycompose.worker.images.pull import Pull

        wanted = platforms.parse(platform) if platform else None
        name = references.parse(reference)
        async with self._open(name, credentials) as registry:
            return await Pull(self._store, registry, self.downloads, name, wanted, report).run()

    async def push(self, reference: str, credentials: Credentials | None = None, report: Report = _nothing) -> Manifest:
        """Push an image to the registry that its name says; returns the manifest that is there then.

        Raises:
            ImageError.
        """
        from pycompose.worker.images.push import Push

        name = references.parse(reference)
        async with self._open(name, credentials, "pull,push") as registry:
            return await Push(self._store, registry, name, report).run()

    async def resolve(self, reference: str, credentials: Credentials | None = None) -> str:
        """Return the digest that a name means at its registry now. Raises ImageError."""
        name = references.parse(reference)
        async with self._open(name, credentials) as registry:
            return await registry.head(name.which) or digest_of((await registry.document(name.which))[0])

    async def fetch_artifact(
        self, reference: str, types: Sequence[str], credentials: Credentials | None = None
    ) -> tuple[list[Piece], str]:
        """Return the pieces of what is no image, and the digest of its manifest. Raises ImageError."""
        from pycompose.worker.images import artifacts

        name = references.parse(reference)
        async with self._open(name, credentials) as registry:
            return await artifacts.fetch(registry, name, types)

    async def push_artifact(
        self,
        reference: str,
        kind: Kind,
        version: str,
        pieces: Sequence[Piece],
        notes: Mapping[str, str],
        images: Sequence[tuple[str, Credentials]] = (),
        credentials: Credentials | None = None,
    ) -> tuple[str, str]:
        """Write an artifact, and an index of copies of images; returns the digests of both, "" for no index.

        Args:
            version, notes: see `artifacts.push`.
            images: names with digest, each with the account for its registry.

        Raises:
            ImageError.
        """
        from pycompose.worker.images import artifacts

        name = references.parse(reference)
        async with self._open(name, credentials, "pull,push") as target:
            manifest = await artifacts.push(target, name, kind, version, pieces, notes)
            copied = []
            for text, account in images:
                image = references.parse(text)
                near = image.path if image.registry == name.registry and image.path != name.path else ""
                async with self._open(image, account) as source:
                    copied.append(await artifacts.copy_image(source, target, image.which, near))
            index = await artifacts.index(target, manifest, kind, copied, notes) if copied else ""
            return manifest.digest, index

    async def tags(self, repository: str, credentials: Credentials | None = None) -> list[str]:
        """Return the tags of a repository. Raises ImageError."""
        async with self._open(references.parse(repository), credentials) as registry:
            return await registry.tags()

    async def check(self, registry: str, credentials: Credentials) -> None:
        """Try credentials. Raises ImageError when the registry refuses them, or cannot be asked."""
        # any path does for the grammar; none is asked for
        name = references.parse(f"{registry}/any/path")
        if name.registry not in (registry, references.HUB):
            raise BadReference(f"{registry[:100]!r} is no registry; it looks like host or host:port")
        async with self._open(Reference(name.registry, ""), credentials) as opened:
            await opened.ping()

    @asynccontextmanager
    async def _open(
        self, name: Reference, credentials: Credentials | None, actions: str = "pull"
    ) -> AsyncIterator[Registry]:
        from pycompose.worker.images.registry import Registry
        from pycompose.worker.images.transport import Transport

        settings = hosts.settings()
        async with Transport(name.api, settings) as link:
            await link.open()
            yield Registry(link, name, credentials or Credentials(), settings, actions)
