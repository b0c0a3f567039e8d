"""Projects that were published at a registry, in the form of `docker compose publish`.

The manifest's layers are files: each Compose file (several are documents of one `compose.yaml`, in their order), files
that services extend, and env files. The node speaks to the registry; here is what the layers mean, and the seam.
Source: docker/compose, internal/oci and pkg/remote/oci.go (media types and annotations).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from typing import Protocol

from pycompose.compose.client import ApiError, Client, ClientError, NodeError
from pycompose.compose.client.credentials import Wallet
from pycompose.compose.loader.remotes import RemoteError
from pycompose.proto.v1 import image_pb2

PROJECT = "application/vnd.docker.compose.project"
EMPTY_CONFIG = "application/vnd.docker.compose.config.empty.v1+json"
COMPOSE_FILE = "application/vnd.docker.compose.file+yaml"
ENV_FILE = "application/vnd.docker.compose.envfile"
NOTE_FILE, NOTE_ENV, NOTE_EXTENDS = (f"com.docker.compose.{word}" for word in ("file", "envfile", "extends"))
NOTE_VERSION = "com.docker.compose.version"
MAIN = "compose.yaml"
_NAME = re.compile(r"[A-Za-z0-9_.][A-Za-z0-9_. +@=-]{0,199}\Z")


class Registry(Protocol):
    """Where artifacts come from. Both raise RemoteError."""

    def resolve(self, name: str) -> str:
        """Return the digest that a name in full means now."""
        ...

    def fetch(self, name: str) -> list[image_pb2.ArtifactLayer]:
        """Return the layers of an artifact."""
        ...


class NodeRegistry:
    """Registries as a node sees them.

    Args:
        connect: opens a client of the node.
    """

    def __init__(self, connect: Callable[[], AbstractContextManager[Client]]) -> None:
        self._connect = connect
        self._wallet = Wallet()

    def resolve(self, name: str) -> str:
        """See `Registry.resolve`."""
        try:
            account = self._wallet.of(name)
            with self._connect() as client:
                request = image_pb2.ResolveImageRequest(reference=name, credentials=account)
                return client.images.ResolveImage(request).digest
        except ClientError as error:
            raise _remote(name, error) from None

    def fetch(self, name: str) -> list[image_pb2.ArtifactLayer]:
        """See `Registry.fetch`."""
        try:
            account = self._wallet.of(name)
            with self._connect() as client:
                request = image_pb2.FetchArtifactRequest(
                    reference=name, types=[PROJECT, EMPTY_CONFIG], credentials=account
                )
                return list(client.images.FetchArtifact(request).layers)
        except ClientError as error:
            raise _remote(name, error) from None


def _remote(name: str, error: ClientError) -> RemoteError:
    away = isinstance(error, NodeError) or (isinstance(error, ApiError) and error.code == "UNAVAILABLE")
    return RemoteError(f"oci://{name}: {error}", passing=away)


def files_of(layers: Iterable[image_pb2.ArtifactLayer], shown: str) -> dict[str, bytes]:
    """Return the files that an artifact's layers are, by name; all lie in one folder.

    Args:
        layers: in their order.
        shown: the artifact, for messages.

    Raises:
        RemoteError: there is no Compose file in it, or a name leads elsewhere or is taken twice.
    """
    files: dict[str, bytes] = {}
    main: list[bytes] = []
    for layer in layers:
        notes = layer.annotations
        if layer.media_type == COMPOSE_FILE and NOTE_EXTENDS not in notes:
            main.append(layer.data)
            continue
        if layer.media_type == COMPOSE_FILE:
            name = notes.get(NOTE_FILE, "")
        elif layer.media_type == ENV_FILE:
            name = notes.get(NOTE_ENV, "")
        else:
            continue
        if not _NAME.match(name) or name in (".", "..") or name == MAIN or files.get(name, layer.data) != layer.data:
            raise RemoteError(f"{shown}: a layer of it is called {name[:80]!r}, which is no name of a file there")
        files[name] = layer.data
    if not main:
        raise RemoteError(f"{shown}: there is no Compose file in it")
    return {MAIN: b"\n---\n".join(main), **files}
