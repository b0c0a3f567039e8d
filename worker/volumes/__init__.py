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

    async def remove(self, name: str) -> None:
        """Delete the volume's data."""
        path = self.path(name)
        if os.path.ismount(path):
            await _run(f"volume {name}", "umount", str(path))
        await asyncio.to_thread(shutil.rmtree, path.parent, True)


async def _run(what: str, *command: str) -> None:
    child = await asyncio.create_subprocess_exec(
        *command, stdin=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.PIPE
    )
    _, words = await child.communicate()
    if child.returncode != 0:
        raise VolumeError(f"{what}: {words.decode('utf-8', 'replace').strip() or 'failed'}")
