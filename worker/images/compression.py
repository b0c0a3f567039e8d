"""What a blob or an archive is packed with, seen from its first bytes, and readers of what is inside.

gzip goes through isal and Zstandard through python-zstandard; bzip2 and xz, which only archives of old tools use,
through the standard library.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pycompose.worker.images.limits import ZSTD_WINDOW

PIECE = 1 << 20
GZIP, ZSTD, BZIP2, XZ, PLAIN = "gzip", "zstd", "bzip2", "xz", "tar"
_MAGIC = ((b"\x1f\x8b", GZIP), (b"\x28\xb5\x2f\xfd", ZSTD), (b"BZh", BZIP2), (b"\xfd7zXZ\0", XZ))


class CompressionError(Exception):
    """The content cannot be decompressed; the message says why."""


def kind_of(head: bytes) -> str:
    """Return what content is packed with, from its first 6 bytes; PLAIN when with nothing known."""
    if head[:4] in (bytes([0x50 + low]) + b"\x2a\x4d\x18" for low in range(16)):
        return ZSTD  # a skippable frame may come first (RFC 8878, 3.1.2)
    return next((kind for magic, kind in _MAGIC if head.startswith(magic)), PLAIN)


def reader(file: Any, kind: str) -> Callable[[], bytes]:
    """Return a function that gives the next unpacked bytes of a binary file, b"" at its end.

    Raises:
        CompressionError: from that function.
    """
    source: Any = file
    errors: tuple[Any, ...] = (OSError, EOFError)
    if kind == GZIP:
        from isal import igzip, isal_zlib

        source = igzip.IGzipFile(fileobj=file, mode="rb")  # type: ignore[no-untyped-call]
        errors = (*errors, isal_zlib.error)
    elif kind == ZSTD:
        import zstandard

        decompressor = zstandard.ZstdDecompressor(max_window_size=ZSTD_WINDOW)
        source = decompressor.stream_reader(file, read_across_frames=True)
        errors = (*errors, zstandard.ZstdError)
    elif kind == BZIP2:
        import bz2

        source = bz2.BZ2File(file)
    elif kind == XZ:
        import lzma

        source = lzma.LZMAFile(file)  # noqa: SIM115
        errors = (*errors, lzma.LZMAError)

    def read() -> bytes:
        try:
            found: bytes = source.read(PIECE)
        except errors as error:
            if isinstance(error, OSError) and error.errno:
                raise
            raise CompressionError(f"it cannot be decompressed ({kind}): {error}") from error
        return found

    return read
