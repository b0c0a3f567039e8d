"""Layers unpacked once, shared by all images that have the same layers below.

A layer is found by its chain id, the digest of its diff id (the digest of its uncompressed tar) and of those below it
(image-spec, config.md, "Layer ChainID"): a link of a lower layer decides where an upper one's files go, so that what
is on disk depends on all of them. A layer is unpacked into a directory of its own by `unpack`, a process a layer, and
renamed when it is complete. Nothing here is synced: the store syncs once, before an image is listed.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from pycompose.worker.images import limits
from pycompose.worker.images.errors import BadArchive, DiskFull, ImageError
from pycompose.worker.images.files import NEW, remove_tree

#: Digits of a chain id that name a directory: overlayfs's options have one page for all of them.
DIGITS = 32


def chain_ids(diff_ids: Sequence[str]) -> tuple[str, ...]:
    """Return the chain ids of layers, lowest first."""
    chains: list[str] = []
    for diff_id in diff_ids:
        text = f"{chains[-1]} {diff_id}" if chains else ""
        chains.append("sha256:" + hashlib.sha256(text.encode()).hexdigest() if text else diff_id)
    return tuple(chains)


class Layers:
    """The directory ``layers``."""

    def __init__(self, root: Path) -> None:
        self.directory = root / "layers"
        self.directory.mkdir(parents=True, exist_ok=True)

    def path(self, chain_id: str) -> Path:
        """Return the layer's directory."""
        return self.directory / chain_id.removeprefix("sha256:")[:DIGITS]

    def all(self) -> Iterator[Path]:
        """Yield the directories of all layers."""
        return (path for path in self.directory.iterdir() if not path.name.startswith("."))

    async def unpack(self, blob: Path, lower: Sequence[str], diff_id: str) -> tuple[str, int]:
        """Unpack a blob over other layers, unless the layer is there.

        Args:
            lower: diff ids of the layers below, lowest first.
            diff_id: what must come out; "" for whatever does.

        Returns:
            The diff id, and the bytes of the layer's files (0 when the layer was there).

        Raises:
            BadArchive: not the expected layer, or one that was refused.
            DiskFull: there is no room for it.
        """
        below = chain_ids(lower)
        if diff_id and self.path(chain_ids((*lower, diff_id))[-1]).is_dir():
            return diff_id, 0
        home = Path(tempfile.mkdtemp(dir=self.directory, prefix=NEW))
        try:
            for name in ("fs", "work", "root"):
                (home / name).mkdir()
            _like(home / "fs", self.path(below[-1]) if below else None)
            job = {
                "lower": [self.path(chain).name for chain in reversed(below)],
                "home": home.name,
                "limit": limits.unpacked_limit(blob.stat().st_size),
            }
            found = await self._run(blob, job, diff_id)
            if diff_id and found["diff_id"] != diff_id:
                raise BadArchive(
                    f"layer {found['diff_id']} is not the announced {diff_id}: it was changed on its way; "
                    "get the image again, or tell who made it"
                )
            target = self.path(chain_ids((*lower, found["diff_id"]))[-1])
            if not target.is_dir():
                (home / "fs").rename(target)
            return found["diff_id"], int(found["bytes"])
        finally:
            await asyncio.shield(asyncio.to_thread(remove_tree, home))

    def adopt(self, folder: Path, lower: Sequence[str], diff_id: str) -> None:
        """Make a folder that overlayfs wrote as its upper one a layer, unless that is there.

        Args:
            folder: on the file system of ours; it is taken away where it was.
            lower: diff ids of the layers below, lowest first.
            diff_id: of its content.
        """
        target = self.path(chain_ids((*lower, diff_id))[-1])
        if not target.is_dir():
            folder.rename(target)

    async def _run(self, blob: Path, job: dict[str, Any], diff_id: str) -> dict[str, Any]:
        command = [sys.executable, "-m", "pycompose.worker.images.unpack", json.dumps(job)]
        with blob.open("rb") as file:
            child = await asyncio.create_subprocess_exec(
                *command,
                stdin=file,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
                cwd=self.directory,
            )
        try:
            output, words = await child.communicate()
        except BaseException:
            child.kill()
            await asyncio.shield(child.wait())
            raise
        name = (diff_id or blob.name).removeprefix("sha256:")[:12]
        try:
            found: dict[str, Any] = json.loads(output)
        except ValueError:
            said = words.decode("utf-8", "replace").strip()[-300:]
            raise ImageError(f"unpacking layer {name} ended with status {child.returncode}: {said}") from None
        if "error" not in found:
            return found
        if found["kind"] == "full":
            raise DiskFull(
                f"layer {name} does not fit on the disk of {self.directory} ({found['error']}); "
                "make room: pycompose image prune"
            )
        if found["kind"] == "refused":
            raise BadArchive(f"layer {name} was refused: {found['error']}")
        raise ImageError(f"layer {name} could not be unpacked: {found['error']}")


def _like(directory: Path, lower: Path | None) -> None:
    """Give a new layer's root the owner and mode of the one below: overlayfs shows those of the topmost layer."""
    if lower is None:
        directory.chmod(0o755)
        return
    found = lower.stat()
    os.chown(directory, found.st_uid, found.st_gid)
    directory.chmod(found.st_mode & 0o7777)
