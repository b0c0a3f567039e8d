"""`plan`, `up --plan` and `--dry-run`: what `up` would do, by a client that can only read; no node is started."""

from __future__ import annotations

import json
import sys

import click

from pycompose.compose.cli import planprint, providers
from pycompose.compose.cli.bringup import compared, fit_to_nodes, load_desired
from pycompose.compose.cli.errors import Exit
from pycompose.compose.cli.flags import command
from pycompose.compose.cli.images_step import look
from pycompose.compose.cli.portcheck import check_ports
from pycompose.compose.cli.settings import Settings, scales, settings
from pycompose.compose.cli.upflags import orphan_default, recreation
from pycompose.compose.client import Client, NotRunningError
from pycompose.compose.client.state import fetch
from pycompose.compose.plan.current import Current
from pycompose.compose.plan.steps import Step
from pycompose.compose.plan.up import UpOptions, UpPlan

WOULD_CHANGE = 3


@command("plan", dry=False)
@click.argument("services", nargs=-1)
@click.option("--no-deps", is_flag=True, help="Leave out what the services depend on.")
@click.option("--format", "form", type=click.Choice(["text", "json"]), default="text", help="For people, or JSON.")
@recreation
def plan_(
    services: tuple[str, ...],
    no_deps: bool,
    form: str,
    force_recreate: bool,
    no_recreate: bool,
    remove_orphans: bool | None,
    scale_words: tuple[str, ...],
    pull: str | None,
    quiet_pull: bool,
    build: bool,
    no_build: bool,
    quiet_build: bool,
    yes: bool,
) -> None:
    """Print what up would do, and change nothing.

    Each container that would be created, recreated, started or removed is named, and for what is recreated the keys of
    the file that differ. Exit status 3 when up would change anything, 0 when not.

    \b
    pycompose plan
    pycompose plan --format json | jq '.changes[].name'
    """
    options = UpOptions(
        targets=frozenset(services),
        scale=scales(scale_words),
        force_recreate=force_recreate,
        no_recreate=no_recreate,
        remove_orphans=orphan_default(remove_orphans),
    )
    would(settings(), services, options, no_deps=no_deps, pull=pull, form=form, status=WOULD_CHANGE)


def would(
    chosen: Settings,
    services: tuple[str, ...],
    options: UpOptions,
    *,
    no_deps: bool = False,
    pull: str | None = None,
    form: str = "text",
    status: int = 0,
) -> None:
    """Print what `up` would do.

    Args:
        chosen: the global flags.
        services: those named on the command line.
        options: the flags of `up`.
        no_deps: leave out what the services depend on.
        pull: when to pull, in place of the services' own.
        form: "text" or "json".
        status: the exit status when there is anything to do.

    Raises:
        CliError: `up` would fail.
        Exit: there is something to do, and `status` is not 0.
    """
    project, desired = load_desired(chosen, services, no_deps=no_deps)
    images = [spec.task.container.image for spec in desired.services.values()]
    pulls = [Step("pull", "image", image, "unless it is there") for image in images]
    try:
        with Client(chosen.target(), start=False, read_only=True) as client:
            fit_to_nodes(client, project, desired)
            pulls = [Step("pull", "image", image, why) for image, why in look(client, desired, pull).items()]
            current = fetch(client, project.name)
            providers.remember(project, desired, current.project)
            plan = compared(chosen, desired, current, options)
            check_ports(client, project, plan.steps)
    except NotRunningError:
        chosen.tell("no node runs here: whether the images are there is not known, and nothing else is")
        plan = compared(chosen, desired, Current(), options)
    steps = [*dict.fromkeys(pulls), *plan.steps]
    if form == "json":
        print(json.dumps(planprint.as_data(desired.project.name, steps), indent=2))
    else:
        _print(chosen, desired.project.name, plan, steps)
    if plan.changes and status:
        raise Exit(status)


def _print(chosen: Settings, project: str, plan: UpPlan, steps: list[Step]) -> None:
    for line in planprint.lines(steps, colour=chosen.colour(sys.stdout.isatty())):
        print(line)
    if plan.changes:
        chosen.tell(f"project {project}: {planprint.summary(steps)}; {chosen.command_prefix()}up -d does it")
    else:
        chosen.tell(f"project {project}: nothing to do")
