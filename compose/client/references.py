"""Names of images in full, purely, as Docker prints them: "redis" is docker.io/library/redis:latest.

Source: the grammar of distribution's reference package, which Docker and registries share.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

_LABEL = r"(?:[a-zA-Z0-9]|[a-zA-Z0-9][a-zA-Z0-9-]*[a-zA-Z0-9])"
_HOST = re.compile(rf"(?:{_LABEL}(?:\.{_LABEL})*|\[[0-9a-fA-F:]+\])(?::[0-9]+)?\Z")
_PATH = re.compile(r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*(?:/[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*)*\Z")
_TAG = re.compile(r"\w[\w.-]{0,127}\Z", re.ASCII)
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}\Z|sha384:[0-9a-f]{96}\Z|sha512:[0-9a-f]{128}\Z")
_LONGEST_PATH = 255


@dataclass(frozen=True)
class ImageName:
    """A name in full. With a digest that was written there is no tag: the digest alone says what is meant."""

    registry: str
    path: str
    tag: str = ""
    digest: str = ""

    def pinned(self, digest: str) -> ImageName:
        """Return the name with a digest beside its tag."""
        return replace(self, digest=digest)

    @property
    def repository(self) -> str:
        """Registry and path."""
        return f"{self.registry}/{self.path}"

    def __str__(self) -> str:
        tag = f":{self.tag}" if self.tag else ""
        return f"{self.repository}{tag}" + (f"@{self.digest}" if self.digest else "")


def parse(text: str) -> ImageName:
    """Read a name.

    Args:
        text: as people write it: "redis", "host:5000/team/web:1.2", "redis@sha256:…".

    Raises:
        ValueError: it is none; the message says why.
    """
    rest, at, digest = text.partition("@")
    if at and not _DIGEST.match(digest):
        raise ValueError(f'"{digest[:80]}" is no digest; it looks like sha256: and 64 hex digits')
    head, slash, path = rest.partition("/")
    named = slash and ("." in head or ":" in head or head == "localhost" or head != head.lower())
    registry, path = (head, path) if named else ("docker.io", rest)
    registry = "docker.io" if registry == "index.docker.io" else registry
    path, colon, tag = path.partition(":")
    if colon and not _TAG.match(tag):
        raise ValueError(f'"{tag[:80]}" is no tag; use letters, digits, "_", "." and "-", at most 128')
    if not _HOST.match(registry):
        raise ValueError(f'"{registry[:80]}" is no registry; it looks like host or host:port')
    if registry == "docker.io" and "/" not in path:
        path = f"library/{path}"
    if not _PATH.match(path) or len(path) > _LONGEST_PATH or re.match(r"library/[0-9a-f]{64}\Z", path):
        hint = "; write it in lower case" if _PATH.match(path.lower()) and path != path.lower() else ""
        raise ValueError(f'"{text[:100]}" is no name of an image{hint or "; it looks like name:tag"}')
    return ImageName(registry, path, "" if digest else tag or "latest", digest)
