"""`attach`: a container's own input and output, in this terminal."""

from __future__ import annotations

import sys

import click

from pycompose.compose.cli.errors import Exit, UsageError
from pycompose.compose.cli.flags import command
from pycompose.compose.cli.settings import settings
from pycompose.compose.cli.stopping import kill
from pycompose.compose.client import Client
from pycompose.compose.client.session import Session, terminal_size
from pycompose.compose.client.state import task_of
from pycompose.proto.v1 import access_pb2, control_pb2, task_pb2

DETACH_KEYS = "ctrl-p,ctrl-q"
_CONTROLS = {chr(letter): letter - ord("a") + 1 for letter in range(ord("a"), ord("z") + 1)}
_CONTROLS |= {"@": 0, "[": 27, "\\": 28, "]": 29, "^": 30, "_": 31}


def detach_sequence(text: str) -> bytes:
    """Read `ctrl-p,ctrl-q`: letters, and ctrl- with a letter or one of @ [ \\ ] ^ _.

    Raises:
        UsageError: a key is neither.
    """
    keys = bytearray()
    for word in text.split(","):
        control = _CONTROLS.get(word.removeprefix("ctrl-")) if word.startswith("ctrl-") else None
        if control is not None:
            keys.append(control)
        elif len(word) == 1 and word.isascii():
            keys += word.encode()
        else:
            raise UsageError(f"--detach-keys {text}: want keys such as {DETACH_KEYS}, a letter or ctrl-LETTER each")
    return bytes(keys)


@command()
@click.option("--detach-keys", metavar="KEYS", default=DETACH_KEYS, help=f"Keys that leave (default {DETACH_KEYS}).")
@click.option("--index", type=int, default=0, metavar="N", help="Container number N of the service.")
@click.option("--no-stdin", is_flag=True, help="Do not send standard input.")
@click.option("--sig-proxy", is_flag=True, default=True, help="Pass signals on (default true).")
@click.argument("service")
def attach(detach_keys: str, index: int, no_stdin: bool, sig_proxy: bool, service: str) -> None:
    """Join a container's own input and output."""
    chosen = settings()
    keys = detach_sequence(detach_keys)
    with chosen.client(start=False) as client:
        task = task_of(client, chosen.name(), service, index)
        if chosen.dry_run:
            return chosen.would([f"attach to container {task.name}"])
        return join(client, task, keys=keys, stdin=not no_stdin, proxy=sig_proxy)


def join(client: Client, task: task_pb2.Task, *, keys: bytes, stdin: bool, proxy: bool) -> None:
    """Stay until the container ends or the user leaves; end with its exit status.

    Args:
        client: the node.
        task: whose streams.
        keys: what a user of a terminal types to leave.
        stdin: whether to send standard input, where the container takes any.
        proxy: whether signals are passed on.

    Raises:
        Exit: its status is not 0.
    """
    service = client.control.GetService(control_pb2.GetServiceRequest(service=task.service_id)).service
    container = service.spec.task.container
    stdin = stdin and container.open_stdin
    start = access_pb2.AttachStart(task_id=task.id, stdin=stdin)
    size = terminal_size() if container.tty else None
    if size is not None:
        start.size.CopyFrom(size)
    session = Session(
        client.access.Attach,
        access_pb2.AttachRequest,
        start,
        stdin=stdin,
        tty=container.tty,
        forward=lambda signal: kill(client, [task.id], signal),
        detach_keys=keys,
        proxy=proxy,
    )
    outcome = session.run()
    if outcome.left:
        print(f"\nleft; container {task.name} goes on", file=sys.stderr)
    elif outcome.status:
        raise Exit(outcome.status)
