"""Flags that `up`, `create` and `run` share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

from pycompose.compose.cli.errors import UsageError
from pycompose.compose.cli.flags import option
from pycompose.compose.cli.projectlock import LOCK_WAIT
from pycompose.compose.cli.settings import settings

F = TypeVar("F", bound=Callable[..., Any])

REMOVE_ORPHANS = click.option(
    "--remove-orphans", is_flag=True, default=None, help="Remove containers of services not in the files."
)


def orphan_default(flag: bool | None) -> bool:
    """Return whether orphans are removed: by the flag, else by the environment.

    Raises:
        UsageError: the environment says that there are none.
    """
    chosen = settings().truth("COMPOSE_REMOVE_ORPHANS") if flag is None else flag
    if chosen and settings().truth("COMPOSE_IGNORE_ORPHANS"):
        raise UsageError("--remove-orphans and COMPOSE_IGNORE_ORPHANS contradict one another; leave one out")
    return chosen


def recreation(function: F) -> F:
    """Add the flags that decide what is made anew."""
    for add in (
        click.option("--force-recreate", is_flag=True, help="Make containers anew although nothing changed."),
        click.option("--no-recreate", is_flag=True, help="Leave containers that exist as they are."),
        REMOVE_ORPHANS,
        click.option("--scale", "scale_words", multiple=True, metavar="SERVICE=N", help="Number of containers."),
        click.option(
            "--pull", "pull", type=click.Choice(["always", "missing", "never", "build"]), help="When to pull."
        ),
        click.option("--quiet-pull", is_flag=True, help="Pull without progress."),
        click.option("--build", is_flag=True, help="Build images first."),
        click.option("--no-build", is_flag=True, help="Never build an image."),
        click.option("--quiet-build", is_flag=True, help="No output of builds."),
        option("-y", "--yes", also=["--y"], is_flag=True, help="Answer every question with yes."),
        LOCK_WAIT,
    ):
        function = add(function)
    return function
