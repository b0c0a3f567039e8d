"""`cp`: files between a container and this machine, as tar streams."""

from __future__ import annotations

import io
import os
import sys
import tarfile
from collections.abc import Callable, Iterator
from queue import SimpleQueue
from threading import Thread
from typing import Any, BinaryIO, cast

import click

from pycompose.compose.cli.errors import CliError, UsageError
from pycompose.compose.cli.flags import command
from pycompose.compose.cli.settings import settings
from pycompose.compose.client import Client
from pycompose.compose.client.state import task_of
from pycompose.proto.v1 import access_pb2

CHUNK = 256 << 10


@command()
@click.argument("source")
@click.argument("destination")
@click.option("-a", "--archive", is_flag=True, help="Keep owners.")
@click.option("-L", "--follow-link", is_flag=True, help="Follow a symbolic link at the source.")
@click.option("--index", type=int, default=0, metavar="N", help="Container number N of the service.")
@click.option("--all", is_flag=True, hidden=True)
def cp(source: str, destination: str, archive: bool, follow_link: bool, index: int, all: bool) -> None:
    """Copy files: SERVICE:PATH to PATH, or PATH to SERVICE:PATH; - is a tar stream."""
    chosen = settings()
    with chosen.client(start=False) as client:
        transfer(
            client,
            source,
            destination,
            lambda service: task_of(client, chosen.name(), service, index).id,
            archive=archive,
            follow=follow_link,
        )


def transfer(
    client: Client, source: str, destination: str, find: Callable[[str], str], *, archive: bool, follow: bool
) -> None:
    """Copy; exactly one side is `NAME:PATH`, and `find` gives its task's id.

    Raises:
        UsageError: both or neither side is in a container.
    """
    from_name, from_path = _side(source)
    to_name, to_path = _side(destination)
    if (from_name is None) == (to_name is None):
        raise UsageError("cp copies between a container and this machine: want NAME:PATH PATH, or PATH NAME:PATH")
    if from_name is not None:
        request = access_pb2.CopyFromRequest(task_id=find(from_name), path=from_path, follow_link=follow)
        _receive(client, request, destination)
    else:
        assert to_name is not None
        _send(client, find(to_name), source, to_path, archive=archive, follow=follow)


def _side(text: str) -> tuple[str | None, str]:
    name, colon, path = text.partition(":")
    if not colon or name.startswith((".", "/")) or not name:
        return None, text
    return name, path


def _receive(client: Client, request: access_pb2.CopyFromRequest, destination: str) -> None:
    chunks = (answer.data for answer in client.access.CopyFrom(request))
    if destination == "-":
        for data in chunks:
            sys.stdout.buffer.write(data)
        return
    inside = os.path.isdir(destination)
    parent = destination if inside else os.path.dirname(os.path.abspath(destination))
    if not os.path.isdir(parent):
        raise CliError(f"{parent}: no such folder; make it first")
    with tarfile.open(fileobj=cast(BinaryIO, _Reader(chunks)), mode="r|") as archive:
        for member in archive:
            if not inside:
                # the one thing copied takes the name that was given
                head, _, rest = member.name.strip("/").partition("/")
                del head
                member.name = os.path.basename(destination) + (f"/{rest}" if rest else "")
            archive.extract(member, parent, filter="data")


def _send(client: Client, task_id: str, source: str, path: str, *, archive: bool, follow: bool) -> None:
    if source != "-" and not os.path.lexists(source):
        raise CliError(f"{source}: no such file or folder")
    folder, name = (path, "") if path.endswith("/") or source == "-" else os.path.split(path)
    if name in (".", ""):
        name = ""
    elif _is_folder(client, task_id, path):
        folder, name = path, ""
    start = access_pb2.CopyToStart(task_id=task_id, path=folder or "/", archive=archive, follow_link=follow)

    def requests() -> Iterator[access_pb2.CopyToRequest]:
        yield access_pb2.CopyToRequest(start=start)
        for data in _read_all(sys.stdin.buffer) if source == "-" else _tar(source, name, follow):
            yield access_pb2.CopyToRequest(data=data)

    client.access.CopyTo(requests())


def _is_folder(client: Client, task_id: str, path: str) -> bool:
    """Return whether a path in the container is a folder, by the first entry of its tar."""
    from pycompose.compose.client import ApiError

    stream = client.access.CopyFrom(access_pb2.CopyFromRequest(task_id=task_id, path=path, follow_link=True))
    try:
        with tarfile.open(fileobj=cast(BinaryIO, _Reader(one.data for one in stream)), mode="r|") as archive:
            first = archive.next()
            return first is not None and first.isdir()
    except (ApiError, tarfile.TarError):
        return False
    finally:
        stream.cancel()


def _read_all(file: BinaryIO) -> Iterator[bytes]:
    while data := file.read(CHUNK):
        yield data


def _tar(source: str, name: str, follow: bool) -> Iterator[bytes]:
    """Yield the tar of a file or folder, made in a thread as it is read."""
    chunks: SimpleQueue[Any] = SimpleQueue()

    class Writer(io.RawIOBase):
        def writable(self) -> bool:
            return True

        def write(self, data: Any) -> int:
            chunks.put(bytes(data))
            return len(data)

    real = os.path.realpath(source) if follow else source
    # "dir/." means the content of dir
    arcname = name or ("." if source.endswith("/.") else os.path.basename(os.path.abspath(source)))

    def work() -> None:
        try:
            with tarfile.open(fileobj=cast(BinaryIO, Writer()), mode="w|", bufsize=CHUNK) as archive:
                archive.add(real, arcname)
            chunks.put(None)
        except OSError as error:
            chunks.put(CliError(f"{error.filename}: {error.strerror}"))

    Thread(target=work, daemon=True).start()
    while (item := chunks.get()) is not None:
        if isinstance(item, CliError):
            raise item
        yield item


class _Reader:
    """A stream of chunks as a file."""

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self._chunks, self._rest = iter(chunks), b""

    def read(self, size: int = -1) -> bytes:
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
