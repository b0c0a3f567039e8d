"""`container logs`, `exec`, `attach`, `cp`, `export`, `commit` and `diff`."""

from __future__ import annotations

import sys

import click

from pycompose.compose.cli.attach import DETACH_KEYS, detach_sequence, join
from pycompose.compose.cli.commit import write_export
from pycompose.compose.cli.containers import get
from pycompose.compose.cli.copy import Wish, transfer
from pycompose.compose.cli.errors import CliError
from pycompose.compose.cli.execute import run_exec, variables
from pycompose.compose.cli.flags import PASS_ON, command
from pycompose.compose.cli.flagwords import read_lines
from pycompose.compose.cli.interrupts import interrupts_into
from pycompose.compose.cli.logflags import LogWish, log_flags
from pycompose.compose.cli.logprint import LogPrinter
from pycompose.compose.cli.objects import pairs
from pycompose.compose.cli.settings import settings
from pycompose.compose.client import Client
from pycompose.compose.client.streams import Ended, Streams
from pycompose.proto.v1 import access_pb2, control_pb2

_KINDS = {
    access_pb2.PATH_CHANGE_KIND_ADDED: "A",
    access_pb2.PATH_CHANGE_KIND_CHANGED: "C",
    access_pb2.PATH_CHANGE_KIND_DELETED: "D",
}


@command()
@click.option("--details", is_flag=True, help="Also labels and variables that the log options name.")
@log_flags
@click.argument("name", metavar="CONTAINER")
def logs(details: bool, name: str, wish: LogWish) -> None:
    """Print the output of a container."""
    with settings().client(start=False) as client:
        task = get(client, name)
        wish.request.task_ids.append(task.id)
        print_logs(client, wish, before=_details(client, task.service_id) if details else "")


def _details(client: Client, service_id: str) -> str:
    """Return "label=value,… " of the labels and variables that the log's options name (docker's --details)."""
    spec = client.control.GetService(control_pb2.GetServiceRequest(service=service_id)).service.spec.task.container
    options = dict(spec.logging.options)
    env = pairs(spec.env)
    words = [f"{key}={spec.labels[key]}" for key in options.get("labels", "").split(",") if key in spec.labels]
    words += [f"{key}={env[key]}" for key in options.get("env", "").split(",") if key in env]
    return ",".join(words) + " " if words else ""


def print_logs(client: Client, wish: LogWish, *, before: str = "") -> None:
    """Print entries until the stream ends or the user leaves; error output goes to stderr."""
    printer = LogPrinter(prefix=False, timestamps=wish.timestamps, split=True, before=before, grep=wish.grep)
    with interrupts_into(Streams()) as streams:
        streams.add("log", client.access.ReadLogs(wish.request))
        while (item := streams.get(None)) is not None and item[0] != "interrupt":
            if isinstance(item[1], Ended):
                if item[1].error is not None:
                    raise item[1].error
                return printer.flush()
            printer.entries(item[1].entries)
    return None


@command("exec", context_settings=PASS_ON)
@click.option("-d", "--detach", is_flag=True, help="Run in the background.")
@click.option("--detach-keys", metavar="KEYS", default=DETACH_KEYS, help=f"Keys that leave (default {DETACH_KEYS}).")
@click.option("-e", "--env", multiple=True, metavar="KEY=VALUE", help="Set a variable.")
@click.option("--env-file", "env_files", multiple=True, metavar="FILE", help="Set variables from a file.")
@click.option("-i", "--interactive", is_flag=True, help="Keep stdin open.")
@click.option("--privileged", is_flag=True, help="Give it all capabilities.")
@click.option("-t", "--tty", is_flag=True, help="Allocate a terminal.")
@click.option("-u", "--user", default="", help="User to run as.")
@click.option("-w", "--workdir", default="", help="Directory to start in.")
@click.argument("name", metavar="CONTAINER")
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
def exec_(
    detach: bool,
    detach_keys: str,
    env: tuple[str, ...],
    env_files: tuple[str, ...],
    interactive: bool,
    privileged: bool,
    tty: bool,
    user: str,
    workdir: str,
    name: str,
    command: tuple[str, ...],
) -> None:
    """Run a command in a running container."""
    if tty and interactive and not sys.stdin.isatty():
        raise CliError("-t: standard input is no terminal; leave -t out")
    lines = [line for path in env_files for line in read_lines("--env-file", path)]
    keys = detach_sequence(detach_keys)
    with settings().client(start=False) as client:
        start = access_pb2.ExecStart(
            task_id=get(client, name).id,
            args=command,
            env=variables([*lines, *env]),
            user=user,
            working_dir=workdir,
            tty=tty,
            stdin=interactive and not detach,
            privileged=privileged,
            detach=detach,
        )
        run_exec(client, start, keys=keys)


@command()
@click.option("--detach-keys", metavar="KEYS", default=DETACH_KEYS, help=f"Keys that leave (default {DETACH_KEYS}).")
@click.option("--no-stdin", is_flag=True, help="Do not send standard input.")
@click.option("--sig-proxy", is_flag=True, default=True, help="Pass signals on (default true).")
@click.argument("name", metavar="CONTAINER")
def attach(detach_keys: str, no_stdin: bool, sig_proxy: bool, name: str) -> None:
    """Join a running container's own input and output."""
    keys = detach_sequence(detach_keys)
    with settings().client(start=False) as client:
        join(client, get(client, name), keys=keys, stdin=not no_stdin, proxy=sig_proxy)


@command()
@click.option("-a", "--archive", is_flag=True, help="Keep owners.")
@click.option("-L", "--follow-link", is_flag=True, help="Follow a symbolic link at the source.")
@click.option("-q", "--quiet", is_flag=True, help="Say nothing.")
@click.argument("source")
@click.argument("destination")
def cp(archive: bool, follow_link: bool, quiet: bool, source: str, destination: str) -> None:
    """Copy files: CONTAINER:PATH to PATH, or PATH to CONTAINER:PATH; - is a tar stream."""
    chosen = settings()
    if chosen.dry_run:
        return chosen.would([f"copy {source} to {destination}"])
    with chosen.client(start=False) as client:
        wish = Wish(archive, follow_link, (lambda text: None) if quiet else chosen.tell, chosen.warn)
        return transfer(client, source, destination, lambda name, _: [get(client, name)], wish)


@command()
@click.option("-o", "--output", metavar="FILE", help="File to write; default standard output.")
@click.argument("name", metavar="CONTAINER")
def export(output: str | None, name: str) -> None:
    """Write a container's files, without its volumes, as a tar archive."""
    with settings().client(start=False) as client:
        write_export(client, get(client, name).id, output)


@command()
@click.option("-a", "--author", default="", metavar="NAME", help="Who made the image.")
@click.option("-c", "--change", "changes", multiple=True, metavar="INSTRUCTION", help='e.g. "CMD nginx".')
@click.option("-m", "--message", default="", help="What the image is.")
@click.option("-p", "--pause", is_flag=True, default=True, help="Freeze the container meanwhile (default true).")
@click.argument("name", metavar="CONTAINER")
@click.argument("reference", required=False, default="", metavar="[REPOSITORY[:TAG]]")
def commit(author: str, changes: tuple[str, ...], message: str, pause: bool, name: str, reference: str) -> None:
    """Make an image of a container's changes."""
    with settings().client(start=False) as client:
        request = access_pb2.CommitTaskRequest(
            task_id=get(client, name).id,
            reference=reference,
            author=author,
            message=message,
            changes=changes,
            pause=pause,
        )
        print(client.access.CommitTask(request, timeout=3600).image_id)


@command()
@click.argument("name", metavar="CONTAINER")
def diff(name: str) -> None:
    """List files that a container changed: A added, C changed, D deleted."""
    with settings().client(start=False) as client:
        answer = client.access.ListChanges(access_pb2.ListChangesRequest(task_id=get(client, name).id))
    for change in answer.changes:
        print(_KINDS[change.kind], change.path)
