"""How a command ends: whatever goes wrong becomes one message on standard error and an exit status.

======  ===============================================================
0       done, or nothing to do
1       failed
2       wrong command line
3       `plan` would change something; `node status`: it does not run
4       a container could not be placed
125     `run`, `exec`: the container or program could not be started
126     `run`, `exec`: the program is not executable
127     `run`, `exec`: the program is not there
128+n   `run`, `exec`: signal n ended the program
130     interrupted (Ctrl-C)
141     the reader of our output left (SIGPIPE)
======  ===============================================================

An exception that nobody expected is written with its traceback to a file, which the message names.
"""

from __future__ import annotations

import errno
import os
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from difflib import get_close_matches
from typing import Any, NoReturn, TextIO

import click

from pycompose.compose.cli.errors import CliError, Exit
from pycompose.compose.cli.saying import say

FAILED, USAGE, INTERRUPTED, NO_READER = 1, 2, 130, 141
_OUTPUT = (errno.ENOSPC, errno.EBADF, errno.EIO, errno.EDQUOT, errno.EFBIG)


def open_streams() -> None:
    """Give a process that was started with closed standard streams some; what is printed to none is an error."""
    for number, mode in ((0, os.O_RDONLY), (1, os.O_RDONLY), (2, os.O_WRONLY)):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, mode)
    sys.stdin = sys.stdin or _stream(0, "r")
    sys.stdout = sys.stdout or _stream(1, "w")
    sys.stderr = sys.stderr or _stream(2, "w")


def _stream(number: int, mode: str) -> TextIO:
    return os.fdopen(number, mode, encoding="utf-8", errors="backslashreplace", closefd=False)  # type: ignore[return-value]


def ended(action: Callable[[], Any]) -> int:
    """Run a command line and return its exit status; errors are printed on stderr."""
    status = _status(action)
    return status or _status(sys.stdout.flush)


def leave(status: int) -> NoReturn:
    """End the process without taking the interpreter apart, which takes a quarter of a short command's time."""
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):
            stream.flush()
    os._exit(status)


def _status(action: Callable[[], Any]) -> int:
    try:
        action()
    except Exit as end:
        return end.status
    except click.exceptions.Exit as end:
        return end.exit_code
    except (click.exceptions.Abort, KeyboardInterrupt):
        print(file=sys.stderr)
        return INTERRUPTED
    except click.ClickException as error:
        return _say(usage(error), USAGE)
    except CliError as error:
        return _say(str(error), error.status)
    except BrokenPipeError:
        # the reader of our output left (pycompose logs | head)
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return NO_READER
    except Exception as error:
        return _other(error)
    return 0


def _say(text: str, status: int) -> int:
    say(text if text.startswith("error: ") else f"error: {text}")
    return status


def usage(error: click.ClickException) -> str:
    """Return what is wrong with a command line, in our words; with the nearest real one."""
    context = getattr(error, "ctx", None)
    path = context.command_path if context is not None else "pycompose"
    if isinstance(error, click.NoSuchOption) and error.message.startswith("No such option"):
        known = [name for param in context.command.get_params(context) for name in param.opts] if context else []
        known = [one for one in known if one != "--help"]
        return f'unknown flag "{error.option_name}" for {path}; {_near(error.option_name, known, path)}'
    if isinstance(error, click.exceptions.NoSuchCommand):
        known = context.command.list_commands(context) if context else []
        return f'unknown command "{error.command_name}" for {path}; {_near(error.command_name, known, path)}'
    text = error.format_message().rstrip(".")
    if isinstance(error, click.MissingParameter) and error.param is not None:
        text = f"{path} wants {error.param.make_metavar(context)}" if context is not None else text
    elif isinstance(error, click.BadParameter) and error.param is not None:
        text = f"{'/'.join(error.param.opts[-1:])}: {error.message.rstrip('.')}"
    complete = any(word in text for word in ("--help", "did you mean", "global flag"))
    return text if complete else f"{text}; see {path} --help"


def _near(word: str, known: list[str], path: str) -> str:
    near = get_close_matches(word, known, n=1)
    near = near or [one for one in known if len(word) > 3 and one.startswith(word)][:1]
    return f'did you mean "{near[0]}"?' if near else f"see {path} --help"


def _other(error: Exception) -> int:
    from pycompose.compose.client.errors import ClientError, DryRunError
    from pycompose.compose.loader import LoadError

    if isinstance(error, DryRunError):
        print(str(error), file=sys.stderr)
        return error.status
    if isinstance(error, LoadError):
        return _say("\nerror: ".join(error.told), FAILED)
    if isinstance(error, ClientError):
        return _say(str(error), getattr(error, "status", FAILED))
    if isinstance(error, OSError):
        known = _system(error)
        if known:
            return _say(known, FAILED)
    return _say(f"unexpected {type(error).__name__}: {error}; details in {_report(error)}", FAILED)


def _system(error: OSError) -> str:
    """Return what the system's refusal means; "" when it was not foreseen."""
    if error.filename:
        return f"{error.filename}: {error.strerror}"
    if error.errno in _OUTPUT:
        # what is still buffered would fail again at the exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return f"cannot write to standard output: {error.strerror}"
    if error.errno == errno.ENOENT and _directory_is_gone():
        return "the current directory was deleted; cd to another one"
    return ""


def _directory_is_gone() -> bool:
    try:
        os.getcwd()
    except FileNotFoundError:
        return True
    return False


def _report(error: Exception) -> str:
    """Write the traceback to a file and return its path."""
    import traceback

    stamp = time.strftime("%Y%m%d-%H%M%S")
    try:
        with tempfile.NamedTemporaryFile("w", prefix=f"pycompose-error-{stamp}-", suffix=".log", delete=False) as file:
            file.write("".join(traceback.format_exception(error)))
            return file.name
    except OSError as problem:
        return f"no file ({problem.strerror}); it was raised in {traceback.extract_tb(error.__traceback__)[-1]}"
