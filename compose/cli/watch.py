"""`watch`, and the part of `up --watch` that is the same: from the loaded project to a session."""

from __future__ import annotations

from functools import partial

import click

from pycompose.compose.cli.errors import CliError
from pycompose.compose.cli.flags import command
from pycompose.compose.cli.interrupts import interrupts_into
from pycompose.compose.cli.saying import say
from pycompose.compose.cli.settings import Settings, settings
from pycompose.compose.cli.syncing import Syncing
from pycompose.compose.client import Client, ClientError
from pycompose.compose.client.streams import Streams
from pycompose.compose.develop.rules import Rule, rules_of
from pycompose.compose.loader import LoadError, Project


@command()
@click.option("--no-up", is_flag=True, help="Do not start the services first.")
@click.option("--prune", is_flag=True, default=True, help="Remove images that a rebuild replaced (default true).")
@click.option("--quiet", is_flag=True, help="No output of builds.")
@click.argument("services", nargs=-1)
def watch(no_up: bool, prune: bool, quiet: bool, services: tuple[str, ...]) -> None:
    """Bring changed files into containers as they change.

    What is followed stands in the services' develop.watch. Files that differ are brought up to date at the start.

    \b
    pycompose watch          start all services, and follow their files
    pycompose up --watch     the same, with the output of the containers
    """
    chosen = settings()
    project = chosen.load(services)
    rules = rules_for(chosen, project, services)
    if chosen.dry_run:
        return chosen.would(f"follow {rule.path}: {rule.action} of service {rule.service}" for rule in rules)
    if not no_up:
        _up(*services)
    with chosen.client(start=False) as client, interrupts_into(Streams()) as streams:
        session = begin(client, project, rules, streams)
        chosen.tell("watching; Ctrl-C ends it, the containers go on running")
        try:
            while (item := streams.get(None)) is None or item[0] != "interrupt":
                if item is not None and item[0] == "rebuild":
                    rebuild(item[1], quiet=quiet)
                elif item is not None:
                    print(item[1], flush=True)
        finally:
            session.close()
    return None


def rebuild(service: str, *, quiet: bool = False) -> None:
    """Build a service's image, and make its containers anew; what fails is printed, and watching goes on."""
    try:
        _up("--build", "--no-deps", *(["--quiet-build"] if quiet else []), service)
    except (CliError, ClientError, LoadError) as error:
        say(f"{service}: {error}")


def _up(*words: str) -> None:
    """Start services in the background, as `up -d` does."""
    from pycompose.compose.cli.up import up

    context = click.get_current_context()
    with up.make_context("up", ["-d", *words], parent=context.parent) as inner:
        up.invoke(inner)


def rules_for(chosen: Settings, project: Project, services: tuple[str, ...] = ()) -> list[Rule]:
    """Return the rules of the services named, or of all.

    Raises:
        CliError: none of them has any that could be followed.
    """
    names = [name for name in project.services if not services or name in services]
    rules = [rule for name in names for rule in rules_of(name, project.services[name], _read, chosen.warn)]
    if not rules:
        what = f"services {', '.join(services)}" if services else f"project {project.name}"
        raise CliError(f"{what}: nothing to watch; say what to do with changed files in develop.watch of a service")
    for rule in rules:
        if rule.action == "rebuild" and not project.services[rule.service].get("build"):
            raise CliError(f"{rule.place}: the service has no build section; say how to build it, or take sync")
    return rules


def begin(client: Client, project: Project, rules: list[Rule], streams: Streams) -> Syncing:
    """Start a session; it puts ("say", line) and ("rebuild", service) into `streams`."""
    tell, again = partial(streams.put, "say"), partial(streams.put, "rebuild")
    session = Syncing(client, project.name, rules, tell, again)
    session.start()
    return session


def _read(path: str) -> str | None:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read()
    except OSError:
        return None
