"""``python -m pycompose.worker.images.unpack ROOT LIMIT``: a layer's tar from standard input into ROOT.

The process enters ROOT (chroot(2)) before it reads the first byte, with no descriptor outside of it but stdio: no
path in the tar, however odd, leads out. Everything is imported before. Whiteouts become overlayfs's own (a
character device 0/0; the xattr trusted.overlay.opaque: kernel documentation, overlayfs.rst). LIMIT: bytes.
"""

from __future__ import annotations

import encodings.idna  # noqa: F401
import errno
import os
import stat
import sys
import tarfile
from typing import BinaryIO

ENTRIES, PATH_BYTES, CHUNK = 1_000_000, 4096, 1 << 20
WHITEOUT, OPAQUE = ".wh.", ".wh..wh..opq"


class Refused(Exception):
    """The layer is not acceptable; the message says why."""


def parts_of(name: str) -> list[str]:
    """Return the components of a member's name. Raises Refused."""
    parts = [part for part in name.split("/") if part not in ("", ".")]
    if ".." in parts or len(os.fsencode(name)) > PATH_BYTES or "\0" in name:
        raise Refused(f"entry {name[:80]!r} has a path that no layer needs")
    return parts


def clear(path: str, keep_directory: bool) -> None:
    """Make place for a new entry."""
    try:
        mode = os.lstat(path).st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISDIR(mode):
        os.unlink(path)
    elif not keep_directory:
        for name in os.listdir(path):
            clear(f"{path}/{name}", False)
        os.rmdir(path)


def make_parents(parts: list[str]) -> None:
    """Make missing directories above an entry."""
    path = ""
    for part in parts[:-1]:
        path += "/" + part
        try:
            os.mkdir(path, 0o755)
        except FileExistsError:
            if not os.path.isdir(path):
                os.unlink(path)
                os.mkdir(path, 0o755)


class Unpacker:
    """One layer."""

    def __init__(self, limit: int) -> None:
        self._left, self._entries = limit, 0
        self._times: list[tuple[str, int]] = []

    def run(self, stream: BinaryIO) -> None:
        """Unpack a tar. Raises Refused, tarfile.TarError, OSError."""
        with tarfile.open(fileobj=stream, mode="r|") as archive:
            for member in archive:
                self._entries += 1
                if self._entries > ENTRIES:
                    raise Refused(f"the layer has more than {ENTRIES:,} entries")
                self._entry(archive, member)
                archive.members = []  # type: ignore[attr-defined]
        for path, mtime in reversed(self._times):
            os.utime(path, ns=(mtime, mtime))

    def _entry(self, archive: tarfile.TarFile, member: tarfile.TarInfo) -> None:
        parts = parts_of(member.name)
        if not parts:
            self._attributes("/", member)
            return
        make_parents(parts)
        folder, path = "/" + "/".join(parts[:-1]), "/" + "/".join(parts)
        if parts[-1] == OPAQUE:
            os.setxattr(folder, "trusted.overlay.opaque", b"y")
            return
        if parts[-1].startswith(WHITEOUT):
            path = f"{folder.rstrip('/')}/{parts[-1].removeprefix(WHITEOUT)}"
            clear(path, False)
            os.mknod(path, stat.S_IFCHR, os.makedev(0, 0))
            return
        clear(path, member.isdir())
        self._make(archive, member, path)

    def _make(self, archive: tarfile.TarFile, member: tarfile.TarInfo, path: str) -> None:
        if member.islnk():
            os.link("/" + "/".join(parts_of(member.linkname)), path, follow_symlinks=False)
            return
        if member.issym():
            os.symlink(member.linkname, path)
        elif member.isdir():
            if not os.path.isdir(path):
                os.mkdir(path)
        elif member.isreg():
            self._file(archive, member, path)
        elif member.isfifo():
            os.mkfifo(path)
        elif member.ischr() or member.isblk():
            kind = stat.S_IFCHR if member.ischr() else stat.S_IFBLK
            os.mknod(path, kind, os.makedev(member.devmajor, member.devminor))
        else:
            raise Refused(f"entry {member.name[:80]!r} has an unknown type")
        self._attributes(path, member)

    def _file(self, archive: tarfile.TarFile, member: tarfile.TarInfo, path: str) -> None:
        source = archive.extractfile(member)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
        with os.fdopen(descriptor, "wb") as target:
            while source is not None and (piece := source.read(CHUNK)):
                self._left -= len(piece)
                if self._left < 0:
                    raise Refused("the layer is larger than the limit")
                target.write(piece)

    def _attributes(self, path: str, member: tarfile.TarInfo) -> None:
        os.chown(path, member.uid, member.gid, follow_symlinks=False)
        if not member.issym():
            os.chmod(path, member.mode & 0o7777)
        for key, value in member.pax_headers.items():
            if key.startswith("SCHILY.xattr."):
                self._xattr(path, key.removeprefix("SCHILY.xattr."), value)
        mtime = int(float(member.pax_headers.get("mtime", member.mtime)) * 1_000_000_000)
        if member.isdir():
            self._times.append((path, mtime))
        else:
            os.utime(path, ns=(mtime, mtime), follow_symlinks=False)

    @staticmethod
    def _xattr(path: str, name: str, value: str) -> None:
        if name.startswith("trusted.overlay."):
            raise Refused(f"{path}: a layer may not set {name}")
        try:
            os.setxattr(path, name, value.encode("utf-8", "surrogateescape"), follow_symlinks=False)
        except OSError as error:
            if error.errno not in (errno.ENOTSUP, errno.EPERM):
                raise


def main() -> None:
    """Enter the root and unpack; a refusal is one line on standard error and exit status 1."""
    root, limit = sys.argv[1], int(sys.argv[2])
    "".encode("utf-8", "surrogateescape"), b"".decode("iso8859-1"), "".encode("ascii")
    os.umask(0)
    os.chdir(root)
    os.chroot(".")
    try:
        Unpacker(limit).run(sys.stdin.buffer)
        while sys.stdin.buffer.read(CHUNK):
            pass
    except (Refused, tarfile.TarError, OSError, EOFError) as error:
        os.write(2, f"{type(error).__name__}: {error}\n".encode("utf-8", "replace"))
        os._exit(1)
    os._exit(0)


if __name__ == "__main__":
    main()
