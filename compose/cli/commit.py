"""`commit` and `export`: an image, or a tar, of a service's container."""

from __future__ import annotations

import itertools
import os
import sys

import click

from pycompose.compose.cli.errors import UsageError
from pycompose.compose.cli.flags import command
from pycompose.compose.cli.settings import settings
from pycompose.compose.client import Client
from pycompose.compose.client.state import task_of
from pycompose.proto.v1 import access_pb2


@command()
@click.option("-a", "--author", default="", metavar="NAME", help="Who made the image.")
@click.option("-c", "--change", "changes", multiple=True, metavar="INSTRUCTION", help='e.g. "CMD nginx".')
@click.option("--index", type=int, default=0, metavar="N", help="Container number N of the service.")
@click.option("-m", "--message", default="", help="What the image is.")
@click.option("-p", "--pause", is_flag=True, default=True, help="Freeze the container meanwhile (default true).")
@click.argument("service")
@click.argument("reference", required=False, default="", metavar="[REPOSITORY[:TAG]]")
def commit(
    author: str, changes: tuple[str, ...], index: int, message: str, pause: bool, service: str, reference: str
) -> None:
    """Make an image of a container's changes."""
    chosen = settings()
    with chosen.client(start=False) as client:
        task = task_of(client, chosen.name(), service, index)
        if chosen.dry_run:
            return chosen.would([f"commit container {task.name} as {reference or 'an image without a name'}"])
        request = access_pb2.CommitTaskRequest(
            task_id=task.id, reference=reference, author=author, message=message, changes=changes, pause=pause
        )
        print(client.access.CommitTask(request, timeout=3600).image_id)
    return None


@command()
@click.option("--index", type=int, default=0, metavar="N", help="Container number N of the service.")
@click.option("-o", "--output", metavar="FILE", help="File to write; default standard output.")
@click.argument("service")
def export(index: int, output: str | None, service: str) -> None:
    """Write a container's files, without its volumes, as a tar archive."""
    chosen = settings()
    with chosen.client(start=False) as client:
        task = task_of(client, chosen.name(), service, index)
        if chosen.dry_run:
            return chosen.would([f"export container {task.name} to {output or 'standard output'}"])
        return write_export(client, task.id, output)


def write_export(client: Client, task_id: str, output: str | None) -> None:
    """Write the tar of a container's root file system.

    Raises:
        UsageError: there is nobody to take it but a terminal.
    """
    if output is None and sys.stdout.isatty():
        raise UsageError("a tar archive is nothing for a terminal; use -o FILE, or redirect the output")
    # the first answer tells whether there will be an archive
    answers = iter(client.access.ExportTask(access_pb2.ExportTaskRequest(task_id=task_id)))
    first = next(answers, None)
    with open(output, "wb") if output else os.fdopen(os.dup(1), "wb") as file:
        for answer in itertools.chain([first] if first is not None else [], answers):
            file.write(answer.data)
