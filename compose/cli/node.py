"""`node`: this machine's node (start, stop, status, install), and the nodes of the cluster.

The node is another program, `python -m pycompose.worker.node`; it is started, signalled and read about through its
files, never imported.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from typing import Any

import click

from pycompose.compose.cli.errors import CliError, Exit
from pycompose.compose.cli.flags import group
from pycompose.compose.cli.listing import Listing, listing
from pycompose.compose.cli.objects import as_dict, has_labels, inspect, pairs
from pycompose.compose.cli.settings import settings
from pycompose.compose.client import Client, ClientError, default_host
from pycompose.compose.client import node as local
from pycompose.compose.client.connection import run_dir, socket_path, state_dir
from pycompose.proto.v1 import control_pb2, node_pb2

STOP_SECONDS = 30.0
COLUMNS = {
    "ID": "ID",
    "Hostname": "HOSTNAME",
    "Status": "STATUS",
    "Availability": "AVAILABILITY",
    "EngineVersion": "ENGINE VERSION",
}
_ACTIVE = node_pb2.NODE_AVAILABILITY_ACTIVE
UNIT = """\
[Unit]
Description=pycompose node
After=network-online.target
Wants=network-online.target

[Service]
Type=simple
ExecStart={python} -m {module} --foreground
Environment=PYCOMPOSE_STATE_DIR={state} PYCOMPOSE_RUN_DIR={run}
# containers outlive the daemon and are adopted again
KillMode=process
Delegate=yes
Restart=on-failure
LimitNOFILE=1048576

[Install]
WantedBy=multi-user.target
"""


@group()
def node() -> None:
    """Manage this machine's node, and list nodes."""


def _socket() -> str:
    path = socket_path(settings().host or default_host())
    if path is None:
        raise CliError("this command is about this machine's node; leave -H and PYCOMPOSE_HOST out")
    return path


@node.command("start")
def start() -> None:
    """Start this machine's node in the background."""
    path = _socket()
    try:
        running = local.answers(path)
    except PermissionError:
        running = True
    if running:
        print("the node runs already")
        return
    if settings().dry_run:
        settings().would(["start the node"])
        return
    local.start(path, lambda text: None)
    print("the node runs")


@node.command("stop")
@click.option("--stop-containers", is_flag=True, help="Also stop all containers; else they go on running.")
def stop(stop_containers: bool) -> None:
    """Stop this machine's node; its containers go on running."""
    path = _socket()
    record = local.record(path)
    pid = record.get("pid")
    if not isinstance(pid, int) or not _alive(pid):
        print("the node does not run")
        return
    if settings().dry_run:
        settings().would([*(["stop all containers"] if stop_containers else []), "stop the node"])
        return
    if stop_containers:
        with settings().client(start=False) as client:
            tasks = client.control.ListTasks(control_pb2.ListTasksRequest()).tasks
            client.control.StopTasks(control_pb2.StopTasksRequest(task_ids=[task.id for task in tasks]))
            _until_stopped(client)
    try:
        os.kill(pid, signal.SIGTERM)
    except PermissionError:
        raise CliError("stopping the node takes root; run this as root: sudo pycompose node stop") from None
    deadline = time.monotonic() + STOP_SECONDS
    while _alive(pid):
        if time.monotonic() > deadline:
            raise CliError(f"the node (process {pid}) did not stop in {STOP_SECONDS:.0f} s; see {local.log_path()}")
        time.sleep(0.05)
    print("the node stopped; containers go on running" if not stop_containers else "the node stopped")


def _until_stopped(client: Client) -> None:
    from pycompose.compose.plan.progress import stop_done

    deadline = time.monotonic() + STOP_SECONDS
    while time.monotonic() < deadline:
        tasks = client.control.ListTasks(control_pb2.ListTasksRequest()).tasks
        if all(stop_done(task) for task in tasks):
            return
        time.sleep(0.1)
    raise CliError(
        f"containers still run after {STOP_SECONDS:.0f} s, so the node was left running: pycompose container ls"
    )


def _alive(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@node.command("status")
@click.option("--format", "form", type=click.Choice(["text", "json"]), default="text")
def status(form: str) -> None:
    """Say whether this machine's node runs, and what is wrong with it; exit status 3 when it does not run."""
    path = _socket()
    try:
        running = local.answers(path)
    except PermissionError:
        raise CliError(f"you may not talk to the node at {path}; run as root, or join the group pycompose") from None
    found: dict[str, Any] = {"running": running, "socket": path, "log": local.log_path(), **local.record(path)}
    if running:
        with settings().client(start=False) as client:
            manager = client.control.GetManager(control_pb2.GetManagerRequest())
            found.update(version=manager.version, store=manager.store)
            try:
                one = client.control.GetNode(control_pb2.GetNodeRequest()).node
            except ClientError as error:
                found["worker"] = str(error)
            else:
                found.update(_facts(one))
            tasks = client.control.ListTasks(control_pb2.ListTasksRequest()).tasks
            found["containers"] = len(tasks)
    if form == "json":
        print(json.dumps(found))
    else:
        print("the node runs" if running else "the node does not run; pycompose up or pycompose node start starts it")
        for key, value in found.items():
            if key not in ("running", "warnings"):
                print(f"  {key.replace('_', ' ')}: {value}")
        for warning in found.get("warnings", ()):
            print(f"  warning: {warning}")
    if not running:
        raise Exit(3)


def _facts(one: node_pb2.Node) -> dict[str, Any]:
    what = one.description
    return {
        "node": one.id,
        "hostname": what.hostname,
        "state": node_pb2.NodeState.Name(one.status.state).removeprefix("NODE_STATE_").lower(),
        "platform": what.platform,
        "kernel": what.kernel_version,
        "cgroup_version": what.cgroup_version,
        "warnings": list(what.warnings),
    }


@node.command("install")
@click.option("--print", "only_print", is_flag=True, help="Print the unit and change nothing.")
def install(only_print: bool) -> None:
    """Make the node a systemd service that starts with the machine."""
    text = UNIT.format(python=sys.executable, module=local.MODULE, state=state_dir(), run=run_dir())
    if only_print or settings().dry_run:
        print(text, end="")
        return
    if os.geteuid() != 0:
        raise CliError("installing a systemd unit takes root; run this as root: sudo pycompose node install")
    if not os.path.isdir("/run/systemd/system"):
        raise CliError("this machine does not run systemd; --print shows the unit, pycompose node start starts it")
    target = "/etc/systemd/system/pycompose.service"
    with open(target, "w", encoding="utf-8") as file:
        file.write(text)
    for command in (["systemctl", "daemon-reload"], ["systemctl", "enable", "--now", "pycompose.service"]):
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise CliError(f"{' '.join(command)}: {done.stderr.strip()}")
    print(f"{target} is written, and the node runs with the machine")


@node.command("ls")
@listing("id", "name", "label", "status", "availability", short=True)
def ls(listing_: Listing) -> None:
    """List nodes."""
    with settings().client(start=False) as client:
        nodes = client.control.ListNodes(control_pb2.ListNodesRequest()).nodes
    rows = [
        {
            "ID": listing_.id(one.id),
            "Hostname": one.description.hostname,
            "Status": _word(node_pb2.NodeState.Name(one.status.state)),
            "Availability": _word(node_pb2.NodeAvailability.Name(one.spec.availability or _ACTIVE)),
            "EngineVersion": one.description.engine_version,
        }
        for one in nodes
        if listing_.start("id", one.id) and has_labels(one.spec.labels, listing_.wanted.get("label", ()))
    ]
    rows = [
        row
        for row in rows
        if listing_.part("name", row["Hostname"])
        and listing_.equal("status", row["Status"].lower())
        and listing_.equal("availability", row["Availability"].lower())
    ]
    listing_.print(rows, COLUMNS)


def _word(name: str) -> str:
    return name.rpartition("_")[2].capitalize()


def _get(client: Client, name: str) -> node_pb2.Node:
    return client.control.GetNode(control_pb2.GetNodeRequest(node="" if name == "self" else name)).node


@node.command("inspect")
@click.argument("names", nargs=-1, required=True, metavar="self|NODE...")
@click.option("-f", "--format", "form", metavar="TEMPLATE", help="A template, or json.")
def inspect_(names: tuple[str, ...], form: str | None) -> None:
    """Print nodes as JSON."""
    with settings().client(start=False) as client:
        inspect(names, lambda name: as_dict(_get(client, name)), form)


@node.command("update")
@click.option("--availability", type=click.Choice(["active", "pause", "drain"]), help="Whether tasks may run on it.")
@click.option("--label-add", multiple=True, metavar="KEY=VALUE", help="Set a label.")
@click.option("--label-rm", multiple=True, metavar="KEY", help="Take a label away.")
@click.argument("name", metavar="self|NODE")
def update(availability: str | None, label_add: tuple[str, ...], label_rm: tuple[str, ...], name: str) -> None:
    """Change a node's availability and labels."""
    with settings().client(start=False) as client:
        one = _get(client, name)
        if availability:
            one.spec.availability = node_pb2.NodeAvailability.Value(f"NODE_AVAILABILITY_{availability.upper()}")
        one.spec.labels.update(pairs(label_add))
        for label in label_rm:
            one.spec.labels.pop(label, None)
        request = control_pb2.UpdateNodeRequest(node_id=one.id, version=one.meta.version, spec=one.spec)
        client.control.UpdateNode(request)
    print(name)
