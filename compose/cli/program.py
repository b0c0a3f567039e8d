"""What the program is called: `pycompose`, or `docker-compose` where people call it through a link of that name.

Under that name it is what scripts expect of Docker Compose as a program of its own: its name stands in usage lines and
advice, `version` tells the version whose commands and flags these are, and the flags of Docker's client are accepted.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable
from typing import Any, TypeVar

import click

from pycompose import __version__
from pycompose.compose.cli.errors import UsageError

F = TypeVar("F", bound=Callable[..., Any])

OURS, DOCKERS = "pycompose", "docker-compose"
FOLLOWED = "2.40.3"
"""The version of Docker Compose whose commands and flags these are."""
_COMMANDS = (
    "attach|build|commit|config|cp|create|down|events|exec|export|images|kill|logs|ls|pause|port|ps|publish|pull|push|"
    "restart|rm|run|scale|start|stats|stop|top|unpause|up|version|volumes|wait|watch"
)
_ADVICE = re.compile(rf"\bpycompose((?: -[fpcH] \S+)*) (?=(?:{_COMMANDS})\b)")


def name() -> str:
    """Return the name that the program was called by."""
    called = os.path.basename(sys.argv[0]) if sys.argv else ""
    return DOCKERS if called == DOCKERS else OURS


def renamed(text: str) -> str:
    """Return a message whose advice ("pycompose up starts it") names the program as it was called."""
    return _ADVICE.sub(rf"{DOCKERS}\1 ", text) if name() == DOCKERS else text


def version() -> str:
    """Return the version that `version --short` prints."""
    return FOLLOWED if name() == DOCKERS else __version__


def banner() -> str:
    """Return the line that `version` prints."""
    if name() == DOCKERS:
        return f"Docker Compose version v{FOLLOWED} (as spoken by pycompose {__version__})"
    return f"pycompose version {__version__}"


def _tls(ctx: click.Context, param: click.Parameter, value: Any) -> None:
    if value:
        raise UsageError(f"{param.opts[0]}: a context has the certificates; see pycompose context create --help")


def standalone(function: F) -> F:
    """Add the flags of Docker's client that docker-compose has as a program of its own, hidden."""
    hidden: dict[str, Any] = {"hidden": True, "expose_value": False}
    levels = click.Choice(["debug", "info", "warn", "error", "fatal"])
    for option in (
        click.option("-l", "--log-level", type=levels, **hidden),
        click.option("--tls", is_flag=True, callback=_tls, **hidden),
        click.option("--tlsverify", is_flag=True, callback=_tls, **hidden),
        *(click.option(f"--{word}", callback=_tls, **hidden) for word in ("tlscacert", "tlscert", "tlskey")),
    ):
        function = option(function)
    return function
