"""How the loader reaches files: one small seam, on disk or in memory."""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Protocol

MAX_BYTES = 64 * 1024 * 1024
"""Largest file read."""


class Files(Protocol):
    """What the loader asks of a file system; paths are absolute."""

    def read(self, path: str) -> bytes:
        """Return a file's content. Raises OSError when it cannot be read."""
        ...

    def is_file(self, path: str) -> bool:
        """Tell whether something that is not a directory is there."""
        ...

    def is_dir(self, path: str) -> bool:
        """Tell whether a directory is there."""
        ...

    def real(self, path: str) -> str:
        """Return the path with symbolic links followed."""
        ...


class DiskFiles:
    """The machine's files. `-` is standard input; devices and pipes other than it are refused, not waited for."""

    def read(self, path: str) -> bytes:
        """See `Files.read`."""
        if path == "-":
            return sys.stdin.buffer.read(MAX_BYTES)
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        with os.fdopen(descriptor, "rb") as file:
            status = os.fstat(descriptor)
            if stat.S_ISDIR(status.st_mode):
                raise IsADirectoryError(21, "is a directory", path)
            if stat.S_ISFIFO(status.st_mode) and path.startswith(("/dev/fd/", "/proc/")):
                os.set_blocking(descriptor, True)
            elif not stat.S_ISREG(status.st_mode) and path != "/dev/null":
                raise OSError(22, "is not a regular file", path)
            content = file.read(MAX_BYTES + 1)
        if len(content) > MAX_BYTES:
            raise OSError(27, f"is larger than {MAX_BYTES >> 20} MB", path)
        return content

    def is_file(self, path: str) -> bool:
        """See `Files.is_file`."""
        return Path(path).exists() and not Path(path).is_dir()

    def is_dir(self, path: str) -> bool:
        """See `Files.is_dir`."""
        return Path(path).is_dir()

    def real(self, path: str) -> str:
        """See `Files.real`."""
        return str(Path(path).resolve())


class MemoryFiles:
    """Files in a dict, for tests: absolute path to content."""

    def __init__(self, files: Mapping[str, str | bytes]) -> None:
        self.files = {path: text.encode() if isinstance(text, str) else text for path, text in files.items()}

    def read(self, path: str) -> bytes:
        """See `Files.read`."""
        try:
            return self.files[path]
        except KeyError:
            raise FileNotFoundError(2, "No such file or directory", path) from None

    def is_file(self, path: str) -> bool:
        """See `Files.is_file`."""
        return path in self.files

    def is_dir(self, path: str) -> bool:
        """See `Files.is_dir`."""
        return any(PurePosixPath(path) in PurePosixPath(name).parents for name in self.files)

    def real(self, path: str) -> str:
        """See `Files.real`."""
        return path
