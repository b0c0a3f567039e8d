"""The cache of what was fetched: `$XDG_CACHE_HOME/pycompose/remote/KEY`, where KEY is the commit or digest.

====================  =================================================================================================
``KEY/files``         what came
``KEY/origin.json``   where from, and the SHA-256 of each file
``names/HASH.json``   what a name that can move meant when it was last asked for
``fetching-*``        what is being fetched; moved into its place when it is whole
====================  =================================================================================================

A container may mount a folder of it and write there; therefore the loader takes a file only while its hash is the one
that came (`loader.remotes.CheckedFiles`). The folder is the user's alone. Source: XDG Base Directory Specification.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import stat
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pycompose.compose.loader.remotes import RemoteError

MAX_BYTES = 256 << 20
"""Largest content of one repository at one commit, and the most that is fetched for it."""
MAX_FILES = 50_000
MAX_HASHED = 16 << 20
"""Files larger than this are no Compose files; the loader reads none of them."""
STALE_SECONDS = 24 * 3600


def folder(environment: Mapping[str, str]) -> Path:
    """Return the cache's folder for a caller's environment."""
    chosen = environment.get("XDG_CACHE_HOME", "")
    base = (
        Path(chosen) if chosen.startswith("/") else Path(environment.get("HOME") or os.path.expanduser("~"), ".cache")
    )
    return base / "pycompose" / "remote"


@dataclass(frozen=True)
class Kept:
    """One entry of the cache: the folder of its files, and their SHA-256 by path below it."""

    root: Path
    hashes: Mapping[str, str]


class Cache:
    """Args: path: of the cache's folder; it is made when something is put there."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def find(self, key: str) -> Kept | None:
        """Return what is kept under a commit or digest, None for nothing."""
        place = self.path / key
        try:
            origin = json.loads((place / "origin.json").read_text())
            return Kept(place / "files", {str(name): str(value) for name, value in origin["files"].items()})
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, AttributeError) as error:
            raise RemoteError(f"{place} is damaged ({error})", f"remove it: rm -r {place}") from None

    @contextmanager
    def fetching(self) -> Iterator[Path]:
        """Make an empty folder to fetch into; it is gone afterwards, whatever happens. Raises RemoteError."""
        try:
            self.path.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._sweep()
            made = Path(tempfile.mkdtemp(prefix="fetching-", dir=self.path))
        except OSError as error:
            raise RemoteError(
                f"{self.path}: {error.strerror}", "remote files are kept there; XDG_CACHE_HOME names another folder"
            ) from None
        try:
            yield made
        finally:
            _remove(made)

    def _sweep(self) -> None:
        """Remove what a killed command left behind."""
        for left in self.path.glob("fetching-*"):
            with suppress(OSError):
                if left.stat().st_mtime < time.time() - STALE_SECONDS:
                    _remove(left)

    def put(self, key: str, files: Path, origin: Mapping[str, Any]) -> Kept:
        """Keep a folder that was fetched under a key; another command may have been faster.

        Args:
            files: the folder, inside of one that `fetching` made; it is moved.
            origin: what is told about it.
        """
        document = {**origin, "files": hashes_of(files)}
        ready = files.parent / "ready"
        ready.mkdir(mode=0o700)
        files.rename(ready / "files")
        (ready / "origin.json").write_text(json.dumps(document, indent=1))
        with suppress(OSError):
            ready.rename(self.path / key)
        found = self.find(key)
        if found is None:
            raise RemoteError(f"{self.path / key} cannot be made", "see the permissions of the folder above")
        return found

    def remember(self, name: str, key: str) -> None:
        """Note what a name meant now."""
        place = self.path / "names" / f"{hashlib.sha256(name.encode()).hexdigest()}.json"
        with suppress(OSError):
            place.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            own = place.with_suffix(f".{os.getpid()}")
            own.write_text(json.dumps({"key": key, "at": time.time()}))
            own.rename(place)

    def recall(self, name: str) -> tuple[str, float] | None:
        """Return what a name meant when it was last asked for, and when (seconds since the epoch); None: never."""
        place = self.path / "names" / f"{hashlib.sha256(name.encode()).hexdigest()}.json"
        try:
            found = json.loads(place.read_text())
            return str(found["key"]), float(found["at"])
        except (OSError, ValueError, KeyError, TypeError):
            return None


def hashes_of(root: Path) -> dict[str, str]:
    """Return the SHA-256 of each regular file below a folder that the loader may read, by its path."""
    found = {}
    for here, _, names in os.walk(root):
        for name in names:
            path = Path(here, name)
            status = path.lstat()
            if stat.S_ISREG(status.st_mode) and status.st_size <= MAX_HASHED:
                found[str(path.relative_to(root))] = hashlib.sha256(path.read_bytes()).hexdigest()
    return found


def _remove(path: Path) -> None:
    shutil.rmtree(path, ignore_errors=True)
