"""`cluster backup` and `cluster restore`: everything that managers know, in a file."""

from __future__ import annotations

import os
import secrets
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

import click

from pycompose.compose.cli.errors import CliError, UsageError
from pycompose.compose.cli.flags import command
from pycompose.compose.cli.settings import settings
from pycompose.compose.client import ApiError, Client, ClientError
from pycompose.proto.backup import HEAD, BackupError, Frames, Head, Passphrase
from pycompose.proto.v1 import cluster_pb2, cluster_pb2_grpc, control_pb2

CHUNK, BEGINS_SECONDS = 512 << 10, 30.0
_PORT = click.IntRange(1, 65535)
_file = click.option("--passphrase-file", metavar="FILE", help="File whose first line is the passphrase.")


@command()
@_file
@click.option("--without-keys", is_flag=True, help="For this node, or one with the same data key, alone.")
@click.argument("target", metavar="FILE|-")
def backup(passphrase_file: str | None, without_keys: bool, target: str) -> None:
    """Write everything that managers know into a file: projects, services, secrets, the cluster's authority.

    It is what is at one moment; nothing waits meanwhile. The file is encrypted: by a passphrase, which alone brings it
    back on any machine, or, --without-keys, by the key in this node's state directory. Data of volumes, images and logs
    are not in it.

    \b
    pycompose cluster backup --passphrase-file /root/passphrase /backup/cluster
    pycompose cluster backup - | ssh elsewhere 'cat > cluster.backup'
    """
    chosen = settings()
    if passphrase_file and without_keys:
        raise UsageError("--passphrase-file and --without-keys contradict one another")
    if chosen.dry_run:
        return chosen.would([f"write a backup to {target}"])
    if target == "-" and sys.stdout.isatty():
        raise UsageError("a backup is nothing for a terminal; name a file, or redirect the output")
    request = cluster_pb2.BackupRequest()
    if not without_keys:
        how = Passphrase(secrets.token_hex(16))
        request.key, request.key_note = how.key(_passphrase(passphrase_file, twice=True)), how.note()
    with chosen.client(start=False) as client:
        answers = iter(client.service(cluster_pb2_grpc.ClusterServiceStub).Backup(request))
        # the first answer tells whether there will be a backup
        first = next(answers).data
        size = 0
        with _written(target) as file:
            size += file.write(first)
            for answer in answers:
                size += file.write(answer.data)
    if target != "-":
        chosen.tell(f"{target}: {size} bytes" + ("" if without_keys else "; without the passphrase nobody can read it"))
    return None


@contextmanager
def _written(target: str) -> Iterator[BinaryIO]:
    """A file that is there, durable and for its owner alone, once it is whole; what was there stays until then."""
    if target == "-" or (os.path.exists(target) and not os.path.isfile(target)):
        with os.fdopen(os.dup(1), "wb") if target == "-" else open(target, "wb") as file:
            yield file
        return
    place = Path(target)
    unfinished = place.with_name(f".{place.name}.{secrets.token_hex(4)}")
    descriptor = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        unfinished.rename(place)
    except BaseException:
        unfinished.unlink(missing_ok=True)
        raise


@command()
@_file
@click.option("--force", is_flag=True, help="Also when this node has projects, or is of a cluster, which go.")
@click.option("--advertise-addr", "advertise", default="", metavar="ADDRESS", help="How others reach this machine.")
@click.option("--listen-addr", "listen", default="", metavar="ADDRESS", help="Where to listen (default: everywhere).")
@click.option("--port", type=_PORT, help="TCP port of the API (default: 7420).")
@click.option("--join-port", type=_PORT, help="TCP port at which machines join (default: 7421).")
@click.option("--worker-port", type=_PORT, help="TCP port of this node's worker (default: 7422).")
@click.argument("source", metavar="FILE|-")
def restore(
    passphrase_file: str | None,
    force: bool,
    advertise: str,
    listen: str,
    port: int | None,
    join_port: int | None,
    worker_port: int | None,
    source: str,
) -> None:
    """Bring back on this machine what a backup has; its projects start.

    Everything is read and checked before anything changes. Where the backup knows one node only, this machine takes its
    place. Other nodes are down until they connect; what they ran starts elsewhere, if it can.

    \b
    pycompose cluster restore --passphrase-file /root/passphrase /backup/cluster
    """
    chosen = settings()
    if chosen.dry_run:
        return chosen.would([f"restore {source} on this machine"])
    start = cluster_pb2.RestoreStart(
        force=force,
        advertise_address=advertise,
        listen_address=listen,
        port=port or 0,
        join_port=join_port or 0,
        worker_port=worker_port or 0,
    )
    with _opened(source) as file:
        first, head = _head(source, file)
        if head.with_keys:
            start.key = Passphrase.of(head.note).key(_passphrase(passphrase_file))
        elif passphrase_file:
            raise UsageError(f"{source} was made without keys; it has no passphrase")

        def requests() -> Iterator[cluster_pb2.RestoreRequest]:
            yield cluster_pb2.RestoreRequest(start=start)
            yield cluster_pb2.RestoreRequest(data=first)
            while data := file.read(CHUNK):
                yield cluster_pb2.RestoreRequest(data=data)

        try:
            with chosen.client() as client:
                answer = client.service(cluster_pb2_grpc.ClusterServiceStub).Restore(requests())
                _wait(client, answer.epoch)
        except ApiError as error:
            if error.code == "INVALID_ARGUMENT":
                raise CliError(f"{source}: {error}") from None
            raise
    chosen.tell("\n".join(_told(answer)))
    return None


def _wait(client: Client, epoch: str) -> None:
    """Wait until the manager has begun anew; what comes of it otherwise the next command says."""
    deadline = time.monotonic() + BEGINS_SECONDS
    while time.monotonic() < deadline:
        with suppress(ClientError):
            if client.control.GetManager(control_pb2.GetManagerRequest()).store_version.epoch == epoch:
                return
        time.sleep(0.05)


def _told(answer: cluster_pb2.RestoreResponse) -> Iterator[str]:
    made = answer.made_at.ToDatetime().strftime("%Y-%m-%d %H:%M:%S UTC")
    what = f"cluster {answer.cluster_name}" if answer.cluster_name else "the node"
    yield f"{what} is as it was at {made}: " + (", ".join(answer.projects) or "no projects")
    if answer.replaced:
        yield f"this machine takes the place of {answer.replaced}; volumes whose data was there begin empty"
    if answer.other_nodes:
        yield f"{answer.other_nodes} other nodes are down until they connect: pycompose node ls"


def _head(source: str, file: BinaryIO) -> tuple[bytes, Head]:
    """Read a backup as far as its head; returns the bytes, and what they say. Raises CliError."""
    frames, first = Frames(), b""
    try:
        while data := file.read(CHUNK):
            first += data
            for kind, body in frames.feed(data):
                if kind == HEAD:
                    return first, Head.decoded(body)
        frames.finish()
    except BackupError as error:
        raise CliError(f"{source}: the backup {error}; nothing was changed") from None
    raise CliError(f"{source}: the backup has no head; nothing was changed")


def _opened(source: str) -> BinaryIO:
    if source == "-":
        if sys.stdin.isatty():
            raise UsageError("want a backup on standard input; name a file, or redirect the input")
        return os.fdopen(os.dup(0), "rb")
    return open(source, "rb")


def _passphrase(path: str | None, *, twice: bool = False) -> str:
    """Return the passphrase: a file's first line, or what a person enters. Raises UsageError."""
    if path is not None:
        with open(path, encoding="utf-8") as file:
            found = file.readline().rstrip("\r\n")
    elif not sys.stdin.isatty():
        more = ", or --without-keys for a backup that only this node can read" if twice else ""
        raise UsageError(f"there is no terminal to ask for the passphrase; give --passphrase-file FILE{more}")
    else:
        import getpass

        found = getpass.getpass("Passphrase: ")
        if twice and getpass.getpass("Again: ") != found:
            raise CliError("these are two different passphrases")
    if not found:
        raise UsageError(f"the passphrase is empty{f' ({path})' if path else ''}")
    return found
