"""The flags that every command has that prints logs: -f, -n, --since, --until, -t and --grep."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import click

from pycompose.compose.cli.errors import UsageError
from pycompose.compose.cli.logprint import time_of
from pycompose.proto.v1 import access_pb2

F = TypeVar("F", bound=Callable[..., Any])


@dataclass(frozen=True)
class LogWish:
    """What is wanted of logs.

    Attributes:
        request: without task ids.
        timestamps: times before lines.
        grep: only lines that it is found in; None: all.
    """

    request: access_pb2.ReadLogsRequest
    timestamps: bool = False
    grep: re.Pattern[bytes] | None = None


def log_flags(function: F) -> F:
    """Add the flags; the command gets `wish`, a LogWish."""

    def command(
        *args: Any,
        follow: bool,
        tail: str,
        since: str | None,
        until: str | None,
        timestamps: bool,
        grep: str | None,
        **kwargs: Any,
    ) -> Any:
        kwargs["wish"] = LogWish(request_of(follow, tail, since, until), timestamps, pattern(grep))
        return function(*args, **kwargs)

    command.__doc__, command.__name__ = function.__doc__, function.__name__
    # options that the function has already (click keeps them here until the command is made)
    command.__click_params__ = getattr(function, "__click_params__", [])  # type: ignore[attr-defined]
    for option in (
        click.option("--grep", metavar="PATTERN", help="Of these only lines that match a regular expression."),
        click.option("-t", "--timestamps", is_flag=True, help="Times before lines."),
        click.option("--until", metavar="TIME", help="Nothing after."),
        click.option("--since", metavar="TIME", help="Nothing before: 2024-01-02T13:23:37Z, or 42m."),
        click.option("-n", "--tail", default="all", metavar="LINES", help="Last lines of each container."),
        click.option("-f", "--follow", is_flag=True, help="Go on with new output."),
    ):
        command = option(command)
    return command  # type: ignore[return-value]


def pattern(text: str | None) -> re.Pattern[bytes] | None:
    """Return what --grep looks for.

    Raises:
        UsageError: it is no regular expression.
    """
    try:
        return re.compile(text.encode()) if text else None
    except re.error as error:
        raise UsageError(f"--grep {text}: {error}; a \\ before it takes a letter's special meaning away") from None


def request_of(follow: bool, tail: str, since: str | None, until: str | None) -> access_pb2.ReadLogsRequest:
    """Return a request without task ids.

    Raises:
        UsageError: a number or a time cannot be read.
    """
    request = access_pb2.ReadLogsRequest(follow=follow)
    if tail not in ("all", ""):
        if not tail.lstrip("-").isdigit():
            raise UsageError(f'--tail {tail}: want a number of lines, or "all"')
        if int(tail) >= 0:
            request.tail = int(tail)
    for flag, text, field in (("--since", since, "since"), ("--until", until, "until")):
        if text:
            getattr(request, field).FromNanoseconds(time_of(flag, text, time.time()))
    return request
