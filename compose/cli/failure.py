"""What a person needs when containers did not come up: why, their last words, and the ways on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pycompose.compose.cli.errors import CliError
from pycompose.compose.client import Client, ClientError
from pycompose.proto.v1 import access_pb2, task_pb2

TAIL_LINES = 20
MOST_TASKS = 3


class UnreadyError(CliError):
    """Containers are not where they should be.

    Attributes:
        tasks: those whose output may tell why.
        goes_on: it may still come right by itself.
    """

    def __init__(
        self, message: str, status: int | None = None, *, tasks: Sequence[task_pb2.Task] = (), goes_on: bool = False
    ) -> None:
        super().__init__(message, status)
        self.tasks, self.goes_on = tuple(tasks), goes_on


def explained(error: CliError, client: Client, prefix: str, *, tails: bool = True) -> CliError:
    """Return the error with the last lines of the containers that failed, and what can be done next.

    Args:
        error: as raised.
        client: the node.
        prefix: "pycompose -f x.yaml ", what commands about this project begin with.
        tails: whether to print last lines (an attached `up` has printed them).
    """
    lines = [str(error)]
    if isinstance(error, UnreadyError) and tails:
        for task in error.tasks[:MOST_TASKS]:
            lines += last_words(client, task)
        if len(error.tasks) > MOST_TASKS:
            lines.append(f"and {len(error.tasks) - MOST_TASKS} more; {prefix}logs shows what all of them said")
    if isinstance(error, UnreadyError) and error.goes_on:
        lines.append("it goes on in the background:")
        lines += _commands(prefix, {"ps": "shows how far it is", "logs -f": "follows it", "down": "takes it away"})
    else:
        lines.append("what is there stays:")
        lines += _commands(prefix, {"up": "tries again", "ps -a": "shows it", "down": "takes it away"})
    return CliError("\n".join(lines), error.status)


def _commands(prefix: str, told: Mapping[str, str]) -> list[str]:
    width = max(map(len, told))
    return [f"  {prefix}{command.ljust(width)}   {what}" for command, what in told.items()]


def last_words(client: Client, task: task_pb2.Task) -> list[str]:
    """Return the last lines of a container's output, under a heading."""
    request = access_pb2.ReadLogsRequest(task_ids=[task.id], tail=TAIL_LINES)
    try:
        parts = [entry.data for answer in client.access.ReadLogs(request) for entry in answer.entries]
    except ClientError:
        return []
    text = b"".join(parts).decode(errors="replace").splitlines()[-TAIL_LINES:]
    ended = f" ({ending(task.status)})" if task.status.HasField("exit_code") else ""
    if not text:
        return [f"{task.name}{ended} printed nothing"]
    shown = [" ".join(part for part in line.split("\t")) for line in text]
    return [f"last lines of {task.name}{ended}:", *(f"    {_visible(line)}" for line in shown)]


def ending(status: task_pb2.TaskStatus) -> str:
    """Return "exit status 7", and for what a signal ended its name: "exit status 137, SIGKILL"."""
    import signal

    code = status.exit_code
    if status.oom_killed:
        return f"exit status {code}, killed for want of memory"
    try:
        name = signal.Signals(code - 128).name if code > 128 else ""
    except ValueError:
        name = ""
    return f"exit status {code}" + (f", {name}" if name else "")


def _visible(line: str) -> str:
    """Return a line without what would move the cursor or change colours."""
    return "".join(one for one in line if one.isprintable())
