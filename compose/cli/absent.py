"""Commands of Docker Compose that are known and not there: each says so, and what to do instead."""

from __future__ import annotations

from typing import Any

import click

from pycompose.compose.cli.errors import CliError
from pycompose.compose.cli.flags import group

_NO_BRIDGE = (
    "bridge runs Docker's transformation images on the file to make manifests of Kubernetes; there is nothing to "
    "convert here: the file itself runs, on one machine as on a cluster. pycompose config prints it complete, for "
    "another converter (kompose) to read"
)


@group()
def bridge() -> None:
    """Convert Compose files into other models (not there)."""


@bridge.command("convert")
@click.option("-o", "--output", default="out", metavar="FOLDER", help="Folder to write to.")
@click.option("--templates", metavar="FOLDER", help="Folder of templates.")
@click.option("-t", "--transformation", multiple=True, metavar="IMAGE", help="Transformation image.")
def convert(**flags: Any) -> None:
    """Convert the Compose file into Kubernetes manifests (not there)."""
    raise CliError(_NO_BRIDGE)


@group()
def transformations() -> None:
    """Manage transformation images (not there)."""


@transformations.command("create")
@click.option("-f", "--from", "base", default="docker/compose-bridge-kubernetes", metavar="IMAGE", help="Base image.")
@click.argument("path")
def transformations_create(**flags: Any) -> None:
    """Make a transformation image (not there)."""
    raise CliError(_NO_BRIDGE)


@transformations.command("list")
@click.option("--format", "form", default="table", metavar="FORM", help="table or json.")
@click.option("-q", "--quiet", is_flag=True, help="Only names.")
def transformations_list(**flags: Any) -> None:
    """List transformation images (not there)."""
    raise CliError(_NO_BRIDGE)


transformations.aliases["ls"] = "list"
bridge.add_command(transformations)
