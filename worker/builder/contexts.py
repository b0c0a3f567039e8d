"""The files of a build's contexts: asked of the client when a step needs them, and kept for the build's time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from pathlib import Path

from pycompose.worker.builder import files
from pycompose.worker.builder.errors import BuildError
from pycompose.worker.builder.tree import is_wild

#: Pieces of a context that wait to be unpacked.
WAITING = 8
Ask = Callable[[str, list[str]], Awaitable[None]]


def prefix(source: str) -> str:
    """Return the longest path that holds all that a source, or a pattern of sources, can name; "." for all."""
    kept: list[str] = []
    for part in source.split("/"):
        if part in ("", "."):
            continue
        if is_wild(part) or "$" in part or part == "..":
            break
        kept.append(part.replace("\\", ""))
    return "/".join(kept) or "."


def missing(wanted: Iterable[str], there: Iterable[str]) -> list[str]:
    """Return the paths that are not at or below one that is there, nor below one another. Pure."""
    found: list[str] = []
    for path in sorted(set(wanted), key=lambda one: (one != ".", one)):
        if not any(one == "." or path == one or path.startswith(one + "/") for one in (*there, *found)):
            found.append(path)
    return found


class Context:
    """One context of the client's.

    Args:
        name: its name; "" for the build's own.
        folder: where its files go; made.
        ask: asks the client for paths of a context.
        expected: sources that steps will need; asked for together with the first.
    """

    def __init__(self, name: str, folder: Path, ask: Ask, expected: Iterable[str]) -> None:
        self._name, self._ask, self.folder = name, ask, folder
        self._expected = [prefix(source) for source in expected]
        self._there: list[str] = []
        self._lock = asyncio.Lock()
        self._pieces: asyncio.Queue[bytes | None] = asyncio.Queue(WAITING)
        folder.mkdir(parents=True)

    async def provide(self, sources: Iterable[str]) -> Path:
        """Return the folder, with all that the sources can name. Raises BuildError, DiskFull."""
        async with self._lock:
            wanted = missing([*map(prefix, sources), *self._expected], self._there)
            if wanted:
                await self._ask(self._name, wanted)
                job = {"do": "receive", "into": {"upper": str(self.folder)}}
                async for _ in files.stream(job, self._data()):
                    pass
                self._there += wanted
        return self.folder

    async def take(self, data: bytes, *, end: bool) -> None:
        """Take a piece of what was asked for."""
        if data:
            await self._pieces.put(data)
        if end:
            await self._pieces.put(None)

    async def _data(self) -> AsyncIterator[bytes]:
        while (piece := await self._pieces.get()) is not None:
            yield piece


class Contexts:
    """The contexts of one build by name."""

    def __init__(self, contexts: Iterable[tuple[str, Context]]) -> None:
        self._contexts = dict(contexts)

    async def provide(self, name: str, sources: Iterable[str]) -> Path:
        """Return a context's folder, with all that the sources can name. Raises BuildError, DiskFull."""
        context = self._contexts.get(name)
        if context is None:
            raise BuildError("this build has no context: its Dockerfile can copy from stages and images alone")
        return await context.provide(sources)

    async def take(self, name: str, data: bytes, *, end: bool) -> None:
        """Take a piece of a context. Raises BuildError: there is none of that name."""
        context = self._contexts.get(name)
        if context is None:
            raise BuildError(f"the build has no context {name!r}")
        await context.take(data, end=end)
