"""Operations done: each over the layers so far, its changes kept as the next layer."""

from __future__ import annotations

import asyncio
import os
import secrets
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pycompose.worker.builder import files
from pycompose.worker.builder.cache import Made
from pycompose.worker.builder.errors import BuildError
from pycompose.worker.builder.evaluation import CopyOperation, FolderOperation, Operation, RunOperation
from pycompose.worker.builder.fetching import Fetched
from pycompose.worker.builder.instructions import Mount
from pycompose.worker.builder.running import Output, Runs, RunSettings, mounts_of_kind
from pycompose.worker.images import ImageStore
from pycompose.worker.images.snapshots import Snapshot
from pycompose.worker.images.store import Lease
from pycompose.worker.runtime import users

Root = dict[str, Any]


@dataclass(frozen=True)
class Prepared:
    """What an operation reads: the `roots`, digests of what it takes of them, its local sources, what was fetched."""

    roots: Sequence[Root]
    inputs: Sequence[str]
    local: tuple[str, ...] = ()
    fetched: tuple[Fetched, ...] = ()


class CommandFailed(BuildError):
    """RUN ended with another status than 0."""

    def __init__(self, operation: RunOperation, code: int) -> None:
        super().__init__(f"{' '.join(operation.arguments) or 'the script'} ended with status {code}")
        self.code = code


class Layering:
    """Args:
    store, lease: where layers go, and what holds them meanwhile.
    runs, settings: run commands.
    folder: of the build's own.
    slots: how many steps work at once on the node.
    latest: the time that no file's may pass, in seconds since the epoch; None: any.
    """

    def __init__(
        self,
        store: ImageStore,
        lease: Lease,
        runs: Runs,
        settings: RunSettings,
        folder: Path,
        slots: asyncio.Semaphore,
        latest: int | None,
    ) -> None:
        self._store, self._lease, self._runs, self._settings = store, lease, runs, settings
        self._folder, self._slots, self._latest = folder, slots, latest

    def place(self) -> str:
        """Return a new empty folder, to mount something at, or to be empty."""
        place = self._folder / f"place-{secrets.token_hex(8)}"
        place.mkdir()
        return str(place)

    def root(self, diff_ids: Sequence[str]) -> Root:
        """Return layers as a root that is read (see `program`)."""
        lower = [str(path) for path in self._store.stack(diff_ids)]
        return {"lower": lower, "place": self.place()} if lower else {"path": self.place()}

    async def do(
        self, operation: Operation, prepared: Prepared, below: Sequence[str], output: Output
    ) -> tuple[Made, int]:
        """Do an operation over layers; returns its layer, and the bytes of its files.

        Args:
            below: diff ids of the layers, lowest first.
            output: takes what a command writes.

        Raises:
            MissingSource, BuildError, RuntimeFault, DiskFull.
        """
        name = f"build-{secrets.token_hex(12)}"
        async with self._slots:
            snapshot = self._store.writable(name, below)
            try:
                skip: Sequence[str] = ()
                if isinstance(operation, RunOperation):
                    skip = await self._run(name, operation, prepared, snapshot, output)
                elif isinstance(operation, FolderOperation):
                    owner = self._owner(operation.user, snapshot)
                    job = {"do": "folder", "into": self._into(snapshot), "path": operation.path, "owner": owner}
                    await files.whole(job)
                    if not any(snapshot.upper.iterdir()):
                        return Made(), 0
                else:
                    await self._copy(operation, prepared, snapshot)
                return await self._keep(snapshot.upper, below, skip)
            finally:
                await asyncio.shield(self._store.release(name))

    async def _run(
        self, name: str, operation: RunOperation, prepared: Prepared, snapshot: Snapshot, output: Output
    ) -> list[str]:
        """Run a command; returns the paths that only its mounts are the reason of, the longest first."""
        if not snapshot.lower:
            snapshot = replace(snapshot, lower=(Path(self.place()),))
        binds = zip(mounts_of_kind(operation, "bind"), prepared.roots, strict=True)
        bound = [_bound(mount, root) for mount, root in binds]
        code, mounted = await self._runs.run(name, operation, snapshot, bound, self._settings, output)
        if code:
            raise CommandFailed(operation, code)
        return list(_made_for(mounted, snapshot.lower))

    def _into(self, snapshot: Snapshot) -> Root:
        into: Root = {"upper": str(snapshot.upper), "work": str(snapshot.work), "place": self.place()}
        return into | ({"lower": [str(path) for path in snapshot.lower]} if snapshot.lower else {})

    @staticmethod
    def _owner(text: str, snapshot: Snapshot) -> list[int] | None:
        """Return uid and gid; a user's number alone is the group's too, as Docker has it."""
        if not text:
            return None
        if text.isdecimal():
            text = f"{text}:{text}"
        found = users.resolve_in(text, (snapshot.upper, *snapshot.lower))
        return [found.uid, found.gid]

    async def _copy(self, operation: CopyOperation, prepared: Prepared, snapshot: Snapshot) -> None:
        job: dict[str, Any] = {
            "do": "copy",
            "into": self._into(snapshot),
            "target": operation.target,
            "owner": self._owner(operation.owner, snapshot),
            "mode": operation.mode,
            "exclude": list(operation.exclude),
            "parents": operation.parents,
            "files": list(operation.files),
            "sources": list(prepared.local),
            "from": prepared.roots[0] if prepared.roots else None,
            "unpack": operation.add if operation.unpack is None else operation.unpack,
            "keep_owner": bool(operation.origin),
        }
        if prepared.local or operation.files:
            await files.whole(job)
        for one in prepared.fetched:
            more = {"from": {"path": str(one.folder)}, "sources": [one.name], "files": [], "keep_owner": False}
            more |= {"unpack": bool(operation.unpack), "mode": operation.mode or "600", "exclude": []}
            await files.whole(job | more | {"into": self._into(snapshot)})

    async def _keep(self, upper: Path, below: Sequence[str], skip: Sequence[str]) -> tuple[Made, int]:
        """Pack what was changed, and take it over as a layer."""
        job = {"do": "layer", "upper": str(upper), "skip": list(skip), "latest": self._latest}
        with self._store.blobs.writer() as writer:
            async for piece in files.stream(job):
                await asyncio.to_thread(writer.write, piece)
            digest = writer.commit()
        size = await asyncio.to_thread(_size, upper)
        await self._store.adopt(self._lease, upper, below, digest, size)
        return Made(digest, digest), size


def _bound(mount: Mount, root: Root) -> dict[str, Any]:
    """Return the OCI mount of RUN's bind mount."""
    inside = mount.source.strip("/")
    if "path" in root or len(root["lower"]) == 1:
        source = root["path"] if "path" in root else root["lower"][0]
        options = ["rbind", "rprivate", *(["ro"] if mount.read_only or "lower" in root else [])]
        found: dict[str, Any] = {"destination": mount.target, "type": "bind", "source": source, "options": options}
    else:
        options = ["ro", f"lowerdir={':'.join(root['lower'])}"]
        found = {"destination": mount.target, "type": "overlay", "source": "overlay", "options": options}
    return found | ({"subpath": inside} if inside and inside != "." else {})


def _made_for(mounted: Iterable[str], lower: Sequence[Path]) -> Iterator[str]:
    """Yield the mount points, and the folders on the way to them that no layer has, the longest first."""
    points = {path.rstrip("/") for path in mounted if path.rstrip("/")}
    found = set(points)
    for point in points:
        parts = point.strip("/").split("/")
        for count in range(1, len(parts)):
            before = "/".join(parts[:count])
            if not any(os.path.lexists(layer / before) for layer in lower):
                found.add(f"/{before}")
    yield from sorted(found, key=len, reverse=True)


def _size(folder: Path) -> int:
    """Return the bytes of the files below a folder."""
    return sum(
        os.lstat(os.path.join(top, name)).st_size
        for top, _, names in os.walk(folder)
        for name in names
        if not os.path.islink(os.path.join(top, name))
    )
