"""Every call at every port of a cluster's node, with every bad credential (ATTACKS F01, F02, F03, F05).

The calls are enumerated from the descriptors, so that a new one is covered by itself. The cluster is real, its
authority is read from its store with the key beside it, so that what a thief or another cluster would show can be made.
"""

from __future__ import annotations

import asyncio
import importlib
import json
import os
import pkgutil
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from google.protobuf.message import Message
from node.whole import Node, machine, until

import pycompose.proto.v1
from pycompose.manager.ca import Authority, Subject
from pycompose.manager.model import CLUSTER, CLUSTER_ID, Codec, object_key
from pycompose.manager.sealing import Sealer
from pycompose.manager.store.sqlite import SqliteStore
from pycompose.proto import PROTOCOL
from pycompose.proto.peer import Role, may
from pycompose.proto.tls import Identity, new_request
from pycompose.proto.v1 import (
    ca_pb2,
    cluster_pb2,
    dispatcher_pb2,
)

PROBE = Path(__file__).with_name("credentials.py")
MANAGER, JOIN, WORKER = "127.0.0.1:7420", "127.0.0.1:7421", "127.0.0.1:7422"
METHODS = [
    f"/{service.full_name}/{method.name}"
    for module in pkgutil.iter_modules(pycompose.proto.v1.__path__)
    if module.name.endswith("_pb2")
    for service in importlib.import_module(f"pycompose.proto.v1.{module.name}").DESCRIPTOR.services_by_name.values()
    for method in service.methods
] + [
    "/grpc.health.v1.Health/Check",
    "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
    "/pycompose.v1.FutureService/Do",
]
GET, SESSION = "/pycompose.v1.ClusterService/GetCluster", "/pycompose.v1.DispatcherService/Session"
ENTER = "/pycompose.v1.JoinService/Join"
SILENT = 3_400 if os.environ.get("PYCOMPOSE_ATTACKS") == "full" else 400


@dataclass
class Cluster:
    """A node that is a cluster of one, and its authority."""

    node: Node
    authority: Authority
    id: str
    node_id: str

    def identity(
        self,
        role: Role,
        name: str = "n" * 25,
        *,
        cluster: str = "",
        authority: Authority | None = None,
        now: datetime | None = None,
        life: timedelta = timedelta(hours=5),
    ) -> Identity:
        """Make a credential; without arguments a good one of a node that nobody knows."""
        key, request = new_request()
        subject = Subject(role, name, cluster or self.id)
        signer = authority or self.authority
        return Identity(signer.sign(request, subject, now or datetime.now(UTC), life), key, self.authority.pem)

    def ask(
        self,
        who: Identity | None,
        target: str,
        methods: Sequence[str] = METHODS,
        message: Message | None = None,
        *,
        plain: bool = False,
    ) -> dict[str, str]:
        """Call the methods of one port on the node's machine; returns the statuses by method."""
        shown = who or Identity(b"", b"", self.authority.pem)
        asked = {
            "targets": [target],
            "name": self.node_id if target == WORKER else "manager.pycompose",
            "identity": {key: value.decode() for key, value in vars(shown).items()},
            "plain": plain,
            "methods": methods,
            "message": message.SerializeToString().hex() if message else "",
        }
        words = self.node.on_machine(sys.executable, str(PROBE))
        done = subprocess.run(words, input=json.dumps(asked), capture_output=True, text=True, timeout=100)
        assert done.returncode == 0, done.stderr
        found: dict[str, dict[str, str]] = json.loads(done.stdout)
        return found[target]

    def one(self, who: Identity | None, target: str, method: str, message: Message) -> str:
        """Make one call; returns its status."""
        return self.ask(who, target, [method], message)[method]


async def authority_of(state: Path, folder: Path) -> cluster_pb2.Cluster:
    """Read the cluster from a copy of the manager's store, made in a folder."""
    for file in (state / "manager").glob("store.db*"):
        shutil.copy(file, folder / file.name)
    codec = Codec(Sealer.from_file(state / "manager" / "key"))
    store = await SqliteStore.open(folder / "store.db")
    try:
        item = await store.get(object_key(CLUSTER, CLUSTER_ID))
        assert item is not None
        found: cluster_pb2.Cluster = codec.decode(CLUSTER, "", item)
        return found
    finally:
        await store.close()


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A cluster of one node."""
    folder = tmp_path_factory.mktemp("credentials")
    with machine(folder / "node") as node:
        node.compose("node", "start")
        one_file = ["--store", "sqlite"] if "--store" in node.compose("cluster", "init", "--help") else []
        node.compose("cluster", "init", "--advertise-addr", "127.0.0.1", "--name", "fort", *one_file)
        state = node.folder / "state"
        found = asyncio.run(authority_of(state, folder))
        authority = Authority.load(found.authority.certificate, found.authority.key)
        yield Cluster(node, authority, found.id, (state / "agent" / "node-id").read_text())


Make = Callable[[Cluster], Identity | None]
OTHER = Authority.create("d" * 25, datetime.now(UTC))
LONG_AGO = datetime.now(UTC) - timedelta(days=9)
#: Who does not come through the handshake.
STRANGERS: dict[str, Make] = {
    "no certificate": lambda _: None,
    "another cluster's authority": lambda c: c.identity(Role.MANAGER, c.node_id, authority=OTHER),
    "another authority with the same names": lambda c: c.identity(
        Role.MANAGER, c.node_id, authority=Authority.create(c.id, datetime.now(UTC))
    ),
    "expired": lambda c: c.identity(Role.MANAGER, c.node_id, now=LONG_AGO),
    "not valid yet": lambda c: c.identity(Role.MANAGER, c.node_id, now=datetime.now(UTC) + timedelta(days=9)),
}
#: Who does, and has no right to some calls, or to all.
KNOWN: dict[str, tuple[Make, Role]] = {
    "a worker": (lambda c: Identity.load(c.node.folder / "state" / "node"), Role.WORKER),
    "a client": (lambda c: c.identity(Role.CLIENT, "laptop"), Role.CLIENT),
    "a manager of another cluster, by this authority": (
        lambda c: c.identity(Role.MANAGER, c.node_id, cluster="d" * 25),
        Role.NOBODY,
    ),
    "a certificate without a role": (lambda c: c.identity(Role.LOCAL), Role.NOBODY),
}


@pytest.mark.twin("F01", "F02", "F05")
def test_who_may_is_answered(cluster: Cluster) -> None:
    """A client's and a manager's certificate: calls are answered."""
    for role in (Role.CLIENT, Role.MANAGER):
        assert cluster.ask(cluster.identity(role), MANAGER, [GET]) == {GET: "OK"}


@pytest.mark.attack("F01")
@pytest.mark.parametrize("who", STRANGERS)
def test_who_is_no_one_is_shut_out_of_every_port(cluster: Cluster, who: str) -> None:
    """Calls with no certificate, another authority's, an expired one, one that is not valid yet."""
    for target in (MANAGER, WORKER):
        statuses = cluster.ask(STRANGERS[who](cluster), target, METHODS[:3])
        assert {status.split()[0] for status in statuses.values()} == {"UNAVAILABLE"}


@pytest.mark.attack("F01")
@pytest.mark.parametrize("target", [MANAGER, JOIN, WORKER])
def test_who_speaks_without_tls_is_shut_out_of_every_port(cluster: Cluster, target: str) -> None:
    """Calls in plain text."""
    statuses = cluster.ask(None, target, METHODS[:3], plain=True)
    assert {status.split()[0] for status in statuses.values()} == {"UNAVAILABLE"}


@pytest.mark.attack("F01", "F02")
@pytest.mark.parametrize("who", KNOWN)
def test_no_call_is_made_that_a_role_may_not_make(cluster: Cluster, who: str) -> None:
    """Every call with a worker's, a client's, another cluster's certificate, and one without a role."""
    make, role = KNOWN[who]
    closed = [method for method in METHODS if not may(role, method)]
    found = {target: cluster.ask(make(cluster), target, closed) for target in (MANAGER, WORKER)}
    for target, statuses in found.items():
        for method, status in statuses.items():
            assert status.startswith(("PERMISSION_DENIED", "UNIMPLEMENTED")), (target, method, status)
    denied = [method for method, status in found[MANAGER].items() if status.startswith("PERMISSION_DENIED")]
    assert len(denied) >= (2 if role is Role.CLIENT else 20)


@pytest.mark.attack("F01", "F03")
@pytest.mark.parametrize("who", ["no certificate", "another cluster's authority", "a client"])
def test_where_machines_join_nothing_else_can_be_called(cluster: Cluster, who: str) -> None:
    """Every call at the port for joining, with every certificate: only Join is there, and it wants a token."""
    make = STRANGERS[who] if who in STRANGERS else KNOWN[who][0]
    statuses = cluster.ask(make(cluster), JOIN)
    joining = statuses.pop(ENTER)
    assert joining.startswith("INVALID_ARGUMENT a join token begins with PYC1-"), joining
    assert {status.split()[0] for status in statuses.values()} == {"UNIMPLEMENTED"}


@pytest.mark.attack("F01", "F02")
def test_a_removed_nodes_certificate_opens_nothing(cluster: Cluster) -> None:
    """A good certificate of a node that was removed: its session and its renewal are refused, and another's session."""
    gone = "g" * 25
    who = cluster.identity(Role.WORKER, gone)
    hello = dispatcher_pb2.SessionRequest(hello=dispatcher_pb2.SessionHello(node_id=gone))
    renewal = ca_pb2.RenewRequest(certificate_request=new_request()[1])
    for method, message in ((SESSION, hello), ("/pycompose.v1.CaService/Renew", renewal)):
        assert f"PERMISSION_DENIED node {gone} was removed from the cluster" in cluster.one(
            who, MANAGER, method, message
        )
    hello.hello.node_id = cluster.node_id
    assert f"the certificate is of node {gone}, not {cluster.node_id}" in cluster.one(who, MANAGER, SESSION, hello)


@pytest.mark.attack("F03")
def test_tokens_that_are_not_good_let_nobody_in(cluster: Cluster) -> None:
    """Tokens changed by one character, cut, of another cluster, rotated away: each is refused, and nothing is left."""
    good = cluster.node.compose("cluster", "token", "worker", "-q").partition("@")[0]
    turned = "0" if good[-1] != "0" else "1"
    bad = [good[:-1] + turned, good[:-1], good.replace("PYC1", "PYC2"), good[:9] + turned * 2 + good[11:], ""]
    cluster.node.compose("cluster", "token", "worker", "--rotate")
    for token in [*bad, good]:
        message = ca_pb2.JoinRequest(token=token, node_id="x" * 25, certificate_request=new_request()[1])
        message.now.GetCurrentTime()
        status = cluster.one(None, JOIN, ENTER, message)
        assert status.startswith(("PERMISSION_DENIED", "INVALID_ARGUMENT")), status
        assert not token or token not in status
    assert len(cluster.node.compose("node", "ls", "--format", "{{.ID}}").split()) == 1
    assert good.rpartition("-")[2] not in (cluster.node.folder / "state" / "log" / "node.log").read_text()


CROWD = """
import resource, socket, sys
hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
ports, count = [int(one) for one in sys.argv[2:]], int(sys.argv[1])
made = []
for number in range(count):
    for port in ports:
        try:
            made.append(socket.create_connection(("127.0.0.1", port), 5))
        except OSError:
            pass
print(len(made), flush=True)
sys.stdin.read()
"""


@pytest.mark.attack("F05")
def test_silent_connections_to_a_port_keep_nobody_from_another(cluster: Cluster) -> None:
    """Connections that say nothing, at the ports for joining, the API and the worker: calls are answered as before."""
    words = cluster.node.on_machine(sys.executable, "-c", CROWD, str(SILENT), "7420", "7421", "7422")
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as crowd:
        assert crowd.stdout is not None
        assert int(crowd.stdout.readline()) >= SILENT
        try:
            assert "1 of 1 ready" in cluster.node.compose("cluster", "status")
            client = cluster.identity(Role.CLIENT, "laptop")
            assert cluster.ask(client, MANAGER, [GET]) == {GET: "OK"}
            # the port for joining is free again once the handshakes' time is over
            deadline = time.monotonic() + 60
            while not (told := cluster.one(None, JOIN, ENTER, ca_pb2.JoinRequest())).startswith("INVALID_ARGUMENT"):
                assert time.monotonic() < deadline, told
                time.sleep(1)
        finally:
            crowd.kill()
    until(lambda: "1 of 1 ready" in cluster.node.cli("cluster", "status").stdout)


@pytest.mark.twin("F03")
def test_a_good_token_is_believed(cluster: Cluster) -> None:
    """The token that the cluster prints gets so far that the manager tries to reach the machine, which is not there."""
    good = cluster.node.compose("cluster", "token", "worker", "-q").partition("@")[0]
    message = ca_pb2.JoinRequest(token=good, node_id="y" * 25, certificate_request=new_request()[1], protocol=PROTOCOL)
    message.description.access_address = "127.0.0.1:7499"
    message.now.GetCurrentTime()
    assert "cannot reach this machine at 127.0.0.1:7499" in cluster.one(None, JOIN, ENTER, message)
