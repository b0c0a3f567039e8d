"""`up`, `create` and `scale`."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass, replace
from functools import partial

import click

from pycompose.compose.cli import menu
from pycompose.compose.cli.attached import Attached, AttachOptions, DetachError
from pycompose.compose.cli.bringup import Applied, bring, load_desired
from pycompose.compose.cli.buildstep import ProjectBuilds
from pycompose.compose.cli.consent import consent
from pycompose.compose.cli.display import Display
from pycompose.compose.cli.errors import CliError, Exit, UsageError
from pycompose.compose.cli.failure import explained
from pycompose.compose.cli.flags import command
from pycompose.compose.cli.follow import Goal, converge, warnings_of
from pycompose.compose.cli.interrupts import interrupts_into
from pycompose.compose.cli.planning import WOULD_CHANGE, would
from pycompose.compose.cli.portcheck import open_ports
from pycompose.compose.cli.projectlock import LOCK_WAIT, holding
from pycompose.compose.cli.settings import Settings, scales, settings
from pycompose.compose.cli.syncing import Syncing
from pycompose.compose.cli.upflags import orphan_default, recreation
from pycompose.compose.cli.watch import begin, rebuild, rules_for
from pycompose.compose.cli.watching import follow_project
from pycompose.compose.client import Client
from pycompose.compose.client.state import several_nodes
from pycompose.compose.client.streams import Streams
from pycompose.compose.convert import Desired
from pycompose.compose.loader import Project
from pycompose.compose.plan.observed import Observed
from pycompose.compose.plan.up import UpOptions


@dataclass(frozen=True)
class _Request:
    """What was asked for, beside the plan's options."""

    services: tuple[str, ...]
    options: UpOptions
    no_deps: bool = False
    pull: str | None = None
    quiet_pull: bool = False
    detach: bool = True
    wait: bool = False
    timeout: float | None = None
    stop_timeout: int | None = None
    yes: bool = False
    build: bool = False
    no_build: bool = False
    quiet_build: bool = False


@command()
@click.argument("services", nargs=-1)
@click.option("-d", "--detach", is_flag=True, help="Run in the background.")
@click.option("--wait", is_flag=True, help="Wait until containers are healthy; implies -d.")
@click.option("--wait-timeout", type=float, metavar="SECONDS", help="How long to wait at most.")
@click.option("--no-deps", is_flag=True, help="Leave out what the services depend on.")
@click.option("--no-start", is_flag=True, help="Make containers without starting them.")
@click.option("--always-recreate-deps", is_flag=True, help="Make anew what the named services depend on.")
@click.option(
    "-V", "--renew-anon-volumes", is_flag=True, help="New anonymous volumes for containers that are made anew."
)
@click.option("--abort-on-container-exit", is_flag=True, help="Stop all when one container stops.")
@click.option("--abort-on-container-failure", is_flag=True, help="Stop all when one container fails.")
@click.option("--exit-code-from", metavar="SERVICE", help="Exit with its status; implies --abort-on-container-exit.")
@click.option("--attach", "attach", multiple=True, metavar="SERVICE", help="Print only the output of these.")
@click.option("--no-attach", multiple=True, metavar="SERVICE", help="Do not print the output of these.")
@click.option("--attach-dependencies", is_flag=True, help="Also print the output of what services depend on.")
@click.option("--no-color", is_flag=True, help="No colours.")
@click.option("--no-log-prefix", is_flag=True, help="No names before lines.")
@click.option("--timestamps", is_flag=True, help="Times before lines.")
@click.option("-t", "--timeout", type=int, metavar="SECONDS", help="Grace when containers are stopped.")
@click.option("--menu", "menu_keys", is_flag=True, default=None, help="Keys while attached (COMPOSE_MENU).")
@click.option("-w", "--watch", "watch_files", is_flag=True, help="Bring changed files into containers.")
@click.option("--plan", "only_plan", is_flag=True, help="Print what would be done, as plan does; exit status 3 if any.")
@recreation
def up(
    services: tuple[str, ...],
    detach: bool,
    wait: bool,
    wait_timeout: float | None,
    no_deps: bool,
    no_start: bool,
    always_recreate_deps: bool,
    renew_anon_volumes: bool,
    abort_on_container_exit: bool,
    abort_on_container_failure: bool,
    exit_code_from: str | None,
    attach: tuple[str, ...],
    no_attach: tuple[str, ...],
    attach_dependencies: bool,
    no_color: bool,
    no_log_prefix: bool,
    timestamps: bool,
    timeout: int | None,
    menu_keys: bool | None,
    watch_files: bool,
    only_plan: bool,
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
    """Create and start containers.

    \b
    pycompose up -d                 in the background
    pycompose up --wait             until everything is healthy
    pycompose up -d --scale web=3   with three web containers
    """
    given = {
        "--abort-on-container-exit": abort_on_container_exit,
        "--abort-on-container-failure": abort_on_container_failure,
        "--exit-code-from": exit_code_from is not None,
        "--attach": bool(attach),
        "--attach-dependencies": attach_dependencies,
        "--watch": watch_files,
    }
    _contradictions(
        {"--wait": wait, "--detach": detach and not wait},
        given,
    )
    _contradictions(
        {"--no-recreate": no_recreate},
        {
            "--force-recreate": force_recreate,
            "--always-recreate-deps": always_recreate_deps,
            "--renew-anon-volumes": renew_anon_volumes,
        },
    )
    _contradictions({"--no-build": no_build}, {"--build": build, "--watch": watch_files})
    _contradictions(
        {"--abort-on-container-exit": abort_on_container_exit},
        {"--abort-on-container-failure": abort_on_container_failure},
    )
    _contradictions({"--attach": bool(attach)}, {"--attach-dependencies": attach_dependencies})
    options = UpOptions(
        targets=frozenset(services),
        scale=scales(scale_words),
        force_recreate=force_recreate,
        no_recreate=no_recreate,
        always_recreate_deps=always_recreate_deps,
        no_start=no_start,
        remove_orphans=orphan_default(remove_orphans),
        renew_volumes=renew_anon_volumes,
    )
    request = _Request(
        services,
        options,
        no_deps,
        pull,
        quiet_pull,
        wait=wait,
        timeout=wait_timeout,
        stop_timeout=timeout,
        yes=yes,
        build=build,
        no_build=no_build,
        quiet_build=quiet_build,
    )
    if only_plan:
        return would(settings(), services, options, no_deps=no_deps, pull=pull, status=WOULD_CHANGE)
    if detach or wait or no_start or settings().dry_run:
        return _background(settings(), request)
    attached = AttachOptions(
        abort_on_exit=abort_on_container_exit or (exit_code_from is not None and not abort_on_container_failure),
        abort_on_failure=abort_on_container_failure,
        exit_code_from=exit_code_from,
        only=frozenset(attach) or (frozenset() if attach_dependencies else frozenset(services)),
        without=frozenset(no_attach),
        watch_at_start=watch_files,
        colour=not no_color,
        prefix=not no_log_prefix,
        timestamps=timestamps,
        stop_timeout=timeout,
    )
    keys = settings().truth("COMPOSE_MENU") if menu_keys is None else menu_keys
    return _foreground(settings(), request, attached, keys=keys, explicit=frozenset(attach))


@command()
@click.argument("services", nargs=-1)
@recreation
def create(
    services: tuple[str, ...],
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
    """Create containers without starting them."""
    options = UpOptions(
        targets=frozenset(services),
        scale=scales(scale_words),
        force_recreate=force_recreate,
        no_recreate=no_recreate,
        no_start=True,
        remove_orphans=orphan_default(remove_orphans),
    )
    request = _Request(
        services,
        options,
        pull=pull,
        quiet_pull=quiet_pull,
        yes=yes,
        build=build,
        no_build=no_build,
        quiet_build=quiet_build,
    )
    _background(settings(), request)


@command()
@click.argument("words", nargs=-1, required=True, metavar="SERVICE=N...")
@click.option("--no-deps", is_flag=True, help="Leave out what the services depend on.")
@LOCK_WAIT
def scale(words: tuple[str, ...], no_deps: bool) -> None:
    """Change how many containers services have."""
    numbers = scales(words, "")
    names = tuple(numbers)
    options = UpOptions(targets=frozenset(names), scale=numbers, no_recreate=True)
    _background(settings(), _Request(names, options, no_deps=no_deps))


def _contradictions(one: Mapping[str, bool], others: Mapping[str, bool]) -> None:
    """Refuse flags that do not go together.

    Raises:
        UsageError: one of each was given.
    """
    for flag in (name for name, given in one.items() if given):
        wrong = [name for name, given in others.items() if given]
        if wrong:
            raise UsageError(f"{flag} and {', '.join(wrong)} contradict one another; leave one out")


def _bring(
    chosen: Settings, client: Client, project: Project, desired: Desired, request: _Request, display: Display
) -> Applied:
    images = Display("quiet") if request.quiet_pull else display
    builds = ProjectBuilds(
        chosen, project, display, every=request.build, never=request.no_build, quiet=request.quiet_build
    )
    return bring(
        chosen,
        client,
        project,
        desired,
        request.options,
        display,
        images=images,
        pull=request.pull,
        builds=builds,
        ask=not request.yes,
    )


def _background(chosen: Settings, request: _Request) -> None:
    """Apply the plan and wait until containers are started (or healthy), then leave."""
    if chosen.dry_run:
        return would(chosen, request.services, request.options, no_deps=request.no_deps, pull=request.pull)
    project, desired = load_desired(chosen, request.services, no_deps=request.no_deps)
    consent(chosen, project, yes=request.yes)
    with chosen.client() as client, chosen.display() as display, interrupts_into(Streams()) as streams:
        with holding(chosen, client, project.name, streams):
            applied = _bring(chosen, client, project, desired, request, display)
        observed = Observed()
        follow_project(client, streams, desired.project.name)
        goal = Goal(
            list(applied.services.values()),
            wait=request.wait,
            started=not request.options.no_start,
            starts=applied.starts,
            untouched=applied.untouched,
            timeout=request.timeout,
            place=lambda service, key: project.place("services", service, key),
        )
        try:
            converge(client, streams, observed, goal, display)
        except CliError as error:
            display.freeze()
            raise explained(error, client, chosen.command_prefix()) from None
        except Exit:
            display.freeze()
            chosen.tell("interrupted; the node goes on in the background: pycompose ps shows it")
            raise
    for line in warnings_of(observed, applied.services.values()):
        chosen.warn(line)
    for name in applied.opened if not request.options.no_start else ():
        service = observed.services.get(applied.services[name])
        for line in open_ports(service) if service is not None else ():
            chosen.tell(line)
    return None


def _foreground(
    chosen: Settings, request: _Request, options: AttachOptions, *, keys: bool, explicit: frozenset[str]
) -> None:
    """Apply the plan, print the output of containers, and stop them at the end.

    Args:
        chosen: the global flags.
        request: what is brought up.
        options: what is printed.
        keys: whether keys do something.
        explicit: services whose output was asked for by name, whatever the file says.
    """
    project, desired = load_desired(chosen, request.services, no_deps=request.no_deps)
    consent(chosen, project, yes=request.yes)
    if options.exit_code_from and options.exit_code_from not in desired.services:
        raise UsageError(f"--exit-code-from {options.exit_code_from}: no such service in this run")
    unknown = sorted((explicit | options.without) - set(project.services))
    if unknown:
        raise UsageError(f"--attach or --no-attach {unknown[0]}: no such service in this run")
    quiet = {name for name, entry in project.services.items() if entry.get("attach") is False} - explicit
    if options.watch_at_start:
        rules_for(chosen, project, request.services)
    options = replace(
        options,
        colour=options.colour and chosen.colour(sys.stdout.isatty()),
        without=options.without | quiet,
    )
    with chosen.client() as client, chosen.display() as display, interrupts_into(Streams(), leaving=True) as streams:

        def watching(into: Streams) -> Syncing:
            return begin(client, project, rules_for(chosen, project, request.services), into)

        detaches = several_nodes(client)
        options = replace(options, watching=watching if _watched(project) else None, detaches=detaches)
        options = replace(options, rebuild=partial(rebuild, quiet=request.quiet_build))
        attached = Attached(client, streams, desired.project.name, options, display)
        with holding(chosen, client, project.name, streams):
            applied = _bring(chosen, client, project, desired, request, display)
        follow_project(client, streams, desired.project.name)
        goal = Goal(
            list(applied.services.values()),
            starts=applied.starts,
            untouched=applied.untouched,
            place=lambda service, key: project.place("services", service, key),
        )
        try:
            if keys and menu.possible():
                display.note(menu.LINE)
            elif display.live and sys.stdin.isatty():
                display.note(_ON_A_CLUSTER if detaches else "Ctrl-C stops the containers, Ctrl-\\ leaves them running")
            with menu.Keys(streams) if keys and menu.possible() else nullcontext():
                status = attached.run(goal, applied.services)
        except DetachError:
            display.freeze()
            prefix = chosen.command_prefix()
            chosen.tell(f"\nthe containers go on running; {prefix}logs -f follows them")
            return
        except CliError as error:
            display.freeze()
            raise explained(error, client, chosen.command_prefix(), tails=False) from None
    if status:
        raise Exit(status)


_ON_A_CLUSTER = "Ctrl-C leaves the containers running on the cluster; pycompose down takes them away"


def _watched(project: Project) -> bool:
    return any((service.get("develop") or {}).get("watch") for service in project.services.values())
