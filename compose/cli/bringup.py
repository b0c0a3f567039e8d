"""The part that `up`, `create`, `scale` and `run` share: files to plan, plan to the manager."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field

from pycompose.compose.cli import asking, providers
from pycompose.compose.cli.display import Display
from pycompose.compose.cli.errors import CliError
from pycompose.compose.cli.images_step import Builds, ensure
from pycompose.compose.cli.portcheck import check_ports
from pycompose.compose.cli.settings import Settings
from pycompose.compose.client import ApiError, Client
from pycompose.compose.client.apply import apply
from pycompose.compose.client.state import fetch, several_nodes
from pycompose.compose.client.streams import Streams
from pycompose.compose.convert import Desired, convert
from pycompose.compose.convert.binds import for_several_nodes
from pycompose.compose.convert.places import attribute
from pycompose.compose.labels import owner
from pycompose.compose.loader import Project
from pycompose.compose.loader.init_services import with_init_services
from pycompose.compose.plan.current import Current
from pycompose.compose.plan.steps import PlanError, Step
from pycompose.compose.plan.up import UpOptions, UpPlan, plan_up
from pycompose.proto.v1.container_pb2 import MOUNT_TYPE_BIND

_DONE = {"create": "Created", "update": "Updated", "recreate": "Updated", "remove": "Removed"}
_DOING = {"create": "Creating", "update": "Updating", "recreate": "Updating", "remove": "Removing"}


_CHANGED = ("ABORTED", "ALREADY_EXISTS", "NOT_FOUND")
ATTEMPTS = 5


class ChangedError(CliError):
    """The project was changed by somebody else at the same moment, or `step` cannot be for good."""

    def __init__(self, message: str, step: Step) -> None:
        super().__init__(message)
        self.step = step


@dataclass
class Applied:
    """What applying a plan gave.

    Attributes:
        services: ids by name.
        starts: tasks to start by service id.
        untouched: ids of tasks that ran before and run on.
        opened: names of services whose containers are new or anew.
        done: steps that changed something.
    """

    services: dict[str, str] = field(default_factory=dict)
    starts: dict[str, tuple[str, ...]] = field(default_factory=dict)
    untouched: set[str] = field(default_factory=set)
    opened: list[str] = field(default_factory=list)
    done: list[Step] = field(default_factory=list)


def load_desired(settings: Settings, services: Sequence[str], *, no_deps: bool = False) -> tuple[Project, Desired]:
    """Load and convert the project: only `services` and (unless `no_deps`) what they depend on.

    Raises:
        LoadError: the files are wrong, or ask for what cannot be done.
    """
    project = with_init_services(settings.load(services))
    desired = convert(project)
    for spec in desired.services.values() if settings.compatibility else ():
        spec.task.name_separator = "_"
    for warning in desired.warnings:
        settings.warn(warning)
    if no_deps and services:
        left_out = [
            name for name, spec in desired.services.items() if owner(name, spec.task.container.labels) not in services
        ]
        for name in left_out:
            del desired.services[name]
        desired.kept |= frozenset(left_out)
        for spec in desired.services.values():
            kept = [one for one in spec.dependencies if one.service in desired.services]
            del spec.dependencies[:]
            spec.dependencies.extend(kept)
    if not desired.services and not desired.providers:
        raise CliError(f"no service of project {project.name} is selected; name one, or activate a --profile")
    return project, desired


def make_plan(
    settings: Settings,
    client: Client,
    desired: Desired,
    options: UpOptions,
    *,
    images: Display,
    pull: str | None,
    builds: Builds,
) -> UpPlan:
    """Pull, build and pin images, and compare with what is there.

    Raises:
        CliError: the plan cannot be made, or an image is missing.
    """
    ensure(client, desired, pull, images, builds)
    return compared(settings, desired, fetch(client, desired.project.name), options)


def compared(settings: Settings, desired: Desired, current: Current, options: UpOptions) -> UpPlan:
    """Compare what should be with what is; what the user must know is printed.

    Raises:
        CliError: the plan cannot be made.
    """
    try:
        plan = plan_up(desired, current, options, lambda: secrets.token_hex(8))
    except PlanError as error:
        raise CliError(str(error)) from None
    for notice in plan.notices:
        settings.warn(notice)
    if plan.orphans and not settings.truth("COMPOSE_IGNORE_ORPHANS"):
        settings.warn(
            f"orphans in project {desired.project.name}, which the files do not know: {', '.join(plan.orphans)}\n"
            f"  {settings.command_prefix()}up --remove-orphans   removes them\n"
            f"  pycompose -p OTHER-NAME up      leaves them to the application whose they are"
        )
    return plan


def bring(
    settings: Settings,
    client: Client,
    project: Project,
    desired: Desired,
    options: UpOptions,
    display: Display,
    *,
    images: Display,
    pull: str | None,
    builds: Builds,
    ask: bool,
    leave_out: str = "",
) -> Applied:
    """Make the project what the files say, up to requests to start.

    Another command may change the project at the same moment: then both are compared again.

    Args:
        settings: the global flags.
        client: the node.
        project, desired: of `load_desired`.
        options: the flags of `up`.
        display: shows a line per object.
        images: shows pulls.
        pull: when to pull, in place of the services' own.
        builds: makes the images that are built.
        ask: ask on a terminal before orphans go.
        leave_out: a service that is not brought up.

    Raises:
        CliError: a step was refused; says what was done before it.
    """
    fit_to_nodes(client, project, desired)
    providers.up(project, desired, display)
    refused = ""
    for attempt in range(1, ATTEMPTS + 1):
        plan = make_plan(settings, client, desired, options, images=images, pull=pull, builds=builds)
        plan.steps = [step for step in plan.steps if step.kind != "service" or step.name != leave_out]
        check_ports(client, project, plan.steps)
        try:
            return carry_out(client, plan, project, display, ask=ask)
        except ChangedError as error:
            again = f"{error.step.action} {error.step.kind} {error.step.name}"
            if attempt == ATTEMPTS or (again == refused and error.step.action == "create"):
                raise
            if not refused:
                display.note("another command changes this project at the same moment; looking again")
            refused = again
    raise AssertionError


def fit_to_nodes(client: Client, project: Project, desired: Desired) -> None:
    """Where there are several nodes, send files along and refuse binds that only one machine has.

    Raises:
        CliError: each bind that cannot be, with its place.
    """
    if any(mount.type == MOUNT_TYPE_BIND for spec in desired.services.values() for mount in spec.task.container.mounts):
        wrong = for_several_nodes(project, desired) if several_nodes(client) else []
        if wrong:
            raise CliError("\n".join(wrong))


def carry_out(client: Client, plan: UpPlan, project: Project, display: Display, *, ask: bool) -> Applied:
    """Do the steps; requests to start are left for `follow`. With `ask`, orphans are removed when a person agrees.

    Raises:
        CliError: a step was refused; says what was done before it.
    """
    applied = Applied(untouched=plan.untouched)
    _remove_orphans(client, plan, project, display, ask=ask)
    for step in plan.steps:
        if step.action == "remove":
            applied.done.append(step)
            continue
        if step.kind == "service" and step.action == "start":
            applied.starts[step.current.id] = step.task_ids
            continue
        label = f"{step.kind.capitalize()} {step.name}"
        shown = step.changes and step.kind != "service"
        if step.action in ("recreate", "update") and step.kind == "service":
            display.note(f"{step.action} {step.name}: {step.reason}")
        if shown:
            display.set(label, _DOING[step.action])
        try:
            identity = apply(client, step)
        except ApiError as error:
            if shown:
                display.set(label, "Error", error.message, "failed")
            text = _explain(project, step, error, applied.done)
            raise (ChangedError(text, step) if error.code in _CHANGED else CliError(text)) from None
        if shown:
            display.set(label, _DONE[step.action], state="done")
        display.tick()
        if step.changes:
            applied.done.append(step)
        if step.kind == "service":
            applied.services[step.name] = identity
            if step.action in ("create", "recreate"):
                applied.opened.append(step.name)
    return applied


def _remove_orphans(client: Client, plan: UpPlan, project: Project, display: Display, *, ask: bool) -> None:
    """Remove services that are not in the files, and wait until they are gone: their ports and names are free then."""
    from pycompose.compose.cli.down import remove_services

    orphans = [step.current for step in plan.steps if step.kind == "service" and step.action == "remove"]
    if orphans and ask and asking.can_ask():
        names = [name for step in plan.steps if step.action == "remove" for name in step.containers]
        asking.confirm(f"Remove {', '.join(names)}, which the files do not know?", "--yes")
    streams = Streams()
    try:
        remove_services(client, streams, project.name, orphans, display)
    finally:
        streams.close()


def _explain(project: Project, step: Step, error: ApiError, done: list[Step]) -> str:
    """Return the manager's refusal with the place in the files that it is about."""
    lines = []
    for path, text in error.violations if step.kind == "service" else ():
        key = attribute(step.name, path)
        position = project.position(key)
        place = f"{position.file}:{position.line}:{position.column}: " if position else ""
        lines.append(f"{place}{path_text(key)}: {text}")
    if not lines:
        position = project.position((f"{step.kind}s", step.name))
        place = f"{position.file}:{position.line}:{position.column}: " if position else ""
        lines.append(f"{place}{step.kind} {step.name}: {error.message}")
    if done:
        lines.append(f"done before: {', '.join(map(str, done))}; up goes on from there, down takes it away")
    return "\n".join(lines)


def path_text(path: tuple[str | int, ...]) -> str:
    """Return a path as people write it: services.web.ports[0]."""
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path).lstrip(".")
