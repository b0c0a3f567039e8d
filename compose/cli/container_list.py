"""`container ls`, `port`, `stats` and `top`."""

from __future__ import annotations

import time

import click

from pycompose.compose.cli import ps as project_ps
from pycompose.compose.cli import words
from pycompose.compose.cli.containers import get, service_of
from pycompose.compose.cli.errors import CliError, UsageError
from pycompose.compose.cli.flags import command
from pycompose.compose.cli.inspection import processes, show_stats
from pycompose.compose.cli.listing import FORMS, Listing, listing
from pycompose.compose.cli.settings import settings
from pycompose.compose.client import Client
from pycompose.compose.plan.progress import leaving, running
from pycompose.proto.v1 import container_pb2, control_pb2, service_pb2, task_pb2

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
FILTERS = (
    *("ancestor", "before", "exited", "expose", "health", "id", "is-task", "label", "name", "network"),
    *("project", "publish", "service", "since", "status", "volume"),
)


@command()
@click.option("-a", "--all", "everything", is_flag=True, help="Also containers that do not run.")
@click.option("-n", "--last", type=int, default=-1, help="The last N created (default -1: all).")
@click.option("-l", "--latest", is_flag=True, help="The last created.")
@click.option("-s", "--size", is_flag=True, help="Also how much they wrote.")
@listing(*FILTERS, short=True)
def ls(everything: bool, last: int, latest: bool, size: bool, listing_: Listing) -> None:
    """List containers."""
    with settings().client(start=False) as client:
        tasks = list(client.control.ListTasks(control_pb2.ListTasksRequest()).tasks)
        services = {one.id: one for one in client.control.ListServices(control_pb2.ListServicesRequest()).services}
        tasks.sort(key=lambda task: -task.meta.created_at.ToNanoseconds())
        last = 1 if latest else last
        everything = everything or last > 0 or bool({"status", "exited"} & set(listing_.wanted))
        chosen = Filter(listing_, tasks, services)
        shown = [task for task in tasks if chosen.takes(task) and (everything or project_ps.alive(task))]
        shown = shown[:last] if last > 0 else shown
        now = time.time()
        rows = [project_ps.row(task, services.get(task.service_id), now, listing_) for task in shown]
        if size:
            for task, row in zip(shown, rows, strict=True):
                row["Size"] = _written(client, task)
    columns = dict(COLUMNS)
    if size:
        columns["Size"] = "SIZE"
    listing_.print(rows, columns)


def _written(client: Client, task: task_pb2.Task) -> str:
    """Return how much a container wrote into its root file system, for people."""
    from pycompose.proto.v1 import access_pb2

    if not task.status.image_digest:
        return "0B"
    usage = client.access.MeasureTask(access_pb2.MeasureTaskRequest(task_id=task.id))
    return f"{words.size(usage.written_bytes)} (virtual {words.size(usage.written_bytes + usage.image_bytes)})"


class Filter:
    """What --filter takes, as docker's `ps` has it.

    Raises:
        UsageError: a value cannot be read.
        CliError: a container named by since or before does not exist.
    """

    def __init__(self, listing_: Listing, tasks: list[task_pb2.Task], services: dict[str, service_pb2.Service]) -> None:
        self._listing, self._services = listing_, services
        self._since = self._created(tasks, "since")
        self._before = self._created(tasks, "before")
        for code in listing_.wanted.get("exited", ()):
            if not code.lstrip("-").isdigit():
                raise UsageError(f"--filter exited={code}: want an exit status")

    def _created(self, tasks: list[task_pb2.Task], key: str) -> int | None:
        names = self._listing.wanted.get(key)
        if not names:
            return None
        for task in tasks:
            if task.name == names[-1] or task.id.startswith(names[-1]):
                return task.meta.created_at.ToNanoseconds()
        raise CliError(f"--filter {key}={names[-1]}: no such container")

    def takes(self, task: task_pb2.Task) -> bool:
        """Return whether all filters let a container through."""
        service, wanted = self._services.get(task.service_id), self._listing.wanted
        created = task.meta.created_at.ToNanoseconds()
        return (
            project_ps.matches(task, service, self._listing)
            and (self._since is None or created > self._since)
            and (self._before is None or created < self._before)
            and ("exited" not in wanted or self._exited(task, wanted["exited"]))
            and self._listing.equal("is-task", str(service is not None and bool(service.spec.project)).lower())
            and (service is None or self._spec(task, service))
        )

    @staticmethod
    def _exited(task: task_pb2.Task, codes: list[str]) -> bool:
        return words.state(task) == "exited" and str(task.status.exit_code) in codes

    def _spec(self, task: task_pb2.Task, service: service_pb2.Service) -> bool:
        wanted, spec = self._listing.wanted, service.spec.task.container
        volumes = {mount.source or mount.target for mount in spec.mounts} | {mount.target for mount in spec.mounts}
        networks = {one.network for one in service.spec.task.networks} | {one.network_id for one in task.attachments}
        exposed = {f"{port.target_port}/{words.PROTOCOLS[port.protocol]}" for port in service.spec.endpoint.ports}
        public = {f"{one[1]}/{one[3]}" for one in words.published(service, task)}
        return (
            ("ancestor" not in wanted or any(_is_image(spec, task, name) for name in wanted["ancestor"]))
            and ("volume" not in wanted or bool(volumes & set(wanted["volume"])))
            and ("network" not in wanted or bool(networks & set(wanted["network"])))
            and ("expose" not in wanted or bool(exposed & {_port(word) for word in wanted["expose"]}))
            and ("publish" not in wanted or bool(public & {_port(word) for word in wanted["publish"]}))
        )


def _is_image(spec: container_pb2.ContainerSpec, task: task_pb2.Task, name: str) -> bool:
    digest = task.status.image_digest or spec.image_digest
    return (
        spec.image in (name, f"{name}:latest")
        or spec.image.rpartition(":")[0] == name
        or (len(name) >= 4 and digest.removeprefix("sha256:").startswith(name.removeprefix("sha256:")))
    )


def _port(word: str) -> str:
    return word if "/" in word else f"{word}/tcp"


@command()
@click.argument("name", metavar="CONTAINER")
@click.argument("private_port", required=False)
def port(name: str, private_port: str | None) -> None:
    """Print the public addresses of a container's ports."""
    with settings().client(start=False) as client:
        task = get(client, name)
        service = service_of(client, task)
    found = words.published(service, task)
    for address, public, target, protocol in found:
        where = f"{address or '0.0.0.0'}:{public}"
        if private_port is None:
            print(f"{target}/{protocol} -> {where}")
        elif _port(private_port) == f"{target}/{protocol}":
            print(where)
    if private_port is not None and not any(_port(private_port) == f"{one[2]}/{one[3]}" for one in found):
        raise CliError(f"container {task.name} does not publish port {_port(private_port)}")


@command()
@click.argument("name", metavar="CONTAINER")
@click.argument("ps_options", nargs=-1)
def top(name: str, ps_options: tuple[str, ...]) -> None:
    """List the processes of a container."""
    if ps_options:
        raise UsageError("options of ps are not taken; the columns are always the same")
    with settings().client(start=False) as client:
        print(processes(client, get(client, name)))


@command()
@click.option("-a", "--all", "everything", is_flag=True, help="Also containers that do not run.")
@click.option("--no-stream", is_flag=True, help="One sample.")
@click.option("--no-trunc", is_flag=True, help="Do not cut ids.")
@click.option("--format", "form", default="table", metavar="FORM", help=f"{FORMS}.")
@click.argument("names", nargs=-1, metavar="[CONTAINER...]")
def stats(everything: bool, no_stream: bool, no_trunc: bool, form: str, names: tuple[str, ...]) -> None:
    """Print what containers use."""
    with settings().client(start=False) as client:
        if names:
            tasks = [get(client, name) for name in names]
        else:
            every = client.control.ListTasks(control_pb2.ListTasksRequest()).tasks
            tasks = [one for one in every if not leaving(one) and (everything or running(one))]
        show_stats(client, tasks, form, once=no_stream, whole=no_trunc)
