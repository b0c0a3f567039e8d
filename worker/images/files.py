"""Writing files so that a crash leaves the old or the new, and removing trees of any depth."""

from __future__ import annotations

import contextlib
import ctypes
import os
import secrets
import shutil
import tempfile
from pathlib import Path

#: Begins the names of what is not complete; such files are removed when the store is opened.
NEW = ".new-"
_libc = ctypes.CDLL(None, use_errno=True)


def write_atomically(path: Path, data: bytes) -> None:
    """Replace `path` so that a crash leaves the old or the new content."""
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=NEW)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.rename(name, path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
    sync_directory(path.parent)


def sync_directory(path: Path) -> None:
    """Make renames in a directory durable."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_file_system(path: Path) -> None:
    """Make everything that was written to the file system of `path` durable: syncfs(2). Raises OSError."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        if _libc.syncfs(descriptor) != 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number), str(path))
    finally:
        os.close(descriptor)


def remove_tree(path: Path) -> None:
    """Remove a directory with everything in it; what cannot be removed stays.

    A tree too deep for recursion is made flat first: directories are renamed to the top, one after another.
    """
    try:
        shutil.rmtree(path)
    except FileNotFoundError:
        return
    except (RecursionError, OSError):
        _flatten(path)
        shutil.rmtree(path, ignore_errors=True)


def _flatten(top: Path) -> None:
    waiting = [os.fsencode(top)]
    while waiting:
        folder = waiting.pop()
        with contextlib.suppress(OSError):
            inner = [entry.path for entry in os.scandir(folder) if entry.is_dir(follow_symlinks=False)]
            for each in inner:
                name = os.path.join(os.fsencode(top), secrets.token_hex(8).encode())
                os.rename(each, name)
                waiting.append(name)
