"""Named and anonymous volumes of this node: directories ``STATE/volumes/NAME/_data``.

A volume with driver options is mounted as Docker's local driver does (mount(8): type, device, o) while containers use
it. An empty volume is filled from the image's directory, copied by a process that opens it inside the image's root
only. A file ``STATE/volumes/NAME/filling`` is there meanwhile: what an interrupted copy left is no data.
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
        self._locks: dict[str, asyncio.Lock] = {}
        root.mkdir(parents=True, exist_ok=True)
        root.chmod(0o700)  # what containers leave in volumes, set-uid programs among it, only root reaches

    def path(self, name: str) -> Path:
        """Return the volume's data directory. Raises VolumeError."""
        if not name or "/" in name or name.startswith("."):
            raise VolumeError(f"volume {name!r}: this is no name of a volume")
        return self._root / name / "_data"

    def names(self) -> list[str]:
        """Return all that are here."""
        return sorted(entry.name for entry in os.scandir(self._root) if entry.is_dir())

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
        async with self._locks.setdefault(name, asyncio.Lock()):
            path = await self.mounted(name, options)
            filling = path.parent / "filling"
            if filling.exists():
                await asyncio.to_thread(_clear, path)
            if copy and lower and not any(path.iterdir()):
                code = [sys.executable, "-m", "pycompose.worker.volumes.populate", source, str(path)]
                filling.touch()
                try:
                    await _run(f"volume {name}", *code, *map(str, lower))
                except VolumeError:
                    await asyncio.to_thread(_clear, path)
                    raise
            filling.unlink(missing_ok=True)
        return path

    async def measure(self, name: str) -> tuple[int, int] | None:
        """Return the bytes on the disk and the number of files and folders; None when there is no data here."""
        path = self.path(name)
        if not path.is_dir():
            return None
        return await asyncio.to_thread(room_of, path)

    async def mounted(self, name: str, options: Mapping[str, str]) -> Path:
        """Return the volume's directory, made and mounted, as it has to be again after a reboot.

        Raises:
            VolumeError: it cannot be mounted.
        """
        path = self.path(name)
        path.mkdir(parents=True, exist_ok=True, mode=0o755)
        if options.get("device") and not os.path.ismount(path):
            await _run(f"volume {name}", *await mount_command(options), str(path))
        return path

    async def release(self, name: str) -> None:
        """Nobody uses the volume for now: what was mounted for it is unmounted."""
        path = self.path(name)
        if os.path.ismount(path):
            await _run(f"volume {name}", "umount", str(path))

    async def remove(self, name: str) -> None:
        """Delete the volume's data."""
        async with self._locks.setdefault(name, asyncio.Lock()):
            await self.release(name)
            await asyncio.to_thread(shutil.rmtree, self.path(name).parent, True)
        self._locks.pop(name, None)


def _clear(directory: Path) -> None:
    """Empty a directory: one that is half filled would count as filled."""
    for entry in os.scandir(directory):
        if entry.is_dir(follow_symlinks=False):
            shutil.rmtree(entry.path, ignore_errors=True)
        else:
            os.unlink(entry.path)


async def mount_command(options: Mapping[str, str]) -> list[str]:
    """Return the command that mounts a volume as Docker's local driver does: the kernel's mount without helpers.

    Hence `device` and `o` are what mount(2) wants, and an `addr` of a network file system must be a number: a name is
    looked up here.
    """
    kind, words = options.get("type") or "none", []
    for option in filter(None, (options.get("o") or "").split(",")):
        key, _, value = option.partition("=")
        if key == "addr" and kind.startswith(("nfs", "cifs")):
            option = f"addr={await _resolved(value)}"
        words.append(option)
    return ["mount", "-i", "-t", kind, *(["-o", ",".join(words)] if words else []), options["device"]]


async def _resolved(host: str) -> str:
    try:
        found = await asyncio.get_running_loop().getaddrinfo(host, None)
    except OSError as error:
        raise VolumeError(f"addr={host}: {error.strerror}; name a host that can be looked up") from None
    return str(found[0][4][0])


def room_of(path: Path) -> tuple[int, int]:
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
