"""Image references (distribution's reference grammar), purely.

The full form has a registry, a path and a tag; people write and read the familiar one: ``redis`` for
``docker.io/library/redis:latest``.
"""

from __future__ import annotations

import re

from pycompose.worker.images.errors import BadReference

HUB = "docker.io"
_PATH = re.compile(r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*(?:/[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*)*\Z")
_TAG = re.compile(r"\w[\w.-]{0,127}\Z", re.ASCII)
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}\Z")


def full(text: str) -> str:
    """Return the full reference. Raises BadReference."""
    name, _, digest = text.partition("@")
    if digest and not _DIGEST.match(digest):
        raise BadReference(f"{text!r}: {digest!r} is no digest; it looks like sha256: and 64 hex digits")
    head, slash, rest = name.partition("/")
    if slash and ("." in head or ":" in head or head == "localhost"):
        registry, path = head, rest
    else:
        registry, path = HUB, name
    path, colon, tag = path.partition(":")
    if colon and not _TAG.match(tag):
        raise BadReference(f"{text!r}: {tag!r} is no tag; use letters, digits, '_', '.' and '-'")
    if registry == HUB and "/" not in path:
        path = f"library/{path}"
    if not _PATH.match(path):
        raise BadReference(f"{text!r} is no image reference; it looks like name:tag, in lower case")
    if digest:
        return f"{registry}/{path}@{digest}"
    return f"{registry}/{path}:{tag or 'latest'}"


def familiar(reference: str) -> str:
    """Return the form that people write, with its tag or digest."""
    return reference.removeprefix(f"{HUB}/library/").removeprefix(f"{HUB}/")
