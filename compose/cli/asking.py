"""Questions: asked on a terminal only, answered by a flag elsewhere, and left by Ctrl-C at once."""

from __future__ import annotations

import signal
import sys

import click

from pycompose.compose.cli import program
from pycompose.compose.cli.errors import CliError, Exit

NOT_DONE = 1


def can_ask() -> bool:
    """Return whether somebody is there to answer; scripts of docker-compose, which never asks so, are nobody."""
    return sys.stdin.isatty() and sys.stderr.isatty() and program.name() != program.DOCKERS


def confirm(question: str, flag: str) -> None:
    """Ask on the terminal; without one, say which flag answers.

    Raises:
        CliError: there is no terminal.
        Exit: the answer is no, or Ctrl-C.
    """
    if not sys.stdin.isatty():
        raise CliError(f"{question} There is no terminal to ask on; {flag} answers yes")
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        agreed = click.confirm(question, err=True)
    except click.Abort:
        print(file=sys.stderr)
        raise Exit(130) from None
    finally:
        signal.signal(signal.SIGINT, before)
    if not agreed:
        print("nothing was done", file=sys.stderr)
        raise Exit(NOT_DONE)
