"""Commands of Docker Compose that are known and not there: each says so, and what to do instead."""

from __future__ import annotations

from typing import Any

import click

from pycompose.compose.cli.errors import CliError
from pycompose.compose.cli.flags import command, group


@command()
@click.argument("services", nargs=-1)
@click.option("--build-arg", multiple=True, metavar="KEY=VALUE", help="Set a variable of the build.")
@click.option("--builder", metavar="NAME", help="Builder to use.")
@click.option("--check", is_flag=True, help="Check the build's configuration.")
@click.option("-m", "--memory", metavar="BYTES", help="Memory limit of the build.")
@click.option("--no-cache", is_flag=True, help="Use no cache.")
@click.option("--print", "print_", is_flag=True, help="Print the equivalent bake file.")
@click.option("--provenance", metavar="FORM", help="Add a provenance attestation.")
@click.option("--pull", is_flag=True, help="Always pull base images.")
@click.option("--push", is_flag=True, help="Push the images.")
@click.option("-q", "--quiet", is_flag=True, help="No output.")
@click.option("--sbom", metavar="FORM", help="Add a list of what is inside.")
@click.option("--ssh", metavar="KEY", help="SSH authentications of the build.")
@click.option("--with-dependencies", is_flag=True, help="Also what the services depend on.")
@click.option("--progress", hidden=True)
@click.option("--compress", is_flag=True, hidden=True)
@click.option("--force-rm", is_flag=True, hidden=True)
@click.option("--no-rm", is_flag=True, hidden=True)
@click.option("--parallel", is_flag=True, hidden=True)
def build(**flags: Any) -> None:
    """Build images (not there yet)."""
    raise CliError(
        "building images is not there yet; build elsewhere and load the result: pycompose image load -i FILE.tar"
    )


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
