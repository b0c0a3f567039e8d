"""`exec`: a command in a running container."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence

import click

from pycompose.compose.cli.errors import Exit
from pycompose.compose.cli.flags import PASS_ON, command, option
from pycompose.compose.cli.settings import settings
from pycompose.compose.client import Client
from pycompose.compose.client.session import Session, terminal_size
from pycompose.compose.client.state import task_of
from pycompose.proto.v1 import access_pb2


@command("exec", context_settings=PASS_ON)
@click.option("-d", "--detach", is_flag=True, help="Run in the background.")
@click.option("-e", "--env", multiple=True, metavar="KEY=VALUE", help="Set a variable.")
@click.option("-u", "--user", default="", help="User to run as.")
@click.option("-w", "--workdir", default="", help="Directory to start in.")
@option("-T", "--no-tty", also=["--no-TTY"], is_flag=True, help="Allocate no terminal.")
@click.option("--index", type=int, default=0, metavar="N", help="Container number N of the service.")
@click.option("--privileged", is_flag=True, help="Give it all capabilities.")
@click.option("-i", "--interactive", is_flag=True, default=True, hidden=True)
@click.option("-t", "--tty", is_flag=True, hidden=True)
@click.argument("service")
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
def exec_(
    detach: bool,
    env: tuple[str, ...],
    user: str,
    workdir: str,
    no_tty: bool,
    index: int,
    privileged: bool,
    interactive: bool,
    tty: bool,
    service: str,
    command: tuple[str, ...],
) -> None:
    """Run a command in a running container.

    \b
    pycompose exec web sh           a shell
    pycompose exec -T db pg_dump    output into a pipe
    """
    chosen = settings()
    with chosen.client(start=False) as client:
        task = task_of(client, chosen.name(), service, index)
        if chosen.dry_run:
            return chosen.would([f"run {shlex.join(command)} in container {task.name}"])
        has_tty = not no_tty and not detach and sys.stdin.isatty() and sys.stdout.isatty()
        start = access_pb2.ExecStart(
            task_id=task.id,
            args=command,
            env=variables(env),
            user=user,
            working_dir=workdir,
            tty=has_tty,
            stdin=interactive and not detach,
            privileged=privileged,
            detach=detach,
        )
        run_exec(client, start)
    return None


def run_exec(client: Client, start: access_pb2.ExecStart, *, keys: bytes = b"") -> None:
    """Run an exec with this process's stdio; end with the program's exit status.

    Args:
        client: the node.
        start: what is run.
        keys: what a user of a terminal types to leave.

    Raises:
        Exit: the status is not 0.
    """
    size = terminal_size() if start.tty else None
    if size is not None:
        start.size.CopyFrom(size)
    session = Session(
        client.access.Exec, access_pb2.ExecRequest, start, stdin=start.stdin, tty=start.tty, detach_keys=keys
    )
    outcome = session.run()
    if outcome.error:
        print(f"error: {outcome.error}", file=sys.stderr)
    if outcome.status:
        raise Exit(outcome.status)


def variables(words: Sequence[str]) -> list[str]:
    """Return "KEY=value" words; a bare KEY takes the caller's value."""
    import os

    found = []
    for word in words:
        if "=" in word:
            found.append(word)
        elif word in os.environ:
            found.append(f"{word}={os.environ[word]}")
    return found
