"""Content by digest, as an OCI image layout has it (image-spec, image-layout.md); writes are atomic and durable."""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Iterable
from pathlib import Path

from pycompose.worker.images.errors import BadArchive, ImageError

CHUNK = 1 << 20


def write_atomically(path: Path, data: bytes) -> None:
    """Replace `path` so that a crash leaves the old or the new content."""
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=".new-")
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


class Blobs:
    """The directory ``blobs/sha256``."""

    def __init__(self, root: Path) -> None:
        self.directory = root / "blobs" / "sha256"
        self.directory.mkdir(parents=True, exist_ok=True)

    def path(self, digest: str) -> Path:
        """Return where the content with this digest lies."""
        return self.directory / digest.removeprefix("sha256:")

    def read(self, digest: str) -> bytes:
        """Return small content. Raises ImageError."""
        try:
            return self.path(digest).read_bytes()
        except FileNotFoundError:
            raise ImageError(f"{digest} is missing from the image store; pull or load the image again") from None

    def put(self, data: bytes) -> str:
        """Store small content; returns its digest."""
        digest = "sha256:" + hashlib.sha256(data).hexdigest()
        if not self.path(digest).exists():
            write_atomically(self.path(digest), data)
        return digest

    def put_stream(self, pieces: Iterable[bytes], expected: str = "") -> tuple[str, int]:
        """Store content; returns digest and size in bytes. Raises BadArchive when it is not the expected one."""
        checksum, size = hashlib.sha256(), 0
        descriptor, name = tempfile.mkstemp(dir=self.directory, prefix=".new-")
        try:
            with os.fdopen(descriptor, "wb") as file:
                for piece in pieces:
                    checksum.update(piece)
                    size += len(piece)
                    file.write(piece)
                file.flush()
                os.fsync(file.fileno())
            digest = "sha256:" + checksum.hexdigest()
            if expected and digest != expected:
                raise BadArchive(f"content has digest {digest}, {expected} was announced; get it again")
            os.rename(name, self.path(digest))
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise
        sync_directory(self.directory)
        return digest, size

    def remove(self, digest: str) -> None:
        """Remove content."""
        self.path(digest).unlink(missing_ok=True)
