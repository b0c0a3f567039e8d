"""`pycompose version`."""

from __future__ import annotations

import json

import click

from pycompose import __version__
from pycompose.compose.cli.flags import command


@command()
@click.option("-f", "--format", "form", type=click.Choice(["pretty", "json"]), default="pretty")
@click.option("--short", is_flag=True, help="Only the number.")
def version(form: str, short: bool) -> None:
    """Print the version."""
    if short:
        print(__version__)
    elif form == "json":
        print(json.dumps({"version": __version__}))
    else:
        print(f"pycompose version {__version__}")
