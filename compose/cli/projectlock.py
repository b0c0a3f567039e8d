"""One command at a time changes a project: the later one waits, and says for whom.

The node keeps the order (`HoldProject`). What is held is the time in which a command compares the files with what is
there and writes; the wait for containers to come up is not, so that `down` can always end an `up` that waits.
"""

from __future__ import annotations

import os
import shlex
import socket
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import click

from pycompose.compose.cli.errors import CliError, Exit, UsageError
from pycompose.compose.cli.settings import Settings
from pycompose.compose.cli.words import since
from pycompose.compose.client import Client
from pycompose.compose.client.streams import Ended, Streams
from pycompose.proto.v1 import control_pb2

LOOK_SECONDS = 0.1
LONGEST = 80


def _keep(ctx: click.Context, param: click.Parameter, value: float | None) -> None:
    if value is not None and value < 0:
        raise UsageError(f"--lock-wait {value:g}: want seconds, 0 to refuse at once")
    ctx.ensure_object(Settings).lock_wait = value


LOCK_WAIT = click.option(
    "--lock-wait",
    type=float,
    metavar="SECONDS",
    expose_value=False,
    callback=_keep,
    help="Wait so long for another command that changes the project; 0: not at all. Default: until it is done.",
)


@contextmanager
def holding(chosen: Settings, client: Client, project: str, streams: Streams) -> Iterator[bool]:
    """Hold a project during the block; gives whether it had to wait, and what was read before may be old.

    Args:
        chosen: the global flags.
        client: the node.
        project: its name; it need not exist.
        streams: where interrupts arrive.

    Raises:
        CliError: somebody else holds it, and --lock-wait is over.
        Exit: interrupted.
    """
    mine = Streams()
    holder = control_pb2.ProjectHolder(command=typed(sys.argv), pid=os.getpid(), host=socket.gethostname())
    mine.add("hold", client.control.HoldProject(control_pb2.HoldProjectRequest(project=project, holder=holder)))
    try:
        yield _wait(chosen, project, mine, streams)
    finally:
        mine.close()


def _wait(chosen: Settings, project: str, mine: Streams, streams: Streams) -> bool:
    limit = chosen.lock_wait
    deadline = None if limit is None else time.monotonic() + limit
    who = ""
    while True:
        item = mine.get(LOOK_SECONDS)
        if item is not None:
            answer: Any = item[1]
            if isinstance(answer, Ended):
                raise answer.error or CliError(f"the node gave up on the order of changes to project {project}")
            if answer.held:
                return bool(who)
            who = _told(project, answer.holder)
            if limit != 0:
                chosen.tell(f"{who}; waiting until it is done (Ctrl-C gives up)")
        if who and deadline is not None and time.monotonic() >= deadline:
            waited = f"waited {limit:g} s for it; a longer --lock-wait waits longer" if limit else "not waiting for it"
            raise CliError(f"{who}; {waited}")
        interrupt = streams.get(0)
        if interrupt is not None and interrupt[0] in ("interrupt", "quit"):
            raise Exit(130)


def _told(project: str, holder: control_pb2.ProjectHolder) -> str:
    here = holder.host == socket.gethostname()
    process = f"process {holder.pid}" + ("" if here else f" on {holder.host}")
    age = since(holder.since, time.time())
    return f"project {project} is being changed by `{holder.command}` ({process}, for {age})"


def typed(words: Sequence[str]) -> str:
    """Return a command line as people type it, not too long."""
    text = shlex.join([os.path.basename(words[0]), *words[1:]])
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 1]}…"
