"""Content by digest, as an OCI image layout has it (image-spec, image-layout.md).

A blob has its name only when it is complete and its digest is right. Blobs are not synced one by one: the store syncs
the file system before it lists an image, and removes what no listed image has when it is opened.
"""

from __future__ import annotations

import errno
import hashlib
import os
import re
import tempfile
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType

from pycompose.worker.images import limits
from pycompose.worker.images.errors import BadArchive, DiskFull, ImageError
from pycompose.worker.images.files import NEW

CHUNK = 1 << 20
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}\Z")
_FULL = (errno.ENOSPC, errno.EDQUOT)


def is_digest(text: object) -> bool:
    """Return whether a text is a digest that names content here: sha256, in lower case."""
    return isinstance(text, str) and _DIGEST.match(text) is not None


def digest_of(data: bytes) -> str:
    """Return the digest of some bytes."""
    return "sha256:" + hashlib.sha256(data).hexdigest()


def no_room(directory: Path, error: OSError | None = None) -> DiskFull:
    """Return the error for a full disk."""
    why = f" ({error.strerror})" if error is not None else ""
    return DiskFull(f"no room for the image on the disk of {directory}{why}; make room: pycompose image prune")


class Writer:
    """New content, written piece by piece. A context manager: what is not committed vanishes."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        descriptor, self._name = tempfile.mkstemp(dir=directory, prefix=NEW)
        self._file = os.fdopen(descriptor, "wb", buffering=0)
        self._checksum = hashlib.sha256()
        self._unchecked = 0
        self.size = 0

    @property
    def path(self) -> Path:
        """Where the bytes lie until they are committed."""
        return Path(self._name)

    def write(self, piece: bytes | memoryview) -> None:
        """Append. Raises DiskFull."""
        self._unchecked += len(piece)
        if self._unchecked >= 16 * CHUNK:
            self._unchecked = 0
            if limits.room(self._directory) < len(piece):
                raise no_room(self._directory)
        self._checksum.update(piece)
        try:
            left = memoryview(piece)
            while left:
                left = left[self._file.write(left) :]
        except OSError as error:
            if error.errno in _FULL:
                raise no_room(self._directory, error) from error
            raise
        self.size += len(piece)

    def restart(self) -> None:
        """Forget everything that was written."""
        self._file.seek(0)
        self._file.truncate()
        self._checksum, self.size = hashlib.sha256(), 0

    def digest(self) -> str:
        """Return the digest of what was written."""
        return "sha256:" + self._checksum.hexdigest()

    def commit(self) -> str:
        """Give the content its name; returns the digest."""
        digest = self.digest()
        self._file.close()
        os.rename(self._name, self._directory / digest.removeprefix("sha256:"))
        return digest

    def __enter__(self) -> Writer:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self._file.close()
        Path(self._name).unlink(missing_ok=True)


class Blobs:
    """The directory ``blobs/sha256``."""

    def __init__(self, root: Path) -> None:
        self.directory = root / "blobs" / "sha256"
        self.directory.mkdir(parents=True, exist_ok=True)

    def path(self, digest: str) -> Path:
        """Return where the content with this digest lies. Raises BadArchive when it is no digest."""
        if not is_digest(digest):
            raise BadArchive(f"{str(digest)[:80]!r} is no digest that this node knows; want sha256: and 64 hex digits")
        return self.directory / digest.removeprefix("sha256:")

    def size(self, digest: str) -> int | None:
        """Return the size of content in bytes, None when it is not there."""
        try:
            return self.path(digest).stat().st_size
        except FileNotFoundError:
            return None

    def read(self, digest: str) -> bytes:
        """Return small content. Raises ImageError."""
        try:
            return self.path(digest).read_bytes()
        except FileNotFoundError:
            raise ImageError(f"{digest} is missing from the image store; pull or load the image again") from None

    def writer(self) -> Writer:
        """Return a writer of new content. Raises DiskFull."""
        try:
            return Writer(self.directory)
        except OSError as error:
            if error.errno in _FULL:
                raise no_room(self.directory, error) from error
            raise

    def put(self, data: bytes) -> str:
        """Store small content; returns its digest."""
        digest = digest_of(data)
        if self.size(digest) != len(data):
            self.put_stream([data])
        return digest

    def put_stream(self, pieces: Iterable[bytes | memoryview], expected: str = "") -> tuple[str, int]:
        """Store content; returns digest and size in bytes. Raises BadArchive when it is not the expected one."""
        with self.writer() as writer:
            for piece in pieces:
                writer.write(piece)
            if expected and writer.digest() != expected:
                raise BadArchive(f"content has digest {writer.digest()}, {expected} was announced; get it again")
            return writer.commit(), writer.size

    def remove(self, digest: str) -> None:
        """Remove content."""
        self.path(digest).unlink(missing_ok=True)
