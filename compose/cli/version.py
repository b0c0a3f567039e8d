"""`version`."""

from __future__ import annotations

import json

import click

from pycompose.compose.cli import program
from pycompose.compose.cli.flags import command


@command()
@click.option("-f", "--format", "form", type=click.Choice(["pretty", "json"]), default="pretty", help="pretty or json.")
@click.option("--short", is_flag=True, help="Only the number.")
def version(form: str, short: bool) -> None:
    """Print the version."""
    if short:
        print(program.version())
    elif form == "json":
        print(json.dumps({"version": ("v" if program.name() == program.DOCKERS else "") + program.version()}))
    else:
        print(program.banner())
