"""`start`, `stop`, `restart`, `kill`, `rm`, `pause`, `unpause` and `wait`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import click

from pycompose.compose.cli.asking import confirm
from pycompose.compose.cli.display import Display
from pycompose.compose.cli.errors import CliError, Exit
from pycompose.compose.cli.failure import UnreadyError, explained
from pycompose.compose.cli.flags import command
from pycompose.compose.cli.follow import Goal, converge
from pycompose.compose.cli.interrupts import interrupts_into
from pycompose.compose.cli.settings import settings
from pycompose.compose.cli.stopping import by_id, grace
from pycompose.compose.cli.stopping import kill as kill_tasks
from pycompose.compose.cli.stopping import stop as stop_tasks
from pycompose.compose.cli.upflags import orphan_default
from pycompose.compose.cli.watching import follow_project, see
from pycompose.compose.client import Client
from pycompose.compose.client.state import services_and_tasks
from pycompose.compose.client.streams import Streams
from pycompose.compose.plan.observed import Observed
from pycompose.compose.plan.progress import leaving, running, stop_done, stopped
from pycompose.proto.v1 import access_pb2, control_pb2, service_pb2, task_pb2

_COMPLETED = service_pb2.DEPENDENCY_CONDITION_COMPLETED_SUCCESSFULLY


@command()
@click.argument("services", nargs=-1)
@click.option("--wait", is_flag=True, help="Wait until containers are healthy.")
@click.option("--wait-timeout", type=float, metavar="SECONDS", help="How long to wait at most.")
def start(services: tuple[str, ...], wait: bool, wait_timeout: float | None) -> None:
    """Start containers."""
    chosen = settings()
    name = chosen.name()
    with (
        chosen.client() as client,
        chosen.display("Starting") as display,
        interrupts_into(Streams()) as streams,
    ):
        found, tasks = _select(client, name, services)
        starts: dict[str, tuple[str, ...]] = {}
        for service in found:
            ids = tuple(task.id for task in tasks if task.service_id == service.id and stopped(task))
            if ids:
                starts[service.id] = ids
        if not tasks:
            raise CliError(f"project {name} has no container to start; pycompose up makes them")
        if chosen.dry_run:
            idle = {one for ids in starts.values() for one in ids}
            return chosen.would(f"start container {task.name}" for task in tasks if task.id in idle)
        _refuse_without_dependencies(chosen.command_prefix(), *services_and_tasks(client, name), starts)
        observed = Observed()
        follow_project(client, streams, name)
        goal = Goal(list(starts), wait, starts=starts, timeout=wait_timeout)
        try:
            converge(client, streams, observed, goal, display)
        except UnreadyError as error:
            display.freeze()
            raise explained(error, client, chosen.command_prefix()) from None
        except Exit:
            display.freeze()
            left = [task.name for task in tasks if any(task.id in ids for ids in goal.starts.values())]
            if left:
                chosen.tell(f"interrupted: {', '.join(left)} were not started; {chosen.command_prefix()}start goes on")
            raise
    return None


def _refuse_without_dependencies(
    prefix: str,
    services: Sequence[service_pb2.Service],
    tasks: Sequence[task_pb2.Task],
    starts: Mapping[str, Sequence[str]],
) -> None:
    """Refuse to wait for what is stopped, and is not started either: that would be for ever.

    Raises:
        CliError: names both services, and the command that starts them.
    """
    by_name = {service.spec.name: service for service in services}
    for service in services:
        for dependency in service.spec.dependencies if service.id in starts else ():
            other = by_name.get(dependency.service)
            if other is None or other.id in starts or not dependency.required or dependency.condition == _COMPLETED:
                continue
            mine = [task for task in tasks if task.service_id == other.id and not leaving(task)]
            if mine and all(stopped(task) for task in mine):
                one, two = service.spec.name, other.spec.name
                raise CliError(f"service {one} depends on {two}, which is stopped; {prefix}start {two} {one}")


@command()
@click.argument("services", nargs=-1)
@click.option("-t", "--timeout", type=int, metavar="SECONDS", help="Grace before a kill.")
def stop(services: tuple[str, ...], timeout: int | None) -> None:
    """Stop containers."""
    chosen = settings()
    name = chosen.name()
    with (
        chosen.client(start=False) as client,
        chosen.display("Stopping") as display,
        interrupts_into(Streams()) as streams,
    ):
        found, tasks = _select(client, name, services)
        if chosen.dry_run:
            return chosen.would(f"stop container {task.name}" for task in tasks if not stop_done(task))
        observed = _observe(client, streams, name)
        stop_tasks(client, streams, observed, by_id(found), display, timeout)
    return None


@command()
@click.argument("services", nargs=-1)
@click.option("-t", "--timeout", type=int, metavar="SECONDS", help="Grace before a kill.")
@click.option("--no-deps", is_flag=True, help="Leave services alone that ask to be restarted with these.")
def restart(services: tuple[str, ...], timeout: int | None, no_deps: bool) -> None:
    """Restart containers."""
    chosen = settings()
    name = chosen.name()
    with (
        chosen.client(start=False) as client,
        chosen.display("Restarting") as display,
        interrupts_into(Streams()) as streams,
    ):
        found, _ = _select(client, name, services)
        if services and not no_deps:
            everything, _ = services_and_tasks(client, name)
            found = _with_followers(found, everything)
        ids = by_id(found)
        observed = _observe(client, streams, name)
        tasks = [task for one in ids for task in observed.of(one) if not leaving(task)]
        if not tasks:
            raise CliError(f"project {name} has no container to restart; pycompose up makes them")
        if chosen.dry_run:
            return chosen.would(f"restart container {task.name}" for task in tasks)
        request = control_pb2.RestartTasksRequest(task_ids=[task.id for task in tasks], grace_period=grace(timeout))
        number = client.control.RestartTasks(request).version.number
        for task in tasks:
            display.set(f"Container {task.name}", "Restarting")
        _until(streams, observed, lambda: _restarted(observed, tasks, number), display)
        for task in tasks:
            display.set(f"Container {task.name}", "Started", state="done")
    return None


def _restarted(observed: Observed, before: list[task_pb2.Task], number: int) -> bool:
    if not observed.synchronized:
        return False
    for old in before:
        new = observed.tasks.get(old.id)
        if new is None:
            continue
        if new.meta.version.number < number or new.run_request > new.status.run_request:
            return False
        if not (running(new) or new.status.HasField("exit_code")):
            return False
    return True


def _with_followers(
    found: list[service_pb2.Service], everything: list[service_pb2.Service]
) -> list[service_pb2.Service]:
    """Return services and those whose depends_on says `restart: true` of one of them."""
    names = {service.spec.name for service in found}
    while True:
        more = {
            service.spec.name
            for service in everything
            if any(one.restart and one.service in names for one in service.spec.dependencies)
        }
        if more <= names:
            return [service for service in everything if service.spec.name in names]
        names |= more


@command()
@click.argument("services", nargs=-1)
@click.option("-s", "--signal", default="SIGKILL", help="Signal to send.")
@click.option("--remove-orphans", is_flag=True, default=None, help="Also containers of services not in the files.")
def kill(services: tuple[str, ...], signal: str, remove_orphans: bool | None) -> None:
    """Send a signal to containers."""
    chosen = settings()
    project = None if orphan_default(remove_orphans) or services else chosen.known_project()
    name = project.name if project else chosen.name()
    with chosen.client(start=False) as client, chosen.display("Killing") as display:
        _, tasks = _select(client, name, services)
        known = {*project.services, *project.disabled_services} if project is not None else None
        alive = [task for task in tasks if running(task) and (known is None or task.service_name in known)]
        if chosen.dry_run:
            return chosen.would(f"send {signal} to container {task.name}" for task in alive)
        if not alive:
            chosen.tell(f"nothing of {', '.join(services) if services else f'project {name}'} runs")
        kill_tasks(client, [task.id for task in alive], signal)
        for task in alive:
            display.set(f"Container {task.name}", "Killed", state="done")
    return None


@command()
@click.argument("services", nargs=-1)
@click.option("-f", "--force", is_flag=True, help="Do not ask.")
@click.option("-s", "--stop", "stop_first", is_flag=True, help="Stop the containers first.")
@click.option("-v", "--volumes", is_flag=True, help="Also anonymous volumes (they always go with their container).")
@click.option("-a", "--all", is_flag=True, hidden=True)
def rm(services: tuple[str, ...], force: bool, stop_first: bool, volumes: bool, all: bool) -> None:
    """Remove stopped containers; their services go with them, up makes both anew."""
    from pycompose.compose.cli.down import remove_services

    chosen = settings()
    name = chosen.name()
    with (
        chosen.client(start=False) as client,
        chosen.display("Removing") as display,
        interrupts_into(Streams()) as streams,
    ):
        found, tasks = _select(client, name, services)
        if not stop_first:
            busy = {task.service_id for task in tasks if not stopped(task)}
            found = [service for service in found if service.id not in busy]
        ids = {service.id for service in found}
        names = [task.name for task in tasks if task.service_id in ids]
        if chosen.dry_run:
            return chosen.would(f"remove container {one}" for one in names)
        if not names:
            return chosen.tell("no stopped containers")
        if not force:
            confirm(f"remove {', '.join(names)}?", "--force")
        remove_services(client, streams, name, found, display)
    return None


@command()
@click.argument("services", nargs=-1)
def pause(services: tuple[str, ...]) -> None:
    """Freeze containers."""
    chosen = settings()
    with chosen.client(start=False) as client, chosen.display("Pausing") as display:
        tasks = _select(client, chosen.name(), services)[1]
        moving = [task for task in tasks if running(task) and not task.status.paused]
        if chosen.dry_run:
            return chosen.would(f"pause container {task.name}" for task in moving)
        for task in moving:
            client.access.PauseTask(access_pb2.PauseTaskRequest(task_id=task.id))
            display.set(f"Container {task.name}", "Paused", state="done")
    return None


@command()
@click.argument("services", nargs=-1)
def unpause(services: tuple[str, ...]) -> None:
    """Thaw containers."""
    chosen = settings()
    with chosen.client(start=False) as client, chosen.display("Unpausing") as display:
        frozen = [task for task in _select(client, chosen.name(), services)[1] if task.status.paused]
        if chosen.dry_run:
            return chosen.would(f"unpause container {task.name}" for task in frozen)
        for task in frozen:
            client.access.UnpauseTask(access_pb2.UnpauseTaskRequest(task_id=task.id))
            display.set(f"Container {task.name}", "Unpaused", state="done")
    return None


@command()
@click.argument("services", nargs=-1, required=True)
@click.option("--down-project", is_flag=True, help="Take the project down when the first container stops.")
def wait(services: tuple[str, ...], down_project: bool) -> None:
    """Wait until containers stop; print their exit status."""
    chosen = settings()
    name = chosen.name()
    status = 0
    with chosen.client(start=False) as client, interrupts_into(Streams()) as streams:
        _, tasks = _select(client, name, services)
        observed = _observe(client, streams, name)
        left = {task.id: task for task in tasks}
        while left:
            for identity in list(left):
                task = observed.tasks.get(identity)
                if task is None or stop_done(task):
                    ended = task or left[identity]
                    print(f'container "{ended.name}" exited with status code {ended.status.exit_code}')
                    status = ended.status.exit_code
                    del left[identity]
                    if down_project:
                        left.clear()
                        break
            if left:
                _step(streams, observed, None)
            while not observed.synchronized:
                _step(streams, observed, None)
    if down_project:
        from pycompose.compose.cli.down import down

        click.get_current_context().invoke(
            down, services=(), volumes=False, rmi=None, remove_orphans=False, timeout=None, yes=True
        )
    if status:
        raise Exit(status)


def _select(
    client: Client, project: str, names: tuple[str, ...]
) -> tuple[list[service_pb2.Service], list[task_pb2.Task]]:
    services, tasks = services_and_tasks(client, project, names)
    return services, [task for task in tasks if not leaving(task)]


def _observe(client: Client, streams: Streams, project: str) -> Observed:
    """Return the project as it is, kept up to date by `_step`."""
    observed = Observed()
    follow_project(client, streams, project)
    while not observed.synchronized:
        _step(streams, observed, None)
    return observed


def _step(streams: Streams, observed: Observed, timeout: float | None, display: Display | None = None) -> None:
    item = streams.get(timeout)
    if item is None:
        return
    if item[0] == "interrupt":
        raise Exit(130)
    see(item[1], observed, display or Display(), "what was asked for goes on")


def _until(streams: Streams, observed: Observed, done: Callable[[], bool], display: Display) -> None:
    while not done():
        display.tick()
        _step(streams, observed, 0.1 if display.live else 1.0, display)
