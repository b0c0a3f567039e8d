"""`pull` and `push`: the images of a project's services."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import click

from pycompose.compose.cli.errors import CliError
from pycompose.compose.cli.flags import command
from pycompose.compose.cli.images_step import find
from pycompose.compose.cli.pulling import Wanted, problems, pull_all, push_all
from pycompose.compose.cli.settings import Settings, settings
from pycompose.compose.client.credentials import Wallet
from pycompose.compose.plan.images import fits


@command()
@click.argument("services", nargs=-1)
@click.option("--ignore-pull-failures", is_flag=True, help="Pull what can be pulled.")
@click.option("--ignore-buildable", is_flag=True, help="Leave out images that can be built.")
@click.option("--include-deps", is_flag=True, help="Also of services that these depend on.")
@click.option("--policy", type=click.Choice(["missing", "always"]), help="In place of the services' own pull_policy.")
@click.option("-q", "--quiet", is_flag=True, help="No progress.")
@click.option("--parallel", is_flag=True, hidden=True)
@click.option("--no-parallel", is_flag=True, hidden=True)
def pull(
    services: tuple[str, ...],
    ignore_pull_failures: bool,
    ignore_buildable: bool,
    include_deps: bool,
    policy: str | None,
    quiet: bool,
    parallel: bool,
    no_parallel: bool,
) -> None:
    """Pull the images of services.

    \b
    pycompose pull                     all of them
    pycompose pull --policy missing    those that the node does not have
    """
    from pycompose.compose.loader.init_services import with_init_services

    chosen = settings()
    project = with_init_services(chosen.load(services))
    wanted: dict[Wanted, str] = {}
    skipped: dict[str, str] = {}
    built: set[Wanted] = set()
    for name, service in _chosen(project.services, services, everything=include_deps):
        buildable = bool(service.get("build"))
        asked = policy or service.get("pull_policy") or "always"
        if not service.get("image"):
            skipped[name] = "it has no image to be pulled"
        elif buildable and (ignore_buildable or asked == "build"):
            skipped[name] = "it is built"
        elif asked == "never":
            skipped[name] = "its pull_policy is never"
        else:
            one = Wanted(service["image"], service.get("platform") or "")
            wanted[one] = asked
            if buildable:
                built.add(one)
    with chosen.client() as client, chosen.display("Pulling", quiet=quiet) as display:
        for name, why in skipped.items():
            display.set(f"Service {name}", "Skipped", why, "done")
        for one in [one for one, asked in wanted.items() if asked in ("missing", "if_not_present")]:
            local = find(client, one.reference)
            if local is not None and fits(local.platform, one.platform):
                display.set(one.label, "Skipped", "it is there", "done")
                del wanted[one]
        if chosen.dry_run:
            return chosen.would(f"pull image {one.reference}" for one in wanted)
        done = pull_all(client, wanted, Wallet(), display, chosen.at_once)
    for one in [one for one in done if one in built and done[one].error is not None]:
        chosen.warn(f"image {one.reference} must be built; it cannot be pulled: {done.pop(one).error}")
    errors = list(problems(done, lambda one, error: f"image {one.reference} cannot be pulled: {error}"))
    _end(errors, chosen, ignored=ignore_pull_failures)
    return None


@command()
@click.argument("services", nargs=-1)
@click.option("--ignore-push-failures", is_flag=True, help="Push what can be pushed.")
@click.option("--include-deps", is_flag=True, help="Also what the services depend on.")
@click.option("-q", "--quiet", is_flag=True, help="No progress.")
def push(services: tuple[str, ...], ignore_push_failures: bool, include_deps: bool, quiet: bool) -> None:
    """Push the images of services that are built to their registries.

    \b
    pycompose push             all that the file says how to build
    pycompose push web         the image of one service
    """
    chosen = settings()
    project = chosen.load(services)
    names: list[str] = []
    with chosen.client(start=False) as client, chosen.display("Pushing", quiet=quiet) as display:
        for name, service in _chosen(project.services, services, everything=include_deps):
            if not service.get("build"):
                display.set(f"Service {name}", "Skipped", "the file does not say how to build it", "done")
            elif not service.get("image"):
                display.set(f"Service {name}", "Skipped", "it has no image, and so no registry", "done")
            else:
                names.append(service["image"])
        if chosen.dry_run:
            return chosen.would(f"push image {name}" for name in dict.fromkeys(names))
        done = push_all(client, names, Wallet(), display)
    errors = list(problems(done, lambda name, error: f"image {name} cannot be pushed: {error}"))
    _end(errors, chosen, ignored=ignore_push_failures)
    return None


def _end(errors: list[str], chosen: Settings, *, ignored: bool) -> None:
    """Fail, or warn where failures are ignored. Raises CliError."""
    if errors and not ignored:
        raise CliError("\n".join(errors))
    for error in errors:
        chosen.warn(error)


def _chosen(
    services: Mapping[str, Mapping[str, Any]], named: tuple[str, ...], *, everything: bool
) -> Iterable[tuple[str, Mapping[str, Any]]]:
    """Return services by name: those named, or all that were loaded."""
    return [(name, service) for name, service in services.items() if everything or not named or name in named]
