"""`run`: a one-off container of a service.

It is a job of its own, named after the service and a random number, with the service's template and the command line's
changes. What the service depends on is brought up before; the manager holds the container back until that is ready.
"""

from __future__ import annotations

import secrets
import shlex
import sys
from dataclasses import dataclass
from typing import Any

import click

from pycompose.compose.cli import providers
from pycompose.compose.cli.bringup import bring, compared, load_desired
from pycompose.compose.cli.buildstep import ProjectBuilds
from pycompose.compose.cli.consent import consent
from pycompose.compose.cli.display import Display
from pycompose.compose.cli.down import remove_services
from pycompose.compose.cli.errors import Exit, UsageError
from pycompose.compose.cli.execute import variables
from pycompose.compose.cli.flags import PASS_ON, command, option
from pycompose.compose.cli.follow import Goal, converge
from pycompose.compose.cli.interrupts import interrupts_into
from pycompose.compose.cli.oneoff import Attachment, begun
from pycompose.compose.cli.projectlock import LOCK_WAIT, holding
from pycompose.compose.cli.settings import settings
from pycompose.compose.cli.upflags import REMOVE_ORPHANS, orphan_default
from pycompose.compose.cli.watching import follow_project
from pycompose.compose.client import Client
from pycompose.compose.client.session import terminal_size
from pycompose.compose.client.state import fetch
from pycompose.compose.client.streams import Streams
from pycompose.compose.labels import CONSOLE_SIZE, ONEOFF
from pycompose.compose.loader import Project
from pycompose.compose.plan.observed import Observed
from pycompose.compose.plan.steps import Step
from pycompose.compose.plan.up import UpOptions, UpPlan
from pycompose.proto.v1 import control_pb2, service_pb2


@dataclass(frozen=True)
class _Wishes:
    """The flags that change the template."""

    command: tuple[str, ...]
    env: tuple[str, ...]
    env_files: tuple[str, ...]
    labels: tuple[str, ...]
    volumes: tuple[str, ...]
    publish: tuple[str, ...]
    cap_add: tuple[str, ...]
    cap_drop: tuple[str, ...]
    entrypoint: str | None
    user: str | None
    workdir: str | None
    name: str | None
    service_ports: bool
    use_aliases: bool
    tty: bool
    interactive: bool


@command(context_settings=PASS_ON)
@click.option("-d", "--detach", is_flag=True, help="Run in the background and print the container's id.")
@click.option("--rm", "remove", is_flag=True, help="Remove the container when it ends.")
@click.option("--with-deps", is_flag=True, help="With --rm: also what was started for it.")
@click.option("-e", "--env", multiple=True, metavar="KEY=VALUE", help="Set a variable.")
@click.option("--env-from-file", "env_files", multiple=True, metavar="FILE", help="Set variables from a file.")
@option("-l", "--label", "labels", also=["--labels"], multiple=True, metavar="KEY=VALUE", help="Add a label.")
@option(
    "-v",
    "--volume",
    "volumes",
    also=["--volumes"],
    multiple=True,
    metavar="SPEC",
    help="Mount a volume or folder.",
)
@click.option("-p", "--publish", multiple=True, metavar="SPEC", help="Publish a port.")
@click.option("-P", "--service-ports", is_flag=True, help="Publish the service's ports.")
@click.option("--use-aliases", is_flag=True, help="Answer to the service's network aliases.")
@click.option("--cap-add", multiple=True, help="Add a capability.")
@click.option("--cap-drop", multiple=True, help="Drop a capability.")
@click.option("--entrypoint", help="In place of the image's.")
@click.option("-u", "--user", help="User to run as.")
@click.option("-w", "--workdir", help="Directory to start in.")
@click.option("--name", help="Name of the container.")
@click.option("--no-deps", is_flag=True, help="Leave out what the service depends on.")
@option("-T", "--no-TTY", "no_tty", also=["--no-tty"], is_flag=True, help="Allocate no terminal.")
@click.option("-i", "--interactive", is_flag=True, default=True, help="Keep stdin open (default true).")
@click.option("-t", "--tty", is_flag=True, hidden=True)
@click.option("--pull", type=click.Choice(["always", "missing", "never"]), help="When to pull.")
@click.option("--quiet-pull", is_flag=True, help="Pull without progress.")
@click.option("-q", "--quiet", is_flag=True, help="No progress.")
@click.option("--build", is_flag=True, help="Build the image first.")
@click.option("--quiet-build", is_flag=True, help="No output of builds.")
@REMOVE_ORPHANS
@LOCK_WAIT
@click.argument("service")
@click.argument("command", nargs=-1, type=click.UNPROCESSED)
def run(
    detach: bool,
    remove: bool,
    with_deps: bool,
    env: tuple[str, ...],
    env_files: tuple[str, ...],
    labels: tuple[str, ...],
    volumes: tuple[str, ...],
    publish: tuple[str, ...],
    service_ports: bool,
    use_aliases: bool,
    cap_add: tuple[str, ...],
    cap_drop: tuple[str, ...],
    entrypoint: str | None,
    user: str | None,
    workdir: str | None,
    name: str | None,
    no_deps: bool,
    no_tty: bool,
    interactive: bool,
    tty: bool,
    pull: str | None,
    quiet_pull: bool,
    quiet: bool,
    build: bool,
    quiet_build: bool,
    remove_orphans: bool | None,
    service: str,
    command: tuple[str, ...],
) -> None:
    """Run a one-off command of a service; exit with its status.

    \b
    pycompose run --rm web python manage.py migrate
    pycompose run --rm --entrypoint sh web
    """
    if with_deps and (detach or not remove):
        raise UsageError("--with-deps goes with --rm, and not with --detach")
    if publish and service_ports:
        raise UsageError("--publish and --service-ports contradict one another")
    wishes = _Wishes(
        command,
        env,
        env_files,
        labels,
        volumes,
        publish,
        cap_add,
        cap_drop,
        entrypoint,
        user,
        workdir,
        name,
        service_ports,
        use_aliases,
        not no_tty and not detach and sys.stdin.isatty() and sys.stdout.isatty(),
        interactive and not detach,
    )
    chosen = settings()
    project, desired = load_desired(chosen, (service,), no_deps=no_deps)
    spec = one_off(project, desired.services[service], wishes)
    options = UpOptions(no_recreate=True, remove_orphans=orphan_default(remove_orphans))
    if chosen.dry_run:
        with chosen.client() as client:
            current = fetch(client, project.name)
            providers.remember(project, desired, current.project)
            steps = _others(compared(chosen, desired, current, options), service)
        return chosen.would([*map(str, steps), f"run container {spec.task.container_name}"])
    consent(chosen, project)
    with chosen.client() as client, interrupts_into(Streams()) as streams:
        with chosen.display(quiet=quiet) as display:
            images = Display("quiet") if quiet_pull else display
            with holding(chosen, client, project.name, streams):
                applied = bring(
                    chosen,
                    client,
                    project,
                    desired,
                    options,
                    display,
                    images=images,
                    pull=pull,
                    builds=ProjectBuilds(chosen, project, display, every=build, quiet=quiet_build or quiet),
                    ask=True,
                    leave_out=service,
                )
            name = spec.name
            spec = one_off(project, desired.services[service], wishes, name)
            spec.replicated_job.remove_when_done = remove and detach
            observed = Observed()
            follow_project(client, streams, project.name)
            goal = Goal(list(applied.services.values()), starts=applied.starts)
            converge(client, streams, observed, goal, display)
        made = client.control.CreateService(control_pb2.CreateServiceRequest(spec=spec)).service
        if detach:
            return print(begun(streams, observed, made).id)
        fresh = {step.name for step in applied.done if step.action == "create"} if with_deps else set()
        after = [one for name, one in applied.services.items() if name in fresh]
        try:
            status = Attachment(client, streams, observed, made, tty=wishes.tty, stdin=wishes.interactive).run()
        finally:
            if remove:
                _clean(client, project.name, [made.id, *after])
    if status:
        raise Exit(status)
    return None


def _others(plan: UpPlan, service: str) -> list[Step]:
    """Return the steps of a plan but those about the service itself."""
    return [step for step in plan.steps if step.kind != "service" or step.name != service]


def _clean(client: Client, project: str, ids: list[str]) -> None:
    """Remove services by id, those that depend on others first."""
    request = control_pb2.ListServicesRequest(filter=control_pb2.ObjectFilter(project=project))
    services = [one for one in client.control.ListServices(request).services if one.id in ids]
    with interrupts_into(Streams()) as own:
        remove_services(client, own, project, services, Display("quiet"))


def one_off(
    project: Project, base: service_pb2.ServiceSpec, wishes: _Wishes, name: str | None = None
) -> service_pb2.ServiceSpec:
    """Return the spec of a one-off job made of a service's; its name is random unless given.

    Raises:
        UsageError: a flag cannot be read.
    """
    spec = service_pb2.ServiceSpec()
    spec.CopyFrom(base)
    spec.name = name or f"{base.name}-run-{secrets.token_hex(6)}"
    spec.task.container_name = wishes.name or f"{project.name}-{spec.name}"
    spec.ClearField("update")
    spec.ClearField("rollback")
    spec.replicated_job.completions = 1
    spec.task.restart.Clear()
    spec.task.restart.condition = service_pb2.RESTART_CONDITION_NONE
    container = spec.task.container
    container.labels[ONEOFF] = "True"
    for label in wishes.labels:
        key, _, value = label.partition("=")
        container.labels[key] = value
    for path in wishes.env_files:
        container.env.extend(_env_file(path))
    container.env.extend(variables(wishes.env))
    if wishes.entrypoint is not None:
        container.ClearField("command")
        container.entrypoint.args[:] = shlex.split(wishes.entrypoint)
        container.entrypoint.SetInParent()
    if wishes.command:
        container.command.args[:] = wishes.command
    container.user = wishes.user or container.user
    container.working_dir = wishes.workdir or container.working_dir
    container.cap_add.extend(wishes.cap_add)
    container.cap_drop.extend(wishes.cap_drop)
    container.tty = wishes.tty
    size = terminal_size() if wishes.tty else None
    if size is not None:
        # what the program finds when it begins, before anybody has joined it
        container.annotations[CONSOLE_SIZE] = f"{size.rows}x{size.columns}"
    container.open_stdin = wishes.interactive
    _ports_and_mounts(spec, project, wishes)
    return spec


def _ports_and_mounts(spec: service_pb2.ServiceSpec, project: Project, wishes: _Wishes) -> None:
    """Read -p and -v by the loader's own rules: they are a service's short forms."""
    if not wishes.service_ports:
        del spec.endpoint.ports[:]
    if not wishes.use_aliases:
        for network in spec.task.networks:
            del network.aliases[:]
            network.ipv4_address = network.ipv6_address = network.mac_address = ""
    if not wishes.publish and not wishes.volumes:
        return
    entry = {"image": "none", "ports": list(wishes.publish), "volumes": list(wishes.volumes)}
    extra = _short_forms(project, entry)
    spec.endpoint.ports.extend(extra.endpoint.ports)
    taken = {mount.target for mount in extra.task.container.mounts}
    kept = [mount for mount in spec.task.container.mounts if mount.target not in taken]
    del spec.task.container.mounts[:]
    spec.task.container.mounts.extend([*kept, *extra.task.container.mounts])


def _short_forms(project: Project, entry: dict[str, Any]) -> service_pb2.ServiceSpec:
    import json

    from pycompose.compose.convert import convert
    from pycompose.compose.loader import LoadError, MemoryFiles, load

    defined = project.model.get("volumes") or {}
    volumes = {key: {"name": one.get("name", key)} for key, one in defined.items()}
    # a volume that only the command line names is the project's too, as with docker compose run -v
    for word in entry["volumes"]:
        source = word.partition(":")[0]
        if ":" in word and source[:1] not in ("/", ".", "~"):
            volumes.setdefault(source, {"name": source})
    model = {"name": project.name, "services": {"run": entry}, "volumes": volumes}
    path = f"{project.working_dir}/command-line.yaml"
    files = MemoryFiles({path: json.dumps(model).encode()})
    try:
        loaded = load([path], project_directory=project.working_dir, files=files, interpolate=False, all_resources=True)
        return convert(loaded).services["run"]
    except LoadError as error:
        reasons = "; ".join(f"{one.message}{'; ' + one.remedy if one.remedy else ''}" for one in error.problems)
        raise UsageError(f"-p or -v: {reasons}") from None


def _env_file(path: str) -> list[str]:
    import os

    from pycompose.compose.loader import default_environment

    found = default_environment(os.getcwd(), {}, [os.path.abspath(path)])
    return [f"{key}={value}" for key, value in found.items()]
