"""What the image store accepts at most, at each of its doors. Beyond a limit an image is refused, never cut.

Sources of the sizes: the distribution specification asks registries to take manifests of 4 MiB; overlayfs stacks 500
layers (OVL_MAX_STACK); a path of Linux has 4,096 bytes and a name 255 (path_resolution(7)).
"""

from __future__ import annotations

import os

#: Bytes of a manifest or an index, of an image's configuration, and of the answer of a token server.
MANIFEST_BYTES, CONFIG_BYTES, TOKEN_BYTES = 4 << 20, 8 << 20, 1 << 20
#: Bytes of any other answer of a registry that is read as a whole: lists of tags, errors.
ANSWER_BYTES, ERROR_BYTES = 4 << 20, 64 << 10
#: Bytes of all pieces of an artifact that is no image: text that people wrote.
ARTIFACT_BYTES = 8 << 20
#: Layers of one image, images in one archive, and entries of an index.
LAYERS, ARCHIVE_IMAGES, INDEX_ENTRIES = 500, 1_000, 1_000
#: One layer unpacked: bytes (also those of holes), entries, and bytes of one entry's extended headers.
LAYER_BYTES, LAYER_ENTRIES, HEADER_BYTES = 64 << 30, 1_000_000, 1 << 20
#: A layer may unpack to RATIO times its size; below RATIO_FLOOR bytes nobody counts.
RATIO, RATIO_FLOOR = 200, 256 << 20
#: Entries of an archive of images (docker or OCI).
ARCHIVE_ENTRIES = 100_000
#: Bytes that a Zstandard frame may make its reader remember (RFC 8878, 3.1.1.1.2).
ZSTD_WINDOW = 128 << 20
#: Address space of the process that unpacks.
UNPACKER_MEMORY = 768 << 20


def unpacked_limit(packed: int) -> int:
    """Return how many bytes a layer of `packed` bytes may unpack to."""
    return min(LAYER_BYTES, max(RATIO_FLOOR, packed * RATIO))


def reserve(size: int) -> int:
    """Return how many bytes of a file system of `size` bytes images leave free: a fiftieth, at most 1 GiB."""
    return min(1 << 30, size // 50)


def room(path: str | os.PathLike[str]) -> int:
    """Return how many bytes images may still take on the file system at `path` (statvfs(3)); may be negative."""
    found = os.statvfs(path)
    return found.f_bavail * found.f_frsize - reserve(found.f_blocks * found.f_frsize)
