"""`cluster`: the cluster that this node's manager serves."""

from __future__ import annotations

import time
from typing import Any

import click

from pycompose.compose.cli.authority import ca
from pycompose.compose.cli.autolock import autolock, turn, unlock, unlock_key
from pycompose.compose.cli.backup import backup, restore
from pycompose.compose.cli.errors import UsageError
from pycompose.compose.cli.flags import group
from pycompose.compose.cli.objects import as_dict
from pycompose.compose.cli.recover import recover
from pycompose.compose.cli.settings import settings
from pycompose.compose.cli.words import age
from pycompose.compose.client import Client
from pycompose.proto.tls import new_request
from pycompose.proto.v1 import cluster_pb2, cluster_pb2_grpc, control_pb2, node_pb2

DAY = 24 * 3600
PORT = click.IntRange(1, 65535)
#: Seconds that a cluster may take to be made: everything is copied to etcd; and that the node's own worker may take.
INIT_SECONDS, OWN_SECONDS = 120.0, 60.0


@group()
def cluster() -> None:
    """Manage the cluster.

    \b
    pycompose cluster init --advertise-addr 10.0.0.1     make a cluster of this node
    pycompose cluster token worker                       what to type on a machine that joins
    pycompose context create laptop --from-node          a certificate for one of them
    pycompose context export laptop                      take it there
    pycompose cluster backup /backup/cluster             everything that managers know, in a file
    """


for _command in (backup, restore, recover, ca, autolock, unlock, unlock_key):
    cluster.add_command(_command)


def _calls(client: Client) -> Any:
    return client.service(cluster_pb2_grpc.ClusterServiceStub)


@cluster.command("init")
@click.option("--advertise-addr", "advertise", required=True, metavar="ADDRESS", help="How others reach this machine.")
@click.option("--listen-addr", "listen", default="", metavar="ADDRESS", help="Where to listen (default: everywhere).")
@click.option("--port", type=PORT, help="TCP port of the API (default: 7420).")
@click.option("--join-port", type=PORT, help="TCP port at which machines join (default: 7421).")
@click.option("--worker-port", type=PORT, help="TCP port of this node's worker (default: 7422).")
@click.option("--name", default="", help="For people.")
@click.option("--autolock", "locks", is_flag=True, help="Managers ask for a key after a start: see cluster autolock.")
@click.option("--cert-expiry", metavar="DURATION", help="Life of nodes' certificates, which renew themselves: 2160h.")
@click.option(
    "--store",
    type=click.Choice(["etcd", "sqlite"]),
    default="etcd",
    help="Where state is: etcd lets further managers join, sqlite is for one alone (default: etcd).",
)
@click.option("--etcd-peer-port", type=PORT, help="TCP port of etcd for the other managers (default: 7423).")
@click.option("--etcd-client-port", type=PORT, help="TCP port of etcd on loopback (default: 7424).")
def init(
    advertise: str,
    listen: str,
    port: int | None,
    join_port: int | None,
    worker_port: int | None,
    name: str,
    locks: bool,
    cert_expiry: str | None,
    store: str,
    etcd_peer_port: int | None,
    etcd_client_port: int | None,
) -> None:
    """Make a cluster of this node: others can join it, and clients reach it over mutual TLS.

    Its state moves to an etcd that the node runs from then on. Containers go on running, and commands on this machine
    go on as before.
    """
    chosen = settings()
    request = cluster_pb2.InitClusterRequest(
        advertise_address=advertise,
        listen_address=listen,
        port=port or 0,
        join_port=join_port or 0,
        worker_port=worker_port or 0,
        store=cluster_pb2.ClusterStore.Value(f"CLUSTER_STORE_{store.upper()}"),
        etcd_peer_port=etcd_peer_port or 0,
        etcd_client_port=etcd_client_port or 0,
    )
    request.spec.name = name
    if cert_expiry:
        request.spec.certificate_life.FromNanoseconds(_nanoseconds(cert_expiry))
    with chosen.client() as client:
        answer = _calls(client).InitCluster(request, timeout=INIT_SECONDS)
        print(answer.cluster.id, flush=True)
        answer.manager.problem = answer.manager.problem or _joined(client)
        if locks:
            turn(client, on=True)
    if answer.manager.problem:
        chosen.tell(f"warning: {answer.manager.problem}; the manager tries on")
    prefix = chosen.command_prefix()
    chosen.tell(
        f"this node is a manager of cluster {answer.cluster.spec.name}; on a machine that joins as a worker:\n"
        f"  pycompose node join {answer.worker_token}@{answer.manager.join_address}\n"
        f"for a client elsewhere, which reaches the manager at {answer.manager.address}:\n"
        f"  {prefix}context create NAME --from-node\n"
        f"  {prefix}context export NAME"
    )


def _joined(client: Client) -> str:
    """Wait until the manager has begun anew and its own worker has joined; return why that does not come about."""
    from pycompose.compose.client.errors import ClientError

    deadline, problem = time.monotonic() + OWN_SECONDS, ""
    while time.monotonic() < deadline:
        try:
            nodes = client.control.ListNodes(control_pb2.ListNodesRequest()).nodes
            if any(not one.description.access_address.startswith("unix:") for one in nodes):
                return ""
            problem = _calls(client).GetCluster(cluster_pb2.GetClusterRequest()).manager.problem
        except ClientError as error:
            problem = str(error)
        time.sleep(0.1)
    return problem


def _nanoseconds(text: str) -> int:
    from pycompose.compose.loader.units import parse_duration

    try:
        return parse_duration(text)
    except ValueError as error:
        raise UsageError(f"--cert-expiry {text}: {error}") from None


@cluster.command("token")
@click.option("--rotate", is_flag=True, help="Make a new token; the one before is worth nothing from then on.")
@click.option("-q", "--quiet", is_flag=True, help="TOKEN@HOST:PORT alone.")
@click.argument("role", type=click.Choice(["worker", "manager"]))
def token(role: str, rotate: bool, quiet: bool) -> None:
    """Print the command line by which a machine joins."""
    which = node_pb2.NodeRole.Value(f"NODE_ROLE_{role.upper()}")
    with settings().client(start=False) as client:
        if rotate:
            found = _calls(client).RotateJoinToken(cluster_pb2.RotateJoinTokenRequest(role=which))
        else:
            found = _calls(client).GetJoinToken(cluster_pb2.GetJoinTokenRequest(role=which))
    invitation = f"{found.token}@{found.address}"
    print(invitation if quiet else f"pycompose node join {invitation}")


@cluster.command("status")
@click.option(
    "-f", "--format", "form", type=click.Choice(["text", "json"]), default="text", help="For people, or json."
)
def status(form: str) -> None:
    """Tell what the cluster is, and what is wrong with it."""
    import json

    with settings().client(start=False) as client:
        found = _calls(client).GetCluster(cluster_pb2.GetClusterRequest())
        nodes = client.control.ListNodes(control_pb2.ListNodesRequest()).nodes
    if form == "json":
        shown = as_dict(found.cluster) | {"manager": as_dict(found.manager), "nodes": [as_dict(one) for one in nodes]}
        print(json.dumps(shown, indent=2))
        return
    for problem in problems(found.manager, nodes, time.time()):
        print(f"! {problem}")
    rows = [
        ("cluster", f"{found.cluster.spec.name} ({found.cluster.id})"),
        ("manager", f"{found.manager.address}, listens on {found.manager.listen}"),
        ("certificate", f"ends in {age(found.manager.certificate_ends.seconds - time.time()).lower()}, renewed before"),
        ("nodes", _counts(nodes)),
        *(("" if number else "managers", line) for number, line in enumerate(managers(nodes))),
    ]
    for word, text in rows:
        print(f"{word:<13}{text}")


def problems(manager: cluster_pb2.ManagerAddress, nodes: Any, now: float) -> list[str]:
    """Return what is wrong, each with what to do about it."""
    found = []
    if manager.problem:
        found.append(f"{manager.problem}; nobody elsewhere reaches this manager")
    if manager.certificate_ends.seconds < now + DAY:
        found.append("the manager's certificate ends within a day and was not renewed; look at pycompose node logs")
    found += trouble_of_managers(nodes)
    found += [
        f"node {one.description.hostname} is down: {one.status.message}"
        for one in nodes
        if one.status.state == node_pb2.NODE_STATE_DOWN
    ]
    return found


def managers(nodes: Any) -> list[str]:
    """Return a line for each manager: its host name, what it is, its address; [] where one alone keeps a file."""
    from pycompose.compose.cli.node import manager_status

    found = sorted((one.description.hostname, manager_status(one), one.status.manager.address) for one in nodes)
    shown = [row for row in found if row[1]]
    wide = max((len(name) for name, _, _ in shown), default=0)
    return [f"{name:<{wide}}  {word.lower():<11}  {address}".rstrip() for name, word, address in shown]


def trouble_of_managers(nodes: Any) -> list[str]:
    """Return what is wrong with the managers, each with what to do about it."""
    voters = [one for one in nodes if one.status.HasField("manager") and not one.status.manager.learner]
    missing = sorted(one.description.hostname for one in voters if not one.status.manager.reachable)
    learning = sorted(
        one.description.hostname
        for one in nodes
        if one.spec.role == node_pb2.NODE_ROLE_MANAGER and one.status.state and one not in voters
    )
    spare = (len(voters) - 1) // 2 - len(missing)
    found = []
    if missing:
        left = f"{spare} more may be lost" if spare > 0 else "no other may be lost"
        found.append(f"managers that do not answer: {', '.join(missing)}; {left}: start them again, or demote them")
    elif len(voters) == 2:
        found.append("with two managers either one's loss stops all changes; promote a third (pycompose node promote)")
    if learning:
        found.append(f"{', '.join(learning)}: to be a manager, and has no complete copy of the state yet")
    return found


def _counts(nodes: Any) -> str:
    ready = sum(one.status.state == node_pb2.NODE_STATE_READY for one in nodes)
    return f"{ready} of {len(nodes)} ready"


def certificate_for(client: Client, name: str) -> tuple[dict[str, bytes], cluster_pb2.IssueClientCertificateResponse]:
    """Return a new client's three files by the keys cert, key and ca, and the manager's answer.

    Raises:
        ClientError: the node is of no cluster, or refuses the name.
    """
    key, request = new_request()
    answer = _calls(client).IssueClientCertificate(
        cluster_pb2.IssueClientCertificateRequest(request=request, name=name)
    )
    if not answer.managers:
        raise UsageError("the manager says no address of its own; give --endpoint HOST:7420")
    return {"cert": answer.certificate, "key": key, "ca": answer.authorities}, answer
