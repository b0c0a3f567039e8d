"""`build`: the images that a project's services say how to build."""

from __future__ import annotations

import click

from pycompose.compose.cli.buildstep import build_with, ordered, pairs
from pycompose.compose.cli.errors import CliError
from pycompose.compose.cli.flags import command
from pycompose.compose.cli.settings import settings


@command()
@click.argument("services", nargs=-1)
@click.option("--build-arg", "args", multiple=True, metavar="KEY=VALUE", help="Set a variable of the build.")
@click.option("--no-cache", is_flag=True, help="Take no step from the cache.")
@click.option("--pull", is_flag=True, help="Ask registries for newer base images.")
@click.option("--push", is_flag=True, help="Push the images when they are built.")
@click.option("-q", "--quiet", is_flag=True, help="No progress.")
@click.option("--with-dependencies", is_flag=True, help="Also what the services depend on.")
@click.option("--allow", multiple=True, metavar="WHAT", help="Allow network.host or security.insecure to RUN.")
@click.option("--check", is_flag=True, help="Only look whether the sections and Dockerfiles are there.")
@click.option("--builder", metavar="NAME", help="Not needed: the node builds.", hidden=True)
@click.option("-m", "--memory", metavar="BYTES", hidden=True)
@click.option("--print", "print_", is_flag=True, hidden=True)
@click.option("--provenance", metavar="FORM", hidden=True)
@click.option("--sbom", metavar="FORM", hidden=True)
@click.option("--ssh", metavar="KEY", hidden=True)
@click.option("--progress", hidden=True)
@click.option("--compress", is_flag=True, hidden=True)
@click.option("--force-rm", is_flag=True, hidden=True)
@click.option("--no-rm", is_flag=True, hidden=True)
@click.option("--parallel", is_flag=True, hidden=True)
def build(
    services: tuple[str, ...],
    args: tuple[str, ...],
    no_cache: bool,
    pull: bool,
    push: bool,
    quiet: bool,
    with_dependencies: bool,
    allow: tuple[str, ...],
    check: bool,
    builder: str | None,
    memory: str | None,
    print_: bool,
    provenance: str | None,
    sbom: str | None,
    ssh: str | None,
    progress: str | None,
    compress: bool,
    force_rm: bool,
    no_rm: bool,
    parallel: bool,
) -> None:
    """Build the images of services that have a build section.

    \b
    pycompose build                  all of them
    pycompose build web              one
    pycompose build --no-cache web   from the beginning
    """
    from pycompose.compose.builder.requests import Overrides, entry_of

    for flag, value in (("--print", print_), ("--provenance", provenance), ("--sbom", sbom), ("--ssh", ssh)):
        if value:
            raise CliError(f"{flag} is not there yet; leave it out")
    if memory:
        raise CliError("--memory: builds are not limited; leave it out")
    chosen = settings()
    project = chosen.load(services)
    selected = project.services if with_dependencies or not services else services
    names = [name for name in selected if project.services[name].get("build")]
    for name in (name for name in services if name not in names):
        chosen.warn(f"service {name} has no build section: nothing is built for it")
    orders = ordered(chosen, project, names, Overrides(pairs("--build-arg", args, from_caller=True), no_cache, pull))
    for order in orders:
        order.request.entitlements.extend(allow)
    if check:
        return
    if chosen.dry_run:
        chosen.would(f"build image {order.image}" for order in orders)
        return
    with chosen.client() as client, chosen.display("Building", quiet=quiet) as display:
        build_with(chosen, client, orders, display)
        if push:
            from pycompose.compose.cli.pulling import problems, push_all
            from pycompose.compose.client.credentials import Wallet

            images = [order.image for order in orders if entry_of(project, order.service).get("image")]
            done = push_all(client, images, Wallet(), display.another("Pushing"))
            errors = list(problems(done, lambda name, error: f"image {name} cannot be pushed: {error}"))
            if errors:
                raise CliError("\n".join(errors))
