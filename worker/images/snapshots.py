"""A container's writable layer: an upper and a work directory for overlayfs beside each other."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Snapshot:
    """`lower`: layer directories, topmost first."""

    lower: tuple[Path, ...]
    upper: Path
    work: Path


class Snapshots:
    """The directory ``snapshots``."""

    def __init__(self, root: Path) -> None:
        self.directory = root / "snapshots"
        self.directory.mkdir(parents=True, exist_ok=True)

    def make(self, container_id: str, lower: tuple[Path, ...]) -> Snapshot:
        """Return the container's layer, made when it is missing. Its root directory is like the image's."""
        home = self.directory / container_id
        upper, work = home / "upper", home / "work"
        if not work.is_dir():
            home.mkdir(mode=0o700, exist_ok=True)
            upper.mkdir(exist_ok=True)
            if lower:
                like = lower[0].stat()
                os.chown(upper, like.st_uid, like.st_gid)
                os.chmod(upper, like.st_mode & 0o7777)
            work.mkdir()
        return Snapshot(lower, upper, work)

    def release(self, container_id: str) -> None:
        """Remove the container's layer."""
        shutil.rmtree(self.directory / container_id, ignore_errors=True)

    def ids(self) -> list[str]:
        """Return the containers that have a layer."""
        return [path.name for path in self.directory.iterdir()]
