"""`cp`: files between a container and this machine, as tar streams.

Where a thing goes is decided as by `docker cp` (its reference, "Extended description"): what is copied takes the name
of the destination unless that is a folder, which it is put into; of `FOLDER/.` only what is inside is copied.
"""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import BinaryIO

import click

from pycompose.compose.cli.errors import CliError, UsageError
from pycompose.compose.cli.flags import command
from pycompose.compose.cli.settings import settings
from pycompose.compose.cli.tars import CHUNK, add, pack, unpack
from pycompose.compose.client import Client, NotThereError
from pycompose.compose.client.state import task_of, tasks_of
from pycompose.proto.v1 import access_pb2, task_pb2


@dataclass(frozen=True)
class Wish:
    """The flags: keep owners, follow a link at the source, and who is told of what."""

    archive: bool = False
    follow: bool = False
    tell: Callable[[str], None] = lambda _: None
    warn: Callable[[str], None] = lambda _: None


@command()
@click.option("-a", "--archive", is_flag=True, help="Keep owners.")
@click.option("-L", "--follow-link", is_flag=True, help="Follow a symbolic link at the source.")
@click.option("--index", type=int, default=0, metavar="N", help="Container number N of the service.")
@click.option("--all", "everywhere", is_flag=True, help="Also containers of run.")
@click.argument("source")
@click.argument("destination")
def cp(archive: bool, follow_link: bool, index: int, everywhere: bool, source: str, destination: str) -> None:
    """Copy files: SERVICE:PATH to PATH, or PATH to SERVICE:PATH; - is a tar stream.

    \b
    pycompose cp web:/etc/nginx/nginx.conf .     out of a container
    pycompose cp ./site/. web:/srv/www           into all containers of web
    """
    chosen = settings()
    wish = Wish(archive, follow_link, chosen.tell, chosen.warn)

    def find(service: str, into: bool) -> list[task_pb2.Task]:
        name = chosen.name()
        if into and not index:
            return tasks_of(client, name, service, oneoff=everywhere)
        return [task_of(client, name, service, index)]

    with chosen.client(start=False) as client:
        if chosen.dry_run:
            return chosen.would(_steps(source, destination, find))
        return transfer(client, source, destination, find, wish)


def _steps(source: str, destination: str, find: Callable[[str, bool], list[task_pb2.Task]]) -> list[str]:
    (out, path), (into, target) = sides(source, destination)
    if out is not None:
        return [f"copy {find(out, False)[0].name}:{path} to {destination}"]
    assert into is not None
    return [f"copy {source} to {task.name}:{target}" for task in find(into, True)]


def transfer(
    client: Client, source: str, destination: str, find: Callable[[str, bool], Sequence[task_pb2.Task]], wish: Wish
) -> None:
    """Copy between a container and this machine.

    Args:
        client: the node.
        source, destination: one of them is NAME:PATH.
        find: gives the tasks of a name; its second argument says whether something is copied into them.
        wish: the flags.

    Raises:
        UsageError: both or neither side is in a container.
        CliError: what is to be copied does not fit where it should go.
    """
    (out, path), (into, target) = sides(source, destination)
    if out is not None:
        task = find(out, False)[0]
        receive(client, task, path, destination, wish)
        if destination != "-":
            wish.tell(f"{task.name}:{path} copied to {destination}")
        return
    assert into is not None
    tasks = find(into, True)
    if source == "-" and len(tasks) > 1:
        raise UsageError("a stream is read once only: name one container with --index")
    for task in tasks:
        send(client, task.id, source, target, wish)
        wish.tell(f"{source} copied to {task.name}:{target}")


def sides(source: str, destination: str) -> tuple[tuple[str | None, str], tuple[str | None, str]]:
    """Return (name, path) of both sides; the name is None on this machine's.

    Raises:
        UsageError: both or neither is in a container.
    """
    found = _side(source), _side(destination)
    if (found[0][0] is None) == (found[1][0] is None):
        raise UsageError("cp copies between a container and this machine: want NAME:PATH PATH, or PATH NAME:PATH")
    return found


def _side(text: str) -> tuple[str | None, str]:
    name, colon, path = text.partition(":")
    if not colon or name.startswith((".", "/")) or not name:
        return None, text
    return name, path


# Out of a container.


def receive(client: Client, task: task_pb2.Task, path: str, destination: str, wish: Wish) -> None:
    """Copy a file or folder of a container to this machine."""
    request = access_pb2.CopyFromRequest(task_id=task.id, path=path, follow_link=wish.follow)
    if destination == "-":
        for answer in client.access.CopyFrom(request):
            sys.stdout.buffer.write(answer.data)
        return
    look = access_pb2.StatPathRequest(task_id=task.id, path=path, follow_link=wish.follow or path.endswith("/"))
    directory = stat.S_ISDIR(client.access.StatPath(look).mode)
    if path.endswith("/") and not directory:
        raise CliError(f"{task.name}:{path} is no folder; leave the / at its end out")
    inside, base = path.endswith("/."), os.path.basename(path.rstrip("/").removesuffix("/.").rstrip("/"))
    if os.path.isdir(destination):
        folder, name = destination, "" if inside or not base else base
    else:
        if os.path.lexists(destination) and directory:
            raise CliError(f"cannot copy a folder onto the file {destination}; remove it first")
        if destination.endswith("/") and not directory:
            raise CliError(f"{destination}: no such folder; make it first")
        folder, name = os.path.split(os.path.abspath(destination))
    if not os.path.isdir(folder):
        raise CliError(f"{folder}: no such folder; make it first")
    data = (answer.data for answer in client.access.CopyFrom(request))
    unpack(data, folder, partial(renamed, base, name), owners=wish.archive and os.geteuid() == 0, warn=wish.warn)


def renamed(base: str, name: str, entry: str) -> str:
    """Return the name of a tar's entry when the thing called `base` in it is to be called `name`.

    >>> renamed("etc", "conf", "etc/hosts"), renamed("etc", "", "etc/hosts"), renamed("etc", "", "etc")
    ('conf/hosts', 'hosts', '')
    """
    entry = entry.strip("/")
    rest = "" if entry in (base, ".") else entry.removeprefix(f"{base}/") if base else entry
    return f"{name}/{rest}".strip("/")


# Into a container.


def send(client: Client, task_id: str, source: str, path: str, wish: Wish) -> None:
    """Copy a file or folder of this machine, or a tar stream ("-"), into a container."""
    if source != "-" and not os.path.lexists(source):
        raise CliError(f"{source}: no such file or folder")
    folder, name = _destination(client, task_id, source, path, wish)
    start = access_pb2.CopyToStart(task_id=task_id, path=folder, archive=wish.archive)

    def requests() -> Iterator[access_pb2.CopyToRequest]:
        yield access_pb2.CopyToRequest(start=start)
        real = os.path.realpath(source) if wish.follow or source.endswith(("/", "/.")) else source
        for data in read_all(sys.stdin.buffer) if source == "-" else pack(lambda archive: add(archive, real, name)):
            yield access_pb2.CopyToRequest(data=data)

    client.access.CopyTo(requests())


def _destination(client: Client, task_id: str, source: str, path: str, wish: Wish) -> tuple[str, str]:
    """Return the folder of the container to unpack in, and the name that the thing gets there ("." for its content)."""
    there = is_folder(client, task_id, path)
    if source == "-":
        if not there:
            raise CliError(f"{path} is no folder of the container; a tar stream is unpacked into one")
        return path, "."
    directory = os.path.isdir(source) and (wish.follow or not os.path.islink(source) or source.endswith("/"))
    if there:
        return path, "." if source.endswith("/.") or source == "." else os.path.basename(os.path.abspath(source))
    if there is False and directory:
        raise CliError(f"cannot copy a folder onto the file {path} of the container; remove it first")
    if path.endswith("/") and not directory:
        raise CliError(f"{path}: no such folder in the container; make it first: exec SERVICE mkdir -p {path}")
    folder, name = os.path.split(path.rstrip("/"))
    return folder or "/", name


def is_folder(client: Client, task_id: str, path: str) -> bool | None:
    """Return whether a path of a container is a folder; None when nothing is there."""
    try:
        found = client.access.StatPath(access_pb2.StatPathRequest(task_id=task_id, path=path or "/", follow_link=True))
    except NotThereError:
        return None
    return stat.S_ISDIR(found.mode)


def read_all(file: BinaryIO) -> Iterator[bytes]:
    """Yield a file in chunks."""
    while data := file.read(CHUNK):
        yield data
