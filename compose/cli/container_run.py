"""`container run` and `container create`: one container of an image, outside of any project.

It is a job of its own: its task runs once by itself, again when it is started, and by its restart policy. It lies on
the network `bridge`, which is made when it is first needed.
"""

from __future__ import annotations

import os
import re
import secrets
import sys
from typing import Any

import click

from pycompose.compose.cli import runflags
from pycompose.compose.cli.attach import DETACH_KEYS, detach_sequence
from pycompose.compose.cli.display import Display
from pycompose.compose.cli.errors import CliError, Exit, UsageError
from pycompose.compose.cli.flags import PASS_ON, command
from pycompose.compose.cli.images_step import Builds, ensure
from pycompose.compose.cli.interrupts import interrupts_into
from pycompose.compose.cli.oneoff import Attachment, LeftError, begun
from pycompose.compose.cli.settings import Settings, settings
from pycompose.compose.cli.stopping import remove_single
from pycompose.compose.cli.template import template
from pycompose.compose.client import ApiError, Client
from pycompose.compose.client.streams import Streams, watch
from pycompose.compose.convert import Desired
from pycompose.compose.labels import SINGLE
from pycompose.compose.plan.observed import Observed
from pycompose.compose.plan.progress import failure
from pycompose.proto.v1 import (
    control_pb2,
    image_pb2,
    network_pb2,
    project_pb2,
    service_pb2,
    task_pb2,
    volume_pb2,
)

PULLS = ("always", "missing", "never")
_STREAMS = {"STDIN", "STDOUT", "STDERR"}


@command("create", context_settings=PASS_ON)
@runflags.options
@click.argument("image")
@click.argument("command", nargs=-1, type=click.UNPROCESSED)
def create(image: str, command: tuple[str, ...], **values: Any) -> None:
    """Create a container of an image without starting it; print its id."""
    chosen = settings()
    spec = spec_of(chosen, image, command, values)
    if chosen.dry_run:
        return chosen.would([f"create container {spec.name} of {image}"])
    spec.create_stopped = True
    with chosen.client() as client:
        made = make(chosen, client, spec, values)
        with interrupts_into(Streams()) as streams:
            streams.keep("watch", lambda last: watch(client, "", [made.id]))
            task = _until_there(streams, made.id, lambda one: one.status.state >= task_pb2.TASK_STATE_READY)
        why = failure(task)
        if why:
            remove_single(client, made)
            raise CliError(f"container {task.name}: {why}", task.status.exit_code or 125)
        _write_id(values["cidfile"], task.id)
        print(task.id)
    return None


@command("run", context_settings=PASS_ON)
@click.option("-d", "--detach", is_flag=True, help="Run in the background and print the container's id.")
@click.option("--detach-keys", metavar="KEYS", default=DETACH_KEYS, help=f"Keys that leave (default {DETACH_KEYS}).")
@click.option("--sig-proxy", is_flag=True, default=True, help="Pass signals on (default true).")
@runflags.options
@click.argument("image")
@click.argument("command", nargs=-1, type=click.UNPROCESSED)
def run(detach: bool, detach_keys: str, sig_proxy: bool, image: str, command: tuple[str, ...], **values: Any) -> None:
    """Run a command in a new container of an image; exit with its status.

    \b
    pycompose container run --rm -it IMAGE sh       a shell
    pycompose container run -d -p 8080:80 IMAGE     in the background
    """
    keys = detach_sequence(detach_keys)
    streams_ = {word.upper() for word in values["attach"]}
    if streams_ - _STREAMS:
        raise UsageError(f"--attach {min(streams_ - _STREAMS)}: want one of {', '.join(sorted(_STREAMS))}")
    if detach and streams_:
        raise UsageError("--detach and --attach contradict one another")
    if values["tty"] and values["interactive"] and not detach and not sys.stdin.isatty():
        raise CliError("-t: standard input is no terminal; leave -t out")
    chosen = settings()
    spec = spec_of(chosen, image, command, values)
    if chosen.dry_run:
        return chosen.would([f"run container {spec.name} of {image}"])
    spec.replicated_job.remove_when_done = values["rm"] and detach
    try:
        with chosen.client() as client, interrupts_into(Streams()) as streams:
            made = make(chosen, client, spec, values)
            streams.keep("watch", lambda last: watch(client, "", [made.id]))
            if detach:
                task = begun(streams, Observed(), made)
                _write_id(values["cidfile"], task.id)
                return print(task.id)
            status = _stay(client, streams, made, values, streams_, keys, proxy=sig_proxy)
    except ApiError as error:
        raise CliError(str(error), 125) from None
    if status:
        raise Exit(status)
    return None


def _stay(
    client: Client,
    streams: Streams,
    made: service_pb2.Service,
    values: dict[str, Any],
    wanted: set[str],
    keys: bytes,
    *,
    proxy: bool,
) -> int:
    outputs = wanted & {"STDOUT", "STDERR"} if wanted else {"STDOUT", "STDERR"}
    attachment = Attachment(
        client,
        streams,
        Observed(),
        made,
        tty=values["tty"],
        stdin=values["interactive"] and (not wanted or "STDIN" in wanted),
        outputs=frozenset(word.lower() for word in outputs),
        keys=keys,
        proxy=proxy,
    )
    left = False
    try:
        return attachment.run(lambda task: _write_id(values["cidfile"], task.id))
    except LeftError:
        left = True
        return 0
    finally:
        if values["rm"] and not left:
            remove_single(client, made)


def _until_there(streams: Streams, service_id: str, done: Any) -> task_pb2.Task:
    from pycompose.compose.cli.watching import see

    observed = Observed()
    while True:
        for task in observed.of(service_id):
            if done(task):
                return task
        item = streams.get(None)
        if item is None:
            continue
        if item[0] == "interrupt":
            raise Exit(130)
        see(item[1], observed, Display("quiet"), "the container goes on starting")


def _write_id(path: str | None, identity: str) -> None:
    if path:
        with open(path, "x", encoding="ascii") as file:
            file.write(identity)


def spec_of(chosen: Settings, image: str, words: tuple[str, ...], values: dict[str, Any]) -> service_pb2.ServiceSpec:
    """Return the job that the flags describe.

    Raises:
        UsageError: a flag cannot be read, or not be honoured.
    """
    if values["cidfile"] and os.path.lexists(values["cidfile"]):
        raise UsageError(f"--cidfile {values['cidfile']}: the file exists; remove it, or name another")
    if values["pull"] not in (None, *PULLS):
        raise UsageError(f"--pull {values['pull']}: want one of {', '.join(PULLS)}")
    if values["rm"] and values["restart"] not in (None, "no"):
        raise UsageError("--rm and --restart contradict one another")
    entry = runflags.entry_of(values, words)
    mode, networks = runflags.network_of(values)
    mounts, names = runflags.mounts_of(values)
    entry |= {"volumes": mounts} if mounts else {}
    entry |= {"network_mode": mode} if mode else {"networks": networks}
    spec, desired = template({**entry, "image": image}, runflags.NAMES, volumes=names, networks=networks)
    for warning in desired.warnings:
        chosen.warn(warning)
    name = values["name"] or f"{_base(image)}-{secrets.token_hex(4)}"
    spec.name = spec.task.container_name = name
    spec.replicated_job.completions = 1
    container = spec.task.container
    container.labels[SINGLE] = "True"
    if values["cpuset_mems"]:
        container.resources.cpuset_mems = values["cpuset_mems"]
    return spec


def _base(image: str) -> str:
    """Return the last part of an image's name, as a name of a container begins."""
    last = image.partition("@")[0].rpartition("/")[2].partition(":")[0]
    return re.sub(r"[^a-zA-Z0-9_.-]", "", last) or "container"


def make(
    chosen: Settings, client: Client, spec: service_pb2.ServiceSpec, values: dict[str, Any]
) -> service_pb2.Service:
    """Find or pull the image, make what the container needs, and create it.

    Raises:
        CliError: the image is not there, and may not be pulled.
        ApiError: the manager refuses it.
    """
    container = spec.task.container
    wanted = Desired(project_pb2.ProjectSpec(), services={spec.name: spec}, places={spec.name: "container run"})
    try:
        with chosen.display("Pulling") as display:
            ensure(client, wanted, values["pull"], display, Builds())
    except CliError as error:
        raise CliError(str(error), 125) from None
    if values["publish_all"]:
        _publish_all(client, spec)
    for attachment in spec.task.networks:
        if attachment.network == runflags.DEFAULT_NETWORK:
            _ensure_network(client, attachment.network)
    known = {one.spec.name for one in client.control.ListVolumes(control_pb2.ListVolumesRequest()).volumes}
    for mount in container.mounts:
        if mount.type == 2 and mount.source and mount.source not in known:
            volume = volume_pb2.VolumeSpec(name=mount.source)
            client.control.CreateVolume(control_pb2.CreateVolumeRequest(spec=volume))
            known.add(mount.source)
    return client.control.CreateService(control_pb2.CreateServiceRequest(spec=spec)).service


def _publish_all(client: Client, spec: service_pb2.ServiceSpec) -> None:
    """Publish what the image and --expose say is listened on, each on a port of the manager's choice."""
    import json

    image = client.images.InspectImage(image_pb2.InspectImageRequest(image=spec.task.container.image_digest)).json
    found = json.loads(image)
    config = (found[0] if isinstance(found, list) else found).get("Config") or {}
    taken = {(port.target_port, port.protocol) for port in spec.endpoint.ports}
    for word in config.get("ExposedPorts") or ():
        number, _, kind = word.partition("/")
        protocol = service_pb2.Protocol.Value(f"PROTOCOL_{(kind or 'tcp').upper()}")
        if (int(number), protocol) not in taken:
            spec.endpoint.ports.add(target_port=int(number), protocol=protocol)


def _ensure_network(client: Client, name: str) -> None:
    """Make the network that containers outside of projects share, unless it is there."""
    try:
        wanted = network_pb2.NetworkSpec(name=name)
        client.control.CreateNetwork(control_pb2.CreateNetworkRequest(spec=wanted))
    except ApiError as error:
        if error.code != "ALREADY_EXISTS":
            raise
