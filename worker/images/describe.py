"""Images in Docker's shapes: ``docker image inspect`` and ``docker image history``. Purely."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pycompose.worker.images.store import Image


def stamp(nanoseconds: int) -> str:
    """Return a time as Docker writes it."""
    return datetime.fromtimestamp(nanoseconds / 1e9, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def inspect(image: Image, layers: Sequence[Path]) -> dict[str, Any]:
    """Return an image as ``docker image inspect`` prints it.

    Args:
        layers: directories of its layers, topmost first.
    """
    config = image.config
    directories = [str(path) for path in layers]
    driver: dict[str, Any] = {"Name": "overlay2", "Data": {}}
    if directories:
        driver["Data"]["UpperDir"] = directories[0]
    if directories[1:]:
        driver["Data"]["LowerDir"] = ":".join(directories[1:])
    named = max(image.named.values(), default=0)
    return {
        "Id": image.id,
        "RepoTags": list(image.references),
        "RepoDigests": list(image.digests),
        "Parent": "",
        "Comment": (config.get("history") or [{}])[-1].get("comment") or "",
        "Created": config.get("created") or "",
        "DockerVersion": config.get("docker_version") or "",
        "Author": config.get("author") or "",
        "Config": image.settings,
        "Architecture": config.get("architecture") or "",
        **({"Variant": config["variant"]} if config.get("variant") else {}),
        "Os": config.get("os") or "linux",
        "Size": image.size,
        "VirtualSize": image.size,
        "GraphDriver": driver,
        "RootFS": {"Type": "layers", "Layers": list(image.diff_ids)},
        "Metadata": {"LastTagTime": stamp(named) if named else "0001-01-01T00:00:00Z"},
    }


def history(image: Image, sizes: Sequence[int]) -> list[dict[str, Any]]:
    """Return how an image was built, the last step first, as ``docker image history`` shows it.

    Args:
        sizes: bytes of its unpacked layers, lowest first.
    """
    left = list(sizes)
    steps: list[dict[str, Any]] = []
    for step in image.config.get("history") or [{} for _ in sizes]:
        size = left.pop(0) if not step.get("empty_layer") and left else 0
        steps.append(
            {
                "Id": "<missing>",
                "Created": step.get("created") or "",
                "CreatedBy": step.get("created_by") or "",
                "Comment": step.get("comment") or "",
                "Size": size,
                "Tags": [],
            }
        )
    steps.reverse()
    if steps:
        steps[0].update(Id=image.id, Tags=list(image.references))
    return steps
