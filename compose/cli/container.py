"""`container`: every container of the node, by id, unique prefix of an id, or name."""

from __future__ import annotations

import sys
import time
from typing import Any

import click

from pycompose.compose.cli import ps as project_ps
from pycompose.compose.cli import words
from pycompose.compose.cli.asking import confirm
from pycompose.compose.cli.copy import Wish, transfer
from pycompose.compose.cli.errors import CliError
from pycompose.compose.cli.execute import run_exec, variables
from pycompose.compose.cli.flags import PASS_ON, group
from pycompose.compose.cli.inspection import processes, show_stats
from pycompose.compose.cli.interrupts import interrupts_into
from pycompose.compose.cli.listing import Listing, listing
from pycompose.compose.cli.logprint import LogPrinter
from pycompose.compose.cli.logs import request_of
from pycompose.compose.cli.objects import as_dict, each, inspect
from pycompose.compose.cli.settings import settings
from pycompose.compose.cli.stopping import grace
from pycompose.compose.client import ApiError, Client, NotThereError
from pycompose.compose.client.session import Session, terminal_size
from pycompose.compose.client.streams import Ended, Streams
from pycompose.compose.plan.progress import running, stop_done, stopped
from pycompose.proto.v1 import access_pb2, control_pb2, service_pb2, task_pb2

COLUMNS = {
    "ID": "CONTAINER ID",
    "Image": "IMAGE",
    "Command": "COMMAND",
    "RunningFor": "CREATED",
    "Status": "STATUS",
    "Ports": "PORTS",
    "Names": "NAMES",
    "Reason": "REASON",
}


@group()
def container() -> None:
    """Manage containers."""


def get(client: Client, name: str) -> task_pb2.Task:
    """Return a task by id, unique prefix, or name."""
    return client.control.GetTask(control_pb2.GetTaskRequest(task=name)).task


def service_of(client: Client, task: task_pb2.Task) -> service_pb2.Service | None:
    """Return the task's service, None when it is gone."""
    try:
        return client.control.GetService(control_pb2.GetServiceRequest(service=task.service_id)).service
    except NotThereError:
        return None


@container.command("ls")
@click.option("-a", "--all", "everything", is_flag=True, help="Also containers that do not run.")
@click.option("-n", "--last", type=int, default=0, help="The last N created.")
@click.option("-l", "--latest", is_flag=True, help="The last created.")
@listing("status", "name", "label", "id", "service", "project", "health", short=True)
def ls(everything: bool, last: int, latest: bool, listing_: Listing) -> None:
    """List containers."""
    with settings().client(start=False) as client:
        tasks = list(client.control.ListTasks(control_pb2.ListTasksRequest()).tasks)
        services = client.control.ListServices(control_pb2.ListServicesRequest()).services
    by_id = {service.id: service for service in services}
    tasks.sort(key=lambda task: -task.meta.created_at.ToNanoseconds())
    last = 1 if latest else last
    everything = everything or bool(last) or "status" in listing_.wanted
    shown = [
        task
        for task in tasks
        if project_ps.matches(task, by_id.get(task.service_id), listing_) and (everything or project_ps.alive(task))
    ]
    shown = shown[:last] if last else shown
    now = time.time()
    listing_.print([project_ps.row(task, by_id.get(task.service_id), now, listing_) for task in shown], COLUMNS)


@container.command("inspect")
@click.argument("names", nargs=-1, required=True, metavar="CONTAINER...")
@click.option("-f", "--format", "form", metavar="TEMPLATE", help="A template, or json.")
def inspect_(names: tuple[str, ...], form: str | None) -> None:
    """Print containers as JSON."""
    with settings().client(start=False) as client:
        inspect(names, lambda name: description(client, name), form)


def description(client: Client, name: str) -> dict[str, Any]:
    """Return a container in the shape of `docker container inspect`, and our own objects under "Task"."""
    task = get(client, name)
    service = service_of(client, task)
    spec = service.spec.task.container if service else None
    status = task.status
    networks = {one.id: one for one in client.control.ListNetworks(control_pb2.ListNetworksRequest()).networks}
    result: dict[str, Any] = {
        "Id": task.id,
        "Name": f"/{task.name}",
        "Created": task.meta.created_at.ToJsonString(),
        "RestartCount": status.restarts,
        "Image": status.image_digest,
        "State": {
            "Status": words.state(task),
            "Running": running(task),
            "Paused": status.paused,
            "Restarting": words.state(task) == "restarting",
            "OOMKilled": status.oom_killed,
            "Pid": status.pid,
            "ExitCode": status.exit_code,
            "Error": status.error,
            "StartedAt": status.started_at.ToJsonString(),
            "FinishedAt": status.finished_at.ToJsonString(),
        },
        "Config": {},
        "NetworkSettings": {
            "Networks": {
                (networks[one.network_id].spec.name if one.network_id in networks else one.network_id): {
                    "IPAddress": one.address.split("/")[0],
                    "MacAddress": one.mac_address,
                    "NetworkID": one.network_id,
                    "Aliases": list(one.aliases),
                }
                for one in task.attachments
            },
            "Ports": {
                f"{target}/{protocol}": [{"HostIp": address or "0.0.0.0", "HostPort": str(public)}]
                for address, public, target, protocol in words.published(service, task)
            },
        },
        "Task": as_dict(task),
    }
    if words.health(task):
        result["State"]["Health"] = {"Status": words.health(task), "FailingStreak": status.health_failures}
    if spec is not None:
        result["Config"] = {
            "Image": spec.image,
            "Env": list(spec.env),
            "Cmd": list(spec.command.args) if spec.HasField("command") else None,
            "Entrypoint": list(spec.entrypoint.args) if spec.HasField("entrypoint") else None,
            "Labels": {**spec.labels, "com.docker.compose.container-number": str(task.slot)},
            "Tty": spec.tty,
            "OpenStdin": spec.open_stdin,
            "User": spec.user,
            "WorkingDir": spec.working_dir,
            "Hostname": spec.hostname or task.id[:12],
        }
    return result


@container.command("logs")
@click.option("-f", "--follow", is_flag=True, help="Go on with new output.")
@click.option("-n", "--tail", default="all", metavar="LINES", help="Last lines.")
@click.option("--since", metavar="TIME", help="Nothing before.")
@click.option("--until", metavar="TIME", help="Nothing after.")
@click.option("-t", "--timestamps", is_flag=True, help="Times before lines.")
@click.argument("name", metavar="CONTAINER")
def logs(follow: bool, tail: str, since: str | None, until: str | None, timestamps: bool, name: str) -> None:
    """Print the output of a container."""
    request = request_of(follow, tail, since, until)
    with settings().client(start=False) as client:
        request.task_ids.append(get(client, name).id)
        print_logs(client, request, timestamps=timestamps)


def print_logs(client: Client, request: access_pb2.ReadLogsRequest, *, timestamps: bool) -> None:
    """Print entries until the stream ends or the user leaves; error output goes to stderr."""
    printer = LogPrinter(prefix=False, timestamps=timestamps, split=True, at_once=True)
    with interrupts_into(Streams()) as streams:
        streams.add("log", client.access.ReadLogs(request))
        while (item := streams.get(None)) is not None and item[0] != "interrupt":
            if isinstance(item[1], Ended):
                if item[1].error is not None:
                    raise item[1].error
                return
            printer.entries(item[1].entries)


@container.command("exec", context_settings=PASS_ON)
@click.option("-d", "--detach", is_flag=True, help="Run in the background.")
@click.option("-i", "--interactive", is_flag=True, help="Keep stdin open.")
@click.option("-t", "--tty", is_flag=True, help="Allocate a terminal.")
@click.option("-e", "--env", multiple=True, metavar="KEY=VALUE", help="Set a variable.")
@click.option("-u", "--user", default="", help="User to run as.")
@click.option("-w", "--workdir", default="", help="Directory to start in.")
@click.option("--privileged", is_flag=True, help="Give it all capabilities.")
@click.argument("name", metavar="CONTAINER")
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
def exec_(
    detach: bool,
    interactive: bool,
    tty: bool,
    env: tuple[str, ...],
    user: str,
    workdir: str,
    privileged: bool,
    name: str,
    command: tuple[str, ...],
) -> None:
    """Run a command in a running container."""
    if tty and interactive and not sys.stdin.isatty():
        raise CliError("-t: standard input is no terminal; leave -t out")
    with settings().client(start=False) as client:
        start = access_pb2.ExecStart(
            task_id=get(client, name).id,
            args=command,
            env=variables(env),
            user=user,
            working_dir=workdir,
            tty=tty,
            stdin=interactive and not detach,
            privileged=privileged,
            detach=detach,
        )
        run_exec(client, start)


@container.command("attach")
@click.option("--no-stdin", is_flag=True, help="Do not send standard input.")
@click.argument("name", metavar="CONTAINER")
def attach(no_stdin: bool, name: str) -> None:
    """Join a running container's own streams."""
    from pycompose.compose.cli.errors import Exit
    from pycompose.compose.cli.stopping import kill as kill_tasks

    with settings().client(start=False) as client:
        task = get(client, name)
        service = service_of(client, task)
        tty = bool(service and service.spec.task.container.tty)
        stdin = not no_stdin and bool(service and service.spec.task.container.open_stdin)
        start = access_pb2.AttachStart(task_id=task.id, stdin=stdin)
        size = terminal_size() if tty else None
        if size is not None:
            start.size.CopyFrom(size)
        session = Session(
            client.access.Attach,
            access_pb2.AttachRequest,
            start,
            stdin=stdin,
            tty=tty,
            forward=lambda signal: kill_tasks(client, [task.id], signal),
        )
        outcome = session.run()
    if outcome.status:
        raise Exit(outcome.status)


@container.command("start")
@click.argument("names", nargs=-1, required=True, metavar="CONTAINER...")
def start(names: tuple[str, ...]) -> None:
    """Start containers."""
    with settings().client(start=False) as client:
        each(names, lambda name: _change(client, name, "Start", None))


@container.command("stop")
@click.option("-t", "--time", "--timeout", "timeout", type=int, metavar="SECONDS", help="Grace before a kill.")
@click.argument("names", nargs=-1, required=True, metavar="CONTAINER...")
def stop(timeout: int | None, names: tuple[str, ...]) -> None:
    """Stop containers."""
    with settings().client(start=False) as client:
        each(names, lambda name: _change(client, name, "Stop", timeout))


@container.command("restart")
@click.option("-t", "--time", "--timeout", "timeout", type=int, metavar="SECONDS", help="Grace before a kill.")
@click.argument("names", nargs=-1, required=True, metavar="CONTAINER...")
def restart(timeout: int | None, names: tuple[str, ...]) -> None:
    """Restart containers."""
    with settings().client(start=False) as client:
        each(names, lambda name: _change(client, name, "Restart", timeout))


def _change(client: Client, name: str, verb: str, timeout: int | None) -> None:
    """Ask for a start, stop or restart of a task, and wait until it is so."""
    task = get(client, name)
    request = getattr(control_pb2, f"{verb}TasksRequest")(task_ids=[task.id])
    if timeout is not None:
        request.grace_period.CopyFrom(grace(timeout))
    getattr(client.control, f"{verb}Tasks")(request)
    kinds = [control_pb2.OBJECT_KIND_TASK]
    watch = client.control.Watch(control_pb2.WatchRequest(kinds=kinds, service_ids=[task.service_id]))
    try:
        for answer in watch:
            for event in answer.events:
                one = event.task
                if one.id == task.id and _reached(one, verb):
                    return
                if one.id == task.id and verb != "Stop" and stopped(one) and one.status.error:
                    raise ApiError(f"container {task.name}: {one.status.error}", "FAILED_PRECONDITION")
    finally:
        watch.cancel()


def _reached(task: task_pb2.Task, verb: str) -> bool:
    if task.run_request > task.status.run_request:
        return False
    if verb == "Stop":
        return stop_done(task)
    return running(task) or (stopped(task) and task.status.run > 0 and not task.status.error)


@container.command("kill")
@click.option("-s", "--signal", default="SIGKILL", help="Signal to send.")
@click.argument("names", nargs=-1, required=True, metavar="CONTAINER...")
def kill(signal: str, names: tuple[str, ...]) -> None:
    """Send a signal to containers."""
    with settings().client(start=False) as client:

        def send(name: str) -> None:
            client.access.SignalTask(access_pb2.SignalTaskRequest(task_id=get(client, name).id, signal=signal))

        each(names, send)


@container.command("pause")
@click.argument("names", nargs=-1, required=True, metavar="CONTAINER...")
def pause(names: tuple[str, ...]) -> None:
    """Freeze containers."""
    with settings().client(start=False) as client:
        each(names, lambda name: client.access.PauseTask(access_pb2.PauseTaskRequest(task_id=get(client, name).id)))


@container.command("unpause")
@click.argument("names", nargs=-1, required=True, metavar="CONTAINER...")
def unpause(names: tuple[str, ...]) -> None:
    """Thaw containers."""
    with settings().client(start=False) as client:
        each(names, lambda name: client.access.UnpauseTask(access_pb2.UnpauseTaskRequest(task_id=get(client, name).id)))


@container.command("rm")
@click.option("-f", "--force", is_flag=True, help="Also when it runs.")
@click.option("-v", "--volumes", is_flag=True, help="Also anonymous volumes (they always go with it).")
@click.argument("names", nargs=-1, required=True, metavar="CONTAINER...")
def rm(force: bool, volumes: bool, names: tuple[str, ...]) -> None:
    """Remove containers; a service that misses one makes a new one."""
    with settings().client(start=False) as client:

        def remove(name: str) -> None:
            task = get(client, name)
            if not force and not stop_done(task):
                raise ApiError(f"container {task.name} runs; stop it first, or use --force", "FAILED_PRECONDITION")
            remove_task(client, task)

        each(names, remove)


def remove_task(client: Client, task: task_pb2.Task) -> None:
    """Remove a container; a one-off's service goes with it."""
    service = service_of(client, task)
    if service is not None and service.spec.WhichOneof("mode") == "replicated_job":
        client.control.RemoveService(control_pb2.RemoveServiceRequest(service_id=service.id))
    else:
        client.control.RemoveTasks(control_pb2.RemoveTasksRequest(task_ids=[task.id]))


@container.command("prune")
@click.option("-f", "--force", is_flag=True, help="Do not ask.")
def prune(force: bool) -> None:
    """Remove containers of one-off runs that ended."""
    from pycompose.compose.plan.current import is_oneoff

    with settings().client(start=False) as client:
        services = {one.id: one for one in client.control.ListServices(control_pb2.ListServicesRequest()).services}
        tasks = client.control.ListTasks(control_pb2.ListTasksRequest()).tasks
        ended = [
            task
            for task in tasks
            if stopped(task) and task.service_id in services and is_oneoff(services[task.service_id])
        ]
        if ended and not force:
            confirm(f"remove {', '.join(task.name for task in ended)}?", "--force")
        for task in ended:
            remove_task(client, task)
            print(task.name)


@container.command("port")
@click.argument("name", metavar="CONTAINER")
@click.argument("private_port", required=False)
def port(name: str, private_port: str | None) -> None:
    """Print the public addresses of a container's ports."""
    with settings().client(start=False) as client:
        task = get(client, name)
        service = service_of(client, task)
    for address, public, target, protocol in words.published(service, task):
        where = f"{address or '0.0.0.0'}:{public}"
        if private_port is None:
            print(f"{target}/{protocol} -> {where}")
        elif private_port in (str(target), f"{target}/{protocol}"):
            print(where)


@container.command("top")
@click.argument("name", metavar="CONTAINER")
def top(name: str) -> None:
    """List the processes of a container."""
    with settings().client(start=False) as client:
        print(processes(client, get(client, name)))


@container.command("stats")
@click.option("--no-stream", is_flag=True, help="One sample.")
@click.option("--no-trunc", is_flag=True, help="Do not cut ids.")
@click.option("--format", "form", default="table", metavar="FORM", help="table, json, or a template.")
@click.argument("names", nargs=-1, metavar="[CONTAINER...]")
def stats(no_stream: bool, no_trunc: bool, form: str, names: tuple[str, ...]) -> None:
    """Print what containers use."""
    with settings().client(start=False) as client:
        if names:
            tasks = [get(client, name) for name in names]
        else:
            tasks = [one for one in client.control.ListTasks(control_pb2.ListTasksRequest()).tasks if running(one)]
        show_stats(client, tasks, form, once=no_stream, whole=no_trunc)


@container.command("wait")
@click.argument("names", nargs=-1, required=True, metavar="CONTAINER...")
def wait(names: tuple[str, ...]) -> None:
    """Wait until containers stop; print their exit status."""
    with settings().client(start=False) as client:

        def until(name: str) -> None:
            task = get(client, name)
            kinds = [control_pb2.OBJECT_KIND_TASK]
            watch = client.control.Watch(control_pb2.WatchRequest(kinds=kinds, service_ids=[task.service_id]))
            try:
                for answer in watch:
                    for event in answer.events:
                        gone = event.type == control_pb2.EVENT_TYPE_REMOVED
                        if event.task.id == task.id and (gone or stop_done(event.task)):
                            print(event.task.status.exit_code)
                            return
            finally:
                watch.cancel()

        each(names, until, say=False)


@container.command("cp")
@click.argument("source")
@click.argument("destination")
@click.option("-a", "--archive", is_flag=True, help="Keep owners.")
@click.option("-L", "--follow-link", is_flag=True, help="Follow a symbolic link at the source.")
def cp(source: str, destination: str, archive: bool, follow_link: bool) -> None:
    """Copy files: CONTAINER:PATH to PATH, or PATH to CONTAINER:PATH; - is a tar stream."""
    with settings().client(start=False) as client:
        wish = Wish(archive, follow_link)
        transfer(client, source, destination, lambda name, _: [get(client, name)], wish)
