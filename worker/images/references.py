"""Image references, purely: Docker's grammar (distribution's reference package), its defaults and its short forms.

The full form has a registry, a path, and a tag or a digest; people write and read the familiar one: ``redis`` for
``docker.io/library/redis:latest``.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from pycompose.worker.images.errors import BadReference

HUB, HUB_API, HUB_ALIAS = "docker.io", "registry-1.docker.io", "index.docker.io"
NAME_LIMIT = 255
_LABEL = r"(?:[a-zA-Z0-9]|[a-zA-Z0-9][a-zA-Z0-9-]*[a-zA-Z0-9])"
_REGISTRY = re.compile(rf"(?:{_LABEL}(?:\.{_LABEL})*|\[[0-9a-fA-F:]+\])(?::[0-9]{{1,5}})?\Z")
_PATH = re.compile(r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*(?:/[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*)*\Z")
_TAG = re.compile(r"\w[\w.-]{0,127}\Z", re.ASCII)
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}\Z")
_ID = re.compile(r"[0-9a-f]{64}\Z")


@dataclass(frozen=True)
class Reference:
    """A name in full. A digest leaves no room for a tag: what it names cannot move."""

    registry: str
    path: str
    tag: str = ""
    digest: str = ""

    @property
    def name(self) -> str:
        """Registry and path: the repository."""
        return f"{self.registry}/{self.path}"

    @property
    def which(self) -> str:
        """The tag, or the digest: what a registry is asked for."""
        return self.digest or self.tag

    @property
    def api(self) -> str:
        """Host, and port if any, of the registry's API."""
        return HUB_API if self.registry == HUB else self.registry

    def __str__(self) -> str:
        return f"{self.name}@{self.digest}" if self.digest else f"{self.name}:{self.tag}"


def parse(text: str) -> Reference:
    """Return a reference. Raises BadReference."""
    shown = repr(text if len(text) <= 100 else text[:100] + "…")
    name, at, digest = text.partition("@")
    if at and not _DIGEST.match(digest):
        raise BadReference(f"{shown}: {digest[:80]!r} is no digest; it looks like sha256: and 64 hex digits")
    head, slash, rest = name.partition("/")
    if slash and ("." in head or ":" in head or head == "localhost" or head != head.lower()):
        registry, path = head, rest
    else:
        registry, path = HUB, name
    path, colon, tag = path.partition(":")
    if colon and not _TAG.match(tag):
        raise BadReference(f"{shown}: {tag[:80]!r} is no tag; use letters, digits, '_', '.' and '-', at most 128")
    if registry == HUB_ALIAS:
        registry = HUB
    if not _REGISTRY.match(registry):
        raise BadReference(f"{shown}: {registry[:80]!r} is no registry; it looks like host or host:port")
    if registry == HUB and "/" not in path:
        if _ID.match(path):
            raise BadReference(f"{shown} is an image's id, not a name")
        path = f"library/{path}"
    if not _PATH.match(path):
        raise BadReference(f"{shown} is no image reference; it looks like name:tag, in lower case")
    if len(registry) + 1 + len(path) > NAME_LIMIT:
        raise BadReference(f"{shown}: a name has at most {NAME_LIMIT} characters")
    return Reference(registry, path, "" if digest else tag or "latest", digest)


def full(text: str) -> str:
    """Return the full form. Raises BadReference."""
    return str(parse(text))


def familiar(reference: str) -> str:
    """Return the form that people write, with its tag or digest."""
    return reference.removeprefix(f"{HUB}/library/").removeprefix(f"{HUB}/")
