"""Rows of `image ls` and `image history`, purely: Docker's fields, names and filters."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from google.protobuf.timestamp_pb2 import Timestamp

from pycompose.compose.cli import words
from pycompose.compose.cli.fitting import cut
from pycompose.compose.cli.inspection import split_reference
from pycompose.proto.v1 import image_pb2

NONE = "<none>"


def rows(one: image_pb2.Image, now: float, *, digests: bool) -> list[dict[str, Any]]:
    """Return Docker's rows of an image: one a name, with `digests` one a name and digest; ids in full.

    Args:
        now: seconds since the epoch.
        digests: whether digests are asked for.
    """
    tags: dict[str, list[str]] = {}
    for name in one.references:
        repository, tag = split_reference(name)
        tags.setdefault(repository, []).append(tag)
    known: dict[str, list[str]] = {}
    for name in one.digests:
        repository, _, digest = name.partition("@")
        known.setdefault(repository, []).append(digest)
    found: list[tuple[str, str, str]] = []
    for repository, listed in tags.items():
        for tag in listed:
            found += [
                (repository, tag, digest) for digest in (known.get(repository) or [NONE])[: None if digests else 1]
            ]
    for repository in known.keys() - tags.keys():
        found += [(repository, NONE, digest) for digest in known[repository][: None if digests else 1]]
    return [_row(one, names, now) for names in found or [(NONE, NONE, NONE)]]


def _row(one: image_pb2.Image, names: tuple[str, str, str], now: float) -> dict[str, Any]:
    size = words.size(one.size_bytes)
    return {
        "Repository": names[0],
        "Tag": names[1],
        "Digest": names[2],
        "ID": one.id,
        "CreatedSince": since(one.created_at if one.HasField("created_at") else None, now),
        "CreatedAt": at(one.created_at if one.HasField("created_at") else None),
        "Size": size,
        "VirtualSize": size,
        "SharedSize": "N/A",
        "UniqueSize": "N/A",
        "Containers": "N/A",
        "Platform": one.platform,
    }


def since(stamp: Timestamp | None, now: float) -> str:
    """Return "3 hours ago"."""
    return f"{words.since(stamp, now)} ago" if stamp is not None else "N/A"


def at(stamp: Timestamp | None) -> str:
    """Return a time as Docker's lists show it: "2024-05-06 07:08:09 +0000 UTC"."""
    return stamp.ToDatetime().strftime("%Y-%m-%d %H:%M:%S +0000 UTC") if stamp is not None else "N/A"


def matches(pattern: str, names: Iterable[str]) -> bool:
    """Return whether one of an image's names is meant by a pattern: with its tag, or without; "*" stops at a slash."""
    compiled = re.compile(_expression(pattern))
    return any(compiled.match(name) or compiled.match(re.split(r"[:@](?!.*/)", name)[0]) for name in names)


def _expression(pattern: str) -> str:
    """Return the regular expression of Go's path.Match: "*", "?", "[a-z]", "[^a]"."""
    text, rest = "", pattern
    while rest:
        found = re.match(r"\[\^?[^\]]+\]", rest)
        if found:
            text += found[0]
            rest = rest[found.end() :]
            continue
        letter, rest = rest[0], rest[1:]
        text += {"*": "[^/]*", "?": "[^/]"}.get(letter, re.escape(letter))
    return text + r"\Z"


def wanted(
    images: Sequence[image_pb2.Image], filters: Mapping[str, Sequence[str]], before: int | None, after: int | None
) -> list[image_pb2.Image]:
    """Return the images that filters let through, the youngest first.

    Args:
        filters: values by key: reference, dangling, label.
        before, after: ns since the epoch: only images built before or after.
    """
    chosen = []
    for image in images:
        one = _named(image, filters["reference"]) if "reference" in filters else image
        built = image.created_at.ToNanoseconds()
        dangling = str(not image.references).lower()
        if (
            one is not None
            and dangling in (_truths(filters["dangling"]) if "dangling" in filters else (dangling,))
            and (before is None or built < before)
            and (after is None or built > after)
        ):
            chosen.append(one)
    return sorted(chosen, key=lambda one: (-one.created_at.ToNanoseconds(), one.id))


def _named(image: image_pb2.Image, patterns: Sequence[str]) -> image_pb2.Image | None:
    """Return an image with those of its names that a pattern means, None when it has none."""
    found = image_pb2.Image()
    found.CopyFrom(image)
    for names in (found.references, found.digests):
        names[:] = [name for name in names if any(matches(pattern, [name]) for pattern in patterns)]
    return found if found.references or found.digests else None


def _truths(values: Sequence[str]) -> set[str]:
    return {"true" if value.lower() in ("1", "t", "true") else "false" for value in values}


def step(one: image_pb2.HistoryStep, now: float, *, human: bool, whole: bool) -> dict[str, Any]:
    """Return a row of `image history`.

    Args:
        human: sizes and times for people.
        whole: cut nothing.
    """
    stamp = one.created_at if one.HasField("created_at") else None
    by = " ".join(one.created_by.split()) if not whole else one.created_by
    iso = stamp.ToDatetime().strftime("%Y-%m-%dT%H:%M:%SZ") if stamp is not None else ""
    identity = one.image_id or "<missing>"
    return {
        "ID": identity if whole else identity.removeprefix("sha256:")[:12] if one.image_id else identity,
        "CreatedAt": iso,
        "CreatedSince": since(stamp, now) if human else iso,
        "CreatedBy": by if whole else cut(by, 45),
        "Size": words.size(one.size_bytes) if human else str(one.size_bytes),
        "Comment": one.comment,
    }


def canonical(name: str) -> str:
    """Return a name in full, as Docker prints it after a pull: "redis" is docker.io/library/redis:latest."""
    head, slash, _ = name.partition("/")
    if not slash or not ("." in head or ":" in head or head == "localhost"):
        name = f"docker.io/{name}" if slash else f"docker.io/library/{name}"
    return name if "@" in name or ":" in name.rpartition("/")[2] else f"{name}:latest"
