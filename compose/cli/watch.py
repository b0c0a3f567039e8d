"""`watch`, and the part of `up --watch` that is the same: from the loaded project to a session."""

from __future__ import annotations

from collections.abc import Callable

import click

from pycompose.compose.cli.errors import CliError
from pycompose.compose.cli.flags import command
from pycompose.compose.cli.interrupts import interrupts_into
from pycompose.compose.cli.settings import Settings, settings
from pycompose.compose.cli.syncing import NO_BUILD, Syncing
from pycompose.compose.client import Client
from pycompose.compose.client.streams import Streams
from pycompose.compose.develop.rules import Rule, rules_of
from pycompose.compose.loader import Project


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
        _up(services)
    with chosen.client(start=False) as client, interrupts_into(Streams()) as streams:
        session = begin(client, project, rules, lambda text: streams.put("say", text))
        chosen.tell("watching; Ctrl-C ends it, the containers go on running")
        try:
            while (item := streams.get(None)) is None or item[0] != "interrupt":
                if item is not None:
                    print(item[1], flush=True)
        finally:
            session.close()
    return None


def _up(services: tuple[str, ...]) -> None:
    """Start the services in the background, as `up -d` does."""
    from pycompose.compose.cli.up import up

    context = click.get_current_context()
    with up.make_context("up", ["-d", *services], parent=context.parent) as inner:
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
    if all(rule.action == "rebuild" for rule in rules):
        raise CliError(f"{rules[0].place}: a change of {rules[0].path} {NO_BUILD}")
    for rule in rules:
        if rule.action == "rebuild":
            chosen.warn(f"{rule.place}: a change of {rule.path} {NO_BUILD}; it will only be told")
    return rules


def begin(client: Client, project: Project, rules: list[Rule], say: Callable[[str], None]) -> Syncing:
    """Start a session."""
    session = Syncing(client, project.name, rules, say)
    session.start()
    return session


def _read(path: str) -> str | None:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read()
    except OSError:
        return None
