"""Commands of Docker Compose that are known and not there yet: each says so, and what to do instead."""

from __future__ import annotations

from pycompose.compose.cli.errors import CliError
from pycompose.compose.cli.flags import command

_ANY = {"ignore_unknown_options": True, "allow_extra_args": True}


@command(context_settings=_ANY)
def build() -> None:
    """Build images (not there yet)."""
    raise CliError(
        "building images is not there yet; build elsewhere and load the result: pycompose image load -i FILE.tar"
    )


@command(context_settings=_ANY)
def push() -> None:
    """Push images (not there yet)."""
    raise CliError("pushing images is not there yet; save them (pycompose image save) and push with another tool")


@command(context_settings=_ANY)
def watch() -> None:
    """Follow file changes (not there yet)."""
    raise CliError("watch is not there yet; run pycompose up again after a change: only what changed is recreated")
