"""A build's work on files, as calls: what ``program`` does in a process of its own."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping
from typing import Any

from pycompose.worker.builder.errors import BuildError, MissingSource
from pycompose.worker.copying import child
from pycompose.worker.images.errors import DiskFull

_MODULE = "pycompose.worker.builder.program"


async def whole(job: Mapping[str, Any]) -> bytes:
    """Do a job; returns what it says. Raises MissingSource, BuildError, DiskFull."""
    return b"".join([piece async for piece in stream(job)])


def stream(job: Mapping[str, Any], data: AsyncIterator[bytes] | None = None) -> AsyncIterator[bytes]:
    """Do a job; yields its output. `data`: its input. Raises as `whole`."""
    return child.stream(_MODULE, job, data, _error)


def _error(words: bytes) -> Exception:
    try:
        said = json.loads(words.splitlines()[-1])
        kind, message = str(said["kind"]), str(said["message"])
    except (ValueError, KeyError, IndexError, TypeError):
        return BuildError(f"the files cannot be reached: {words.decode('utf-8', 'replace')[-300:]}")
    if kind == "missing":
        return MissingSource(message)
    if kind == "full":
        return DiskFull(f"the build does not fit on the disk ({message}); make room: pycompose builder prune")
    return BuildError(message)
