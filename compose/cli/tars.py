"""Tar streams on this machine's side: files packed for a container, files of a container unpacked here.

What a container sends is not trusted: no entry is written through a symbolic link, and none leads out of the folder.
"""

from __future__ import annotations

import io
import os
import stat
import tarfile
from collections.abc import Callable, Iterator
from queue import Queue
from threading import Thread
from typing import Any, BinaryIO, cast

from pycompose.compose.cli.errors import CliError

CHUNK = 256 << 10
#: A file up to so many bytes is read whole before its size is told.
SMALL = 16 << 20
_AHEAD = 16


def pack(entries: Callable[[tarfile.TarFile], None]) -> Iterator[bytes]:
    """Yield the tar that `entries` writes, made in a thread while it is read.

    Raises:
        CliError: a file cannot be read.
    """
    chunks: Queue[Any] = Queue(_AHEAD)

    class Writer(io.RawIOBase):
        def writable(self) -> bool:
            return True

        def write(self, data: Any) -> int:
            chunks.put(bytes(data))
            return len(data)

    def work() -> None:
        try:
            with tarfile.open(fileobj=Writer(), mode="w|", bufsize=CHUNK, format=tarfile.PAX_FORMAT) as archive:
                entries(archive)
            chunks.put(None)
        except OSError as error:
            chunks.put(CliError(f"{error.filename}: {error.strerror}" if error.filename else str(error)))

    Thread(target=work, daemon=True).start()
    while (item := chunks.get()) is not None:
        if isinstance(item, CliError):
            raise item
        yield item


def add(archive: tarfile.TarFile, path: str, name: str) -> None:
    """Add a file, or a folder with all that is in it; what no tar can hold (a socket) is left out."""
    for where, entry in walk(path, name):
        add_one(archive, where, entry)


def add_one(archive: tarfile.TarFile, path: str, name: str) -> None:
    """Add a file, or a folder without what is in it."""
    info = archive.gettarinfo(path, name)
    if info is None:
        return
    if info.isreg():
        with open(path, "rb") as file:
            content = file.read(SMALL + 1)
            if len(content) <= SMALL:  # another program may be writing it: the size is of what was read
                info.size = len(content)
                archive.addfile(info, io.BytesIO(content))
            else:
                file.seek(0)
                archive.addfile(info, file)
    else:
        archive.addfile(info)


def walk(path: str, name: str) -> Iterator[tuple[str, str]]:
    """Yield (path, name in the tar) of a file or folder and all that is below it."""
    yield path, name
    if stat.S_ISDIR(os.lstat(path).st_mode):
        for below in sorted(os.listdir(path)):
            yield from walk(f"{path}/{below}", below if name == "." else f"{name}/{below}")


def unpack(
    chunks: Iterator[bytes], folder: str, rename: Callable[[str], str], *, owners: bool, warn: Callable[[str], None]
) -> None:
    """Unpack a tar below a folder.

    Args:
        chunks: the stream.
        folder: an existing folder.
        rename: gives an entry's new name; "" leaves it out.
        owners: give files the owners of the stream (takes root).
        warn: is told what is left out.

    Raises:
        CliError: an entry leads out of the folder, or cannot be written.
    """
    times: list[tuple[str, float]] = []
    try:
        with tarfile.open(fileobj=cast(BinaryIO, Reader(chunks)), mode="r|") as archive:
            for member in archive:
                name = rename(member.name)
                if name:
                    _take(archive, member, folder, name, rename, owners=owners, warn=warn)
                    if member.isdir():
                        times.append((os.path.join(folder, name), float(member.mtime)))
    except OSError as error:
        raise CliError(f"{error.filename}: {error.strerror}" if error.filename else str(error)) from None
    except tarfile.TarError as error:
        raise CliError(f"what came from the container is no tar stream: {error}") from None
    for path, when in reversed(times):
        os.utime(path, (when, when))


def _take(
    archive: tarfile.TarFile,
    member: tarfile.TarInfo,
    folder: str,
    name: str,
    rename: Callable[[str], str],
    *,
    owners: bool,
    warn: Callable[[str], None],
) -> None:
    path = _place(folder, name)
    _make_room(path, member.isdir())
    if member.isdir():
        if not os.path.isdir(path):
            os.mkdir(path)
    elif member.issym():
        os.symlink(member.linkname, path)
    elif member.islnk():
        os.link(_place(folder, rename(member.linkname)), path, follow_symlinks=False)
        return
    elif member.isreg():
        source = archive.extractfile(member)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
        with os.fdopen(os.open(path, flags, 0o600), "wb") as file:
            while source is not None and (data := source.read(CHUNK)):
                file.write(data)
    else:
        warn(f"{member.name} is neither file, folder nor link, and was left out")
        return
    if owners:
        os.chown(path, member.uid, member.gid, follow_symlinks=False)
    if not member.issym():
        os.chmod(path, member.mode & (0o7777 if owners else 0o777))
    if not member.isdir():
        os.utime(path, (float(member.mtime), float(member.mtime)), follow_symlinks=False)


def _place(folder: str, name: str) -> str:
    """Return where an entry goes, its parents made."""
    parts = [part for part in name.split("/") if part not in ("", ".")]
    if ".." in parts or not parts:
        raise CliError(f"the container sent an entry {name!r} that leads out of {folder}; nothing more was written")
    path = folder
    for part in parts[:-1]:
        path = os.path.join(path, part)
        if os.path.islink(path):
            raise CliError(f"{path} is a symbolic link that the container made; nothing was written through it")
        if not os.path.isdir(path):
            os.mkdir(path)
    return os.path.join(path, parts[-1])


def _make_room(path: str, directory: bool) -> None:
    if not os.path.lexists(path) or (directory and os.path.isdir(path)):
        return
    if os.path.isdir(path) and not os.path.islink(path):
        raise CliError(f"cannot replace the folder {path} by a file; remove it first")
    if directory:
        raise CliError(f"cannot replace the file {path} by a folder; remove it first")
    os.unlink(path)


class Reader:
    """A stream of chunks as a file."""

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self._chunks, self._rest = iter(chunks), b""

    def read(self, size: int = -1) -> bytes:
        """Return at most `size` bytes."""
        parts, have = [self._rest], len(self._rest)
        while size < 0 or have < size:
            data = next(self._chunks, None)
            if data is None:
                break
            parts.append(data)
            have += len(data)
        whole = b"".join(parts)
        if size < 0:
            size = len(whole)
        self._rest = whole[size:]
        return whole[:size]
