"""This machine's node: start, stop, restart, status, logs, install, uninstall.

The node is another program, `python -m pycompose.worker.node`; it is started, signalled and read about through its
files, never imported. Where its systemd unit is installed, systemd starts and stops it.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
import time
from collections import deque
from typing import Any

import click

from pycompose.compose.cli.errors import CliError, Exit
from pycompose.compose.cli.flags import command
from pycompose.compose.cli.settings import settings
from pycompose.compose.cli.words import age, state
from pycompose.compose.client import Client, ClientError, unit
from pycompose.compose.client import node as local
from pycompose.compose.client.connection import own_socket, run_dir, state_dir
from pycompose.proto.v1 import control_pb2, node_pb2, task_pb2

STOP_SECONDS = 30.0
NOT_RUNNING = 3
LOOK_SECONDS = 0.2


def local_socket() -> str:
    """Return the path of this machine's node's socket. Raises CliError: the command was given another."""
    target = settings().target()
    if not target.local:
        raise CliError(
            f"this command is about this machine's node, whose socket is {own_socket()}, and not about {target.label}; "
            "leave -H, -c, PYCOMPOSE_HOST and PYCOMPOSE_CONTEXT out, or say pycompose -c default"
        )
    return own_socket()


def need_root(what: str, how: str) -> None:
    """Raise CliError for whoever is not root."""
    if os.geteuid() != 0:
        raise CliError(f"{what} takes root; run this as root: sudo pycompose node {how}")


@command("start")
def start() -> None:
    """Start this machine's node in the background."""
    path = local_socket()
    try:
        running = local.answers(path)
    except PermissionError:
        running = True
    if running:
        print("the node runs already")
        return None
    if settings().dry_run:
        return settings().would(["start the node"])
    local.start(path, lambda text: None)
    print("the node runs; pycompose node status says how it is")
    return None


@command("stop")
@click.option("--stop-containers", is_flag=True, help="Also stop all containers; else they go on running.")
def stop(stop_containers: bool) -> None:
    """Stop this machine's node; its containers go on running."""
    path = local_socket()
    pid = local.record(path).get("pid")
    if not isinstance(pid, int) or not _alive(pid):
        print("the node does not run")
        return None
    if settings().dry_run:
        return settings().would([*(["stop all containers"] if stop_containers else []), "stop the node"])
    left = _running()
    if stop_containers:
        _stop_containers()
        left = 0
    _end(path, pid)
    rest = {0: "", 1: "; 1 container goes on running"}.get(left, f"; {left} containers go on running")
    print(f"the node stopped{rest}")
    return None


@command("restart")
def restart() -> None:
    """Stop this machine's node and start it again; its containers go on running."""
    if settings().dry_run:
        return settings().would(["stop the node", "start the node"])
    path = local_socket()
    pid = local.record(path).get("pid")
    if isinstance(pid, int) and _alive(pid):
        _end(path, pid)
    local.start(path, lambda text: None)
    print("the node runs")
    return None


def _end(path: str, pid: int) -> None:
    """Stop the node's process, and wait until it is gone."""
    if os.geteuid() not in (0, os.stat(f"/proc/{pid}").st_uid):
        need_root("stopping the node", "stop")
    if unit.installed(os.path.dirname(path)):
        problem = unit.control("stop", unit.NAME)
        if problem:
            raise CliError(problem)
        return
    os.kill(pid, signal.SIGTERM)
    deadline = time.monotonic() + STOP_SECONDS
    while _alive(pid):
        if time.monotonic() > deadline:
            raise CliError(f"the node (process {pid}) did not stop in {STOP_SECONDS:.0f} s; pycompose node logs")
        time.sleep(0.05)


def _tasks(client: Client) -> list[task_pb2.Task]:
    return list(client.control.ListTasks(control_pb2.ListTasksRequest()).tasks)


def _running() -> int:
    """Return how many containers run, 0 when the node cannot tell."""
    try:
        with settings().client(start=False) as client:
            return sum(state(task) in ("running", "paused") for task in _tasks(client))
    except ClientError:
        return 0


def _stop_containers() -> None:
    from pycompose.compose.plan.progress import stop_done

    with settings().client(start=False) as client:
        ids = [task.id for task in _tasks(client)]
        client.control.StopTasks(control_pb2.StopTasksRequest(task_ids=ids))
        deadline = time.monotonic() + STOP_SECONDS
        while not all(stop_done(task) for task in _tasks(client)):
            if time.monotonic() > deadline:
                raise CliError(
                    f"containers still run after {STOP_SECONDS:.0f} s, so the node was left running: "
                    "pycompose container ls"
                )
            time.sleep(0.1)


def _alive(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@command("status")
@click.option("--format", "form", type=click.Choice(["text", "json"]), default="text", help="For people, or JSON.")
def status(form: str) -> None:
    """Say whether this machine's node runs, and what is wrong with it; exit status 3 when it does not run."""
    path = local_socket()
    try:
        running = local.answers(path)
    except PermissionError:
        raise CliError(f"you may not talk to the node at {path}; run as root, or join the group pycompose") from None
    found: dict[str, Any] = {"running": running, "socket": path, "log": local.log_path(), **local.record(path)}
    found["systemd"] = unit.installed(os.path.dirname(path))
    if running:
        with settings().client(start=False) as client:
            found.update(_place(path) or _facts(client))
    print(json.dumps(found) if form == "json" else "\n".join(_text(found, time.time())))
    if not running:
        raise Exit(NOT_RUNNING)


def _place(path: str) -> dict[str, Any]:
    """Return what a node without a manager says of itself; {} when it has one."""
    from pycompose.compose.cli.membership import local_state

    one = local_state(path)
    if one is None:
        return {}
    return {
        "node": one.node_id,
        "hostname": one.hostname,
        "state": "connected" if one.session else "no manager answers",
        "role": one.role,
        "cluster": one.cluster_id,
        "cluster_name": one.cluster_name,
        "address": one.advertise_address,
        "managers": sorted(one.managers),
        "certificate_ends": one.certificate_ends.seconds,
        "containers": one.tasks,
        "containers_running": one.containers_running,
        "warnings": [one.problem] if one.problem else [],
    }


def _facts(client: Client) -> dict[str, Any]:
    manager = client.control.GetManager(control_pb2.GetManagerRequest())
    words = [state(task) for task in _tasks(client)]
    found: dict[str, Any] = {"version": manager.version, "store": manager.store, "containers": len(words)}
    found["containers_running"] = words.count("running") + words.count("paused")
    try:
        one = client.control.GetNode(control_pb2.GetNodeRequest()).node
    except ClientError as error:
        return {**found, "worker": str(error)}
    what = one.description
    return {
        **found,
        "node": one.id,
        "hostname": what.hostname,
        "state": node_pb2.NodeState.Name(one.status.state).removeprefix("NODE_STATE_").lower(),
        "platform": what.platform,
        "kernel": what.kernel_version,
        "cgroup_version": what.cgroup_version,
        "warnings": list(what.warnings),
    }


def _text(found: dict[str, Any], now: float) -> list[str]:
    """Return the lines for people."""
    if not found["running"]:
        rows = {"socket": found["socket"], "log": found["log"]}
        head = "the node does not run; pycompose up or pycompose node start starts it"
    else:
        since = f", since {age(now - found['started'])}" if "started" in found else ""
        head = f"the node runs (process {found.get('pid', 'unknown')}{since})"
        rows = {
            "version": found["version"],
            "cluster": f"{found['role']} of {found['cluster_name']}" if "role" in found else "",
            "managers": ", ".join(found.get("managers", ())),
            "node": f"{found['hostname']} {found['node'][:12]}, {found['state']}" if "node" in found else "",
            "worker": found.get("worker", ""),
            "machine": f"{found['platform']}, Linux {found['kernel']}, cgroup v{found['cgroup_version']}"
            if "platform" in found
            else "",
            "containers": f"{found['containers']}, {found['containers_running']} running",
            "rootless": _rootless(found.get("rootless")),
            "state": found.get("state_dir", ""),
            "store": found.get("store", ""),
            "socket": found["socket"],
            "log": f"journal of {unit.NAME}" if found["systemd"] and not unit.users() else found["log"],
        }
    lines = [f"  {key.ljust(10)}  {value}" for key, value in rows.items() if value]
    return [head, *lines, *(f"  warning: {text}" for text in found.get("warnings", ()))]


@command("dial-stdio", hidden=True)
def dial_stdio() -> None:
    """Join standard input and output to the node's socket, for a client behind ssh."""
    from pycompose.compose.client.ssh import copy_stdio

    address = settings().target().addresses[0]
    if address.kind != "unix":
        raise CliError("dial-stdio is for a node of this machine; name its socket with -H unix:///PATH/api.sock")
    copy_stdio(address.path)


def _rootless(what: dict[str, Any] | None) -> str:
    if not what:
        return ""
    way = {"none": "no way out of this machine"}.get(what["way_out"], f"network by {what['way_out']}")
    limits = ", ".join(what["controllers"])
    return f"runs without root; {way}; {'limits of ' + limits if limits else 'no cgroups, hence no limits'}"


@command("logs")
@click.option("-f", "--follow", is_flag=True, help="Go on with new lines.")
@click.option("-n", "--tail", type=click.IntRange(0), default=50, metavar="LINES", help="Last lines (default 50).")
def logs(follow: bool, tail: int) -> None:
    """Print the log of this machine's node."""
    path = local_socket()
    if unit.installed(os.path.dirname(path)) and not unit.users():
        sys.stdout.flush()
        words = ["journalctl", "-u", unit.NAME, "-n", str(tail), *(["-f"] if follow else [])]
        os.execvp(words[0], words)
    log = local.log_path()
    try:
        _print_log(log, tail, follow=follow)
    except FileNotFoundError:
        raise CliError(f"there is no log at {log}; the node has not run here with this state directory") from None
    except PermissionError:
        raise CliError(f"reading {log} takes root; run this as root: sudo pycompose node logs") from None


def _print_log(path: str, tail: int, *, follow: bool) -> None:
    """Print the last lines of the log, and with `follow` what comes."""
    with open(path, encoding="utf-8", errors="replace") as file:
        sys.stdout.writelines(deque(file, tail))
        while follow:
            sys.stdout.flush()
            time.sleep(LOOK_SECONDS)
            # the node cuts its log to nothing when it is long
            if os.stat(path).st_size < file.tell():
                file.seek(0)
            sys.stdout.write(file.read())


@command("install")
@click.option("--print", "only_print", is_flag=True, help="Print the unit and change nothing.")
def install(only_print: bool) -> None:
    """Make the node a systemd service that starts with the machine; an ordinary user's one, with the user's systemd."""
    files = {unit.path(): unit.text(local.MODULE, state_dir(), run_dir())}
    if not unit.users():
        files[unit.containers_path()] = unit.CONTAINERS_UNIT
    if only_print:
        node, *others = files.items()
        print(node[1] + "".join(f"\n# {place}\n{content}" for place, content in others), end="")
        return None
    if settings().dry_run:
        written = ", ".join(files)
        return settings().would([f"write {written}", f"systemctl enable {unit.NAME}", f"systemctl restart {unit.NAME}"])
    _systemd()
    path = local_socket()
    pid = local.record(path).get("pid")
    if isinstance(pid, int) and _alive(pid) and not unit.installed(run_dir()):
        _end(path, pid)
    if unit.users():
        for folder in (local.log_path(), unit.path()):
            os.makedirs(os.path.dirname(folder), mode=0o700, exist_ok=True)
    for place, content in files.items():
        with open(place, "w", encoding="utf-8") as file:
            file.write(content)
    for words in (("daemon-reload",), ("enable", unit.NAME), ("restart", unit.NAME)):
        problem = unit.control(*words)
        if problem:
            raise CliError(f"{problem}; {unit.path()} is written, pycompose node uninstall takes it away")
    print(f"{unit.path()} is written: the node runs, and starts {_with_what()}")
    return None


def _with_what() -> str:
    if not unit.users():
        return "with the machine"
    if unit.lingers():
        return "with your systemd, which starts with the machine"
    return (
        "when you log in; its containers end when you log out. loginctl enable-linger lets them run on, and starts "
        "all with the machine"
    )


@command("uninstall")
def uninstall() -> None:
    """Take the systemd service away; containers go on running, and nothing of theirs is removed."""
    place = unit.path()
    if not os.path.exists(place):
        print(f"there is no {place}")
        return None
    if settings().dry_run:
        return settings().would([f"systemctl disable --now {unit.NAME}", f"remove {place}"])
    _systemd()
    problem = unit.control("disable", "--now", unit.NAME)
    if problem:
        raise CliError(problem)
    os.unlink(place)
    if not unit.users():
        with contextlib.suppress(FileNotFoundError):
            os.unlink(unit.containers_path())
    unit.control("daemon-reload")
    print(
        f"{place} is removed and the node stopped; containers go on running, "
        f"images and volumes stay in {state_dir()}; pycompose node start starts a node without systemd"
    )
    return None


def _systemd() -> None:
    if unit.there():
        return
    if unit.users():
        raise CliError(
            "no systemd of yours runs here, which a login starts; as root: loginctl enable-linger USER; "
            "pycompose node start starts the node without it"
        )
    raise CliError(
        "this machine does not run systemd; pycompose node start starts the node, "
        "pycompose node install --print shows the unit"
    )
