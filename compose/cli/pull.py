"""`pull`: the images of a project's services."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import click

from pycompose.compose.cli.errors import CliError
from pycompose.compose.cli.flags import command
from pycompose.compose.cli.images_step import find
from pycompose.compose.cli.images_step import pull as pull_image
from pycompose.compose.cli.settings import settings
from pycompose.compose.client import ApiError


@command()
@click.argument("services", nargs=-1)
@click.option("--ignore-pull-failures", is_flag=True, help="Pull what can be pulled.")
@click.option("--ignore-buildable", is_flag=True, help="Leave out images that can be built.")
@click.option("--include-deps", is_flag=True, help="Also of services that these depend on.")
@click.option("--policy", type=click.Choice(["missing", "always"]), default="always", help="When to pull.")
@click.option("-q", "--quiet", is_flag=True, help="No progress.")
@click.option("--parallel", is_flag=True, hidden=True)
@click.option("--no-parallel", is_flag=True, hidden=True)
def pull(
    services: tuple[str, ...],
    ignore_pull_failures: bool,
    ignore_buildable: bool,
    include_deps: bool,
    policy: str,
    quiet: bool,
    parallel: bool,
    no_parallel: bool,
) -> None:
    """Pull the images of services."""
    chosen = settings()
    project = chosen.load(services)
    wanted: dict[tuple[str, str], None] = {}
    for name, service in project.services.items():
        if services and not include_deps and name not in services:
            continue
        if not service.get("image") or (ignore_buildable and service.get("build")):
            continue
        wanted[service["image"], service.get("platform") or ""] = None
    errors = []
    with chosen.client() as client, chosen.display("Pulling", quiet=quiet) as display:
        if policy == "missing":
            wanted = {key: None for key in wanted if find(client, key[0]) is None}
        with ThreadPoolExecutor(chosen.at_once) as pool:
            calls = {key: pool.submit(pull_image, client, *key, display) for key in wanted}
            for (image, _), call in calls.items():
                try:
                    call.result()
                except ApiError as error:
                    display.set(f"Image {image}", "Error", error.message, "failed")
                    errors.append(f"image {image} cannot be pulled: {error.message}")
    if errors and not ignore_pull_failures:
        raise CliError("\n".join(errors))
