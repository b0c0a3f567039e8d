"""This machine's node from the client's side: does it answer, and start it when not.

The node is another program (`python -m pycompose.worker.node`): the front end knows its command line and its files,
RUN/api.sock, RUN/node.json and STATE/log/node.log, not its code.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

from pycompose.compose.client import unit
from pycompose.compose.client.errors import NodeError
from pycompose.proto import places

START_SECONDS = 60.0
RETURN_SECONDS = 3.0
"""How long a manager may take to begin anew, or to be started again, before its node is said not to answer."""
HOPELESS = 4
"""Ends of the node's processes, soon after their starts, after which it is given up."""
#: Exit status of a node that found another one running or starting (EX_TEMPFAIL, sysexits.h).
RUNS_ALREADY = 75
MODULE = "pycompose.worker.node"


def answers(path: str) -> bool:
    """Return whether something listens on the unix socket at `path`.

    Raises:
        PermissionError: the caller may not connect.
    """
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(path)
        except PermissionError:
            raise
        except OSError:
            return False
    return True


def comes_back(path: str) -> bool:
    """Wait for a node that runs and whose manager begins anew just now; return whether it answers.

    Raises:
        PermissionError: the caller may not connect.
    """
    pid, deadline = record(path).get("pid", 0), time.monotonic() + RETURN_SECONDS
    while pid and os.path.exists(f"/proc/{pid}") and time.monotonic() < deadline:
        time.sleep(0.05)
        if answers(path):
            return True
    return False


def log_path() -> str:
    """Return the path of the node's log."""
    from pycompose.compose.client.connection import state_dir

    return os.path.join(state_dir(), "log", "node.log")


def record(path: str) -> dict[str, Any]:
    """Return what the running node wrote about itself in node.json beside its socket; {} when there is none."""
    try:
        with open(os.path.join(os.path.dirname(path), "node.json"), encoding="utf-8") as file:
            found = json.load(file)
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def start(path: str, tell: Callable[[str], None]) -> None:
    """Start the node in the background and wait until its API serves.

    Args:
        path: the socket at which it will answer.
        tell: is told that this takes a moment.

    Raises:
        NodeError: the node is root's and the caller is not, or it did not come up; with the last lines of its log.
    """
    if sys.platform != "linux":
        raise NodeError("a node runs on Linux only; name a node elsewhere with -H or PYCOMPOSE_HOST")
    if os.geteuid() != 0 and os.path.dirname(path) == places.RUN:
        raise NodeError(
            f"no node answers at {path}, and starting one takes root; run this once as root: sudo pycompose node start"
        )
    tell("Starting the node …")
    if unit.installed(os.path.dirname(path)):
        problem = unit.control("start", unit.NAME)
        if problem:
            raise NodeError(f"the node did not start; {problem}; pycompose node logs says more")
        return
    log = log_path()
    try:
        os.makedirs(os.path.dirname(log), mode=0o700, exist_ok=True)
    except OSError as error:
        raise NodeError(
            f"the node cannot write its state to {error.filename}: {error.strerror}; name another folder with "
            "PYCOMPOSE_STATE_DIR"
        ) from None
    with open(log, "ab") as output:
        offset = output.seek(0, os.SEEK_END)
        child = subprocess.Popen(
            [sys.executable, "-m", MODULE],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
            cwd="/",
        )
    deadline = time.monotonic() + START_SECONDS
    while not serving(path):
        status = child.poll()
        # another pycompose may have started the node at the same moment: then this child gives way to it
        if status not in (None, RUNS_ALREADY) and not answers(path):
            raise NodeError(f"the node did not start (exit status {status}); {_log_says(log, offset)}")
        if _log_tail(log, offset).count(" ended with ") >= HOPELESS:
            child.terminate()
            raise NodeError(f"the node does not come up; {_log_says(log, offset)}")
        if time.monotonic() > deadline:
            raise NodeError(f"the node was not ready after {START_SECONDS:.0f} s; {_log_says(log, offset)}")
        time.sleep(0.05)


def serving(path: str) -> bool:
    """Return whether the manager's health says SERVING."""
    if not answers(path):
        return False
    import grpc
    from grpc_health.v1 import health_pb2

    with grpc.insecure_channel(f"unix:{path}") as channel:
        try:
            check = channel.unary_unary(
                "/grpc.health.v1.Health/Check",
                request_serializer=health_pb2.HealthCheckRequest.SerializeToString,
                response_deserializer=health_pb2.HealthCheckResponse.FromString,
            )
            answer = check(health_pb2.HealthCheckRequest(), timeout=2)
        except grpc.RpcError:
            return False
    return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)


def _log_tail(log: str, offset: int) -> str:
    try:
        with open(log, encoding="utf-8", errors="replace") as file:
            file.seek(offset)
            return file.read()
    except OSError:
        return ""


def _log_says(log: str, offset: int, lines: int = 8) -> str:
    tail = _log_tail(log, offset).splitlines()[-lines:]
    said = "\n".join("    " + line for line in tail)
    return f"its log is {log}" + (f" and ends with:\n{said}" if tail else ", and is empty")
