"""`node join` and `node leave`: this machine comes into a cluster, and goes out of it."""

from __future__ import annotations

import os
import sys
import time

import click

from pycompose.compose.cli.errors import CliError
from pycompose.compose.cli.flags import command
from pycompose.compose.cli.node_local import local_socket, need_root
from pycompose.compose.cli.settings import settings
from pycompose.compose.client import Client, ClientError
from pycompose.compose.client import node as local
from pycompose.proto.v1 import node_service_pb2, node_service_pb2_grpc

#: The worker starts, asks the manager, is tried by it, and starts anew.
START_SECONDS, JOIN_SECONDS, BACK_SECONDS, LEAVE_SECONDS, DRAIN_SECONDS = 20.0, 60.0, 60.0, 180.0, 24 * 3600.0
LOOK_SECONDS = 0.1


@command("join")
@click.option("--advertise-addr", "advertise", default="", metavar="ADDRESS", help="How other nodes reach this one.")
@click.option("--listen-addr", "listen", default="", metavar="ADDRESS", help="Where to listen (default: everywhere).")
@click.option("--port", type=click.IntRange(1, 65535), help="TCP port for managers and other nodes (default: 7422).")
@click.argument("invitation", metavar="TOKEN@HOST[:PORT]|-")
def join(advertise: str, listen: str, port: int | None, invitation: str) -> None:
    """Make this machine a node of a cluster.

    \b
    pycompose cluster token worker               on a manager: prints the command line
    pycompose node join TOKEN@HOST:7421          here; - reads TOKEN@HOST:7421 from standard input
    """
    path = local_socket()
    need_root("joining a cluster", "join")
    text = sys.stdin.readline().strip() if invitation == "-" else invitation
    if settings().dry_run:
        return settings().would([f"join the cluster whose manager is at {text.rpartition('@')[2]}"])
    if not local.answers(path):
        local.start(path, settings().tell)
    with _worker(path) as client:
        request = node_service_pb2.JoinClusterRequest(
            invitation=text, advertise_address=advertise, listen_address=listen, port=port or 0
        )
        node = _calls(client).JoinCluster(request, timeout=JOIN_SECONDS).node
        back = _until_back(client)
    print(f"this node is a {node.role} of cluster {node.cluster_name}")
    if not back.session:
        settings().tell(f"warning: no manager has accepted it yet; {back.problem or 'look at pycompose node status'}")
    return None


@command("leave")
@click.option("-f", "--force", is_flag=True, help="Stop and remove tasks here; leave also when no manager answers.")
@click.option("--drain", is_flag=True, help="Let tasks move to other nodes first, and wait for that.")
def leave(force: bool, drain: bool) -> None:
    """Make a single node of this machine again; its cluster's tasks, networks and secrets go.

    Volumes and images stay. The cluster lists the node as down until pycompose node rm forgets it.
    """
    path = local_socket()
    need_root("leaving a cluster", "leave")
    if settings().dry_run:
        return settings().would([*(["let the tasks move to other nodes"] if drain else []), "leave the cluster"])
    with _worker(path) as client:
        if drain:
            settings().tell("waiting until the tasks are on other nodes; Ctrl+C leaves the node drained")
        request = node_service_pb2.LeaveClusterRequest(force=force, drain=drain)
        answer = _calls(client).LeaveCluster(request, timeout=DRAIN_SECONDS if drain else LEAVE_SECONDS)
        _until_back(client)
    _until_serving(path)
    print("this node is a single node")
    if not answer.heard:
        settings().tell("no manager has heard of it; on one of them: pycompose node rm --force NODE")
    return None


def _calls(client: Client) -> node_service_pb2_grpc.NodeServiceStub:
    return client.service(node_service_pb2_grpc.NodeServiceStub)  # type: ignore[no-any-return]


def _worker(path: str) -> Client:
    """Return a client of the node's worker, which may just be starting."""
    own = os.path.join(os.path.dirname(path), "worker.sock")
    deadline = time.monotonic() + START_SECONDS
    while not local.answers(own):
        if time.monotonic() > deadline:
            raise CliError("the node's worker does not answer; pycompose node status and pycompose node logs say more")
        time.sleep(LOOK_SECONDS)
    return Client(f"unix://{own}", start=False)


def local_state(path: str) -> node_service_pb2.GetLocalResponse | None:
    """Return what the node of a socket (api.sock) says of its place in a cluster; None when nobody says it."""
    with Client(f"unix://{path}", start=False) as client:
        try:
            return _calls(client).GetLocal(node_service_pb2.GetLocalRequest())
        except ClientError:
            return None


def _until_back(client: Client) -> node_service_pb2.GetLocalResponse:
    """Wait until the worker has started anew, and has a session with a manager; return what it says of itself."""
    deadline = time.monotonic() + BACK_SECONDS
    found = node_service_pb2.GetLocalResponse(starting_anew=True)
    while (found.starting_anew or not found.session) and time.monotonic() < deadline:
        time.sleep(LOOK_SECONDS)
        try:
            found = _calls(client).GetLocal(node_service_pb2.GetLocalRequest())
        except ClientError:
            continue
        if found.problem and not found.starting_anew:
            break
    return found


def _until_serving(path: str) -> None:
    deadline = time.monotonic() + BACK_SECONDS
    while not local.serving(path) and time.monotonic() < deadline:
        time.sleep(LOOK_SECONDS)
