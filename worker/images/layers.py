"""Layers unpacked once, shared by all images; found by diff id (the digest of the uncompressed tar)."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from pycompose.worker.images.errors import BadArchive

CHUNK = 1 << 20
LIMIT_BYTES = 64 << 30


def opened(path: Path) -> Any:
    """Open a blob for reading its uncompressed bytes; the compression is seen from its first bytes."""
    with path.open("rb") as file:
        magic = file.read(4)
    if magic[:2] == b"\x1f\x8b":
        from isal import igzip

        return igzip.open(path, "rb")  # type: ignore[no-untyped-call]
    if magic == b"\x28\xb5\x2f\xfd":
        import zstandard

        return zstandard.open(path, "rb")
    return path.open("rb")


class Layers:
    """The directory ``layers``."""

    def __init__(self, root: Path) -> None:
        self.directory = root / "layers"
        self.directory.mkdir(parents=True, exist_ok=True)

    def path(self, diff_id: str) -> Path:
        """Return the layer's directory."""
        return self.directory / diff_id.removeprefix("sha256:")[:20]

    def all(self) -> Iterator[Path]:
        """Yield the directories of all layers."""
        return (path for path in self.directory.iterdir() if not path.name.startswith("."))

    def unpack(self, blob: Path, expected: str = "") -> str:
        """Unpack a blob unless its layer is there; returns the diff id.

        Raises:
            BadArchive: not the expected layer, or one that the unpacker refused.
        """
        if expected and self.path(expected).is_dir():
            return expected
        target = Path(tempfile.mkdtemp(dir=self.directory, prefix=".new-"))
        try:
            os.chmod(target, 0o755)
            with opened(blob) as stream:
                diff_id = self._run(stream, target)
            if expected and diff_id != expected:
                raise BadArchive(f"layer {diff_id} is not the announced {expected}; get the image again")
            if not self.path(diff_id).is_dir():
                os.rename(target, self.path(diff_id))
            return diff_id
        finally:
            shutil.rmtree(target, ignore_errors=True)

    def _run(self, stream: IO[bytes], target: Path) -> str:
        command = [sys.executable, "-m", "pycompose.worker.images.unpack", str(target), str(LIMIT_BYTES)]
        child = subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.PIPE)
        checksum = hashlib.sha256()
        assert child.stdin is not None
        assert child.stderr is not None
        with child:
            try:
                while piece := stream.read(CHUNK):
                    checksum.update(piece)
                    child.stdin.write(piece)
                child.stdin.close()
            except BrokenPipeError:
                pass  # the child says why
            except (OSError, EOFError) as error:
                child.kill()
                raise BadArchive(f"a layer cannot be decompressed: {error}") from error
            words = child.stderr.read().decode("utf-8", "replace").strip()
        if child.returncode != 0:
            raise BadArchive(f"a layer was refused: {words or f'unpacking ended with {child.returncode}'}")
        return "sha256:" + checksum.hexdigest()
