"""Named and anonymous volumes of this node: directories ``STATE/volumes/NAME/_data``.

A volume with driver options is mounted as Docker's local driver does (mount(8): type, device, o). An empty new volume
is filled from the image's directory, copied by a process that opens it inside the image's root only.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path


class VolumeError(Exception):
    """The message says which volume, and what to do."""


class Volumes:
    """The directory ``volumes``."""

    def __init__(self, root: Path) -> None:
        self._root = root
        root.mkdir(parents=True, exist_ok=True, mode=0o701)

    def path(self, name: str) -> Path:
        """Return the volume's data directory. Raises VolumeError."""
        if not name or "/" in name or name.startswith("."):
            raise VolumeError(f"volume {name!r}: this is no name of a volume")
        return self._root / name / "_data"

    async def ensure(
        self, name: str, options: Mapping[str, str], lower: Sequence[Path], source: str, *, copy: bool
    ) -> Path:
        """Return the volume's directory, made, mounted and filled when it is new.

        Args:
            options: of the local driver: type, device, o.
            lower: layers of the image, topmost first; source: the path in it that fills an empty volume.

        Raises:
            VolumeError: it cannot be mounted or filled.
        """
        path = self.path(name)
        new = not path.is_dir()
        if new:
            path.mkdir(parents=True, mode=0o755)
        if options.get("device") and not os.path.ismount(path):
            words = ["mount", "-t", options.get("type") or "none"]
            words += ["-o", options["o"]] if options.get("o") else []
            await _run(f"volume {name}", *words, options["device"], str(path))
        elif new and copy and lower:
            code = [sys.executable, "-m", "pycompose.worker.volumes.populate", source, str(path)]
            try:
                await _run(f"volume {name}", *code, *map(str, lower))
            except VolumeError:
                shutil.rmtree(path.parent, ignore_errors=True)
                raise
        return path

    async def measure(self, name: str) -> tuple[int, int] | None:
        """Return the bytes on the disk and the number of files and folders; None when there is no data here."""
        path = self.path(name)
        if not path.is_dir():
            return None
        return await asyncio.to_thread(_measure, path)

    async def remove(self, name: str) -> None:
        """Delete the volume's data."""
        path = self.path(name)
        if os.path.ismount(path):
            await _run(f"volume {name}", "umount", str(path))
        await asyncio.to_thread(shutil.rmtree, path.parent, True)


def _measure(path: Path) -> tuple[int, int]:
    """Add up what is below a folder; links are not followed, other file systems not entered (as `du -x`)."""
    total = entries = 0
    device = os.lstat(path).st_dev
    seen: set[int] = set()
    for folder, _, names in os.walk(path):
        for name in [".", *names]:
            try:
                found = os.lstat(os.path.join(folder, name))
            except OSError:
                continue
            if found.st_dev != device or found.st_ino in seen:
                continue
            seen.add(found.st_ino)
            total, entries = total + found.st_blocks * 512, entries + 1
    return total, entries - 1


async def _run(what: str, *command: str) -> None:
    child = await asyncio.create_subprocess_exec(
        *command, stdin=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.PIPE
    )
    _, words = await child.communicate()
    if child.returncode != 0:
        raise VolumeError(f"{what}: {words.decode('utf-8', 'replace').strip() or 'failed'}")
