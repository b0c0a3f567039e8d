"""Flags that `up`, `create` and `run` share."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any, TypeVar

import click

F = TypeVar("F", bound=Callable[..., Any])


def truth(variable: str) -> bool:
    """Return whether an environment variable is set to a true word."""
    return os.environ.get(variable, "").lower() in ("1", "t", "true", "yes")


def orphan_default(flag: bool) -> bool:
    """Return whether orphans are removed: by the flag, or by the environment."""
    return flag or ("COMPOSE_REMOVE_ORPHANS" in os.environ and truth("COMPOSE_REMOVE_ORPHANS"))


def recreation(function: F) -> F:
    """Add the flags that decide what is made anew."""
    for option in (
        click.option("--force-recreate", is_flag=True, help="Make containers anew although nothing changed."),
        click.option("--no-recreate", is_flag=True, help="Leave containers that exist as they are."),
        click.option("--remove-orphans", is_flag=True, help="Remove containers of services not in the files."),
        click.option("--scale", "scale_words", multiple=True, metavar="SERVICE=N", help="Number of containers."),
        click.option(
            "--pull", "pull", type=click.Choice(["always", "missing", "never", "build"]), help="When to pull."
        ),
        click.option("--quiet-pull", is_flag=True, help="Pull without progress."),
        click.option("--build", is_flag=True, help="Build images first (not there yet)."),
        click.option("--no-build", is_flag=True, help="Never build; nothing is built yet in any case."),
        click.option("-y", "--yes", is_flag=True, help="Answer every question with yes."),
    ):
        function = option(function)
    return function
