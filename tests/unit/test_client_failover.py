"""A client of several managers: another takes over when one goes away, and what is wrong is said by its kind."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.rpc import code_pb2, status_pb2  # type: ignore[import-untyped]
from unit.authority import DAY, Authority

from pycompose.compose.client import ApiError, Client, ClientError, NodeError, Target
from pycompose.compose.client.addresses import Address, parse
from pycompose.compose.client.apply import apply
from pycompose.compose.client.diagnosis import ours, validity, why
from pycompose.compose.client.links import race
from pycompose.compose.client.ssh import command, explained
from pycompose.compose.client.streams import Ended, Streams
from pycompose.compose.plan.steps import Step
from pycompose.proto.v1 import control_pb2, control_pb2_grpc, network_pb2, node_pb2


class Manager(control_pb2_grpc.ControlServiceServicer):
    """A manager that says its name; `before` runs at each call, and may end it."""

    def __init__(self, name: str) -> None:
        self.name, self.calls = name, list[str]()
        self.before: Callable[[Any], None] = lambda context: None

    def _called(self, what: str, context: Any) -> None:
        self.calls.append(what)
        self.before(context)

    def GetNode(self, request: Any, context: Any) -> control_pb2.GetNodeResponse:
        self._called("GetNode", context)
        return control_pb2.GetNodeResponse(node=node_pb2.Node(id=self.name))

    def StopTasks(self, request: Any, context: Any) -> control_pb2.StopTasksResponse:
        self._called("StopTasks", context)
        return control_pb2.StopTasksResponse()

    def Watch(self, request: Any, context: Any) -> Iterator[control_pb2.WatchResponse]:
        self._called("Watch", context)
        yield control_pb2.WatchResponse()
        self.ended = threading.Event()
        context.add_callback(self.ended.set)
        self.ended.wait()


def serve(manager: Manager, port: int = 0, credentials: grpc.ServerCredentials | None = None) -> tuple[Any, int]:
    server = grpc.server(ThreadPoolExecutor(4), options=[("grpc.so_reuseport", 0)])
    control_pb2_grpc.add_ControlServiceServicer_to_server(manager, server)
    place = f"127.0.0.1:{port}"
    port = server.add_secure_port(place, credentials) if credentials else server.add_insecure_port(place)
    server.start()
    return server, port


@contextmanager
def managers(*names: str, kind: type[Manager] = Manager) -> Iterator[tuple[list[Manager], list[Any], Target]]:
    """Serve some managers; ends them all."""
    with ExitStack() as stack:
        made, servers, addresses = [], [], []
        for name in names:
            manager = kind(name)
            server, port = serve(manager)
            stack.callback(server.stop, 0)
            made.append(manager)
            servers.append(server)
            addresses.append(Address("tcp", "127.0.0.1", port))
        yield made, servers, Target(tuple(addresses), "prod")


def node(client: Client) -> str:
    return client.control.GetNode(control_pb2.GetNodeRequest()).node.id


def test_another_manager_takes_over_in_the_middle_of_a_command() -> None:
    with managers("a", "b", "c") as (_, servers, target), Client(target) as client:
        assert node(client) == "a"
        servers[0].stop(0).wait()
        assert node(client) == "b"
        servers[1].stop(0).wait()
        assert node(client) == "c"


def test_one_that_cannot_serve_is_left_for_another() -> None:
    def unable(context: Any) -> None:
        status = status_pb2.Status(code=code_pb2.UNAVAILABLE, message="it has no majority")
        context.set_trailing_metadata((("grpc-status-details-bin", status.SerializeToString()),))
        context.abort(grpc.StatusCode.UNAVAILABLE, "the cluster has lost its majority")

    with managers("a", "b") as (made, _, target), Client(target) as client:
        made[0].before = unable
        assert node(client) == "b"
        made[1].before = unable
        with pytest.raises(ApiError, match="lost its majority"):
            node(client)
        made[0].before = made[1].before = lambda context: None
        assert node(client)


def test_what_may_have_been_done_is_not_done_again() -> None:
    with managers("a", "b") as (made, servers, target), Client(target) as client:
        assert node(client) == "a"

        def die(context: Any) -> None:
            servers[0].stop(0)
            threading.Event().wait(0.2)

        made[0].before = die
        with pytest.raises(NodeError):
            client.control.StopTasks(control_pb2.StopTasksRequest())
        assert made[0].calls == ["GetNode", "StopTasks"]
        assert made[1].calls == []
        # and the next call, which did not leave, goes to the other
        client.control.StopTasks(control_pb2.StopTasksRequest())
        assert made[1].calls == ["StopTasks"]


def test_a_manager_that_comes_back_is_waited_for() -> None:
    with managers("a") as (_, servers, target), Client(target) as client:
        assert node(client) == "a"
        servers[0].stop(0).wait()
        back: list[Any] = []
        timer = threading.Timer(0.5, lambda: back.append(serve(Manager("again"), target.addresses[0].port)[0]))
        timer.start()
        try:
            assert node(client) == "again"
        finally:
            timer.join()
            back[0].stop(0).wait()


def test_a_kept_stream_goes_on_at_another_manager() -> None:
    with managers("a", "b") as (made, servers, target), Client(target) as client:
        streams = Streams()
        streams.keep("watch", lambda last: client.control.Watch(control_pb2.WatchRequest()))
        assert isinstance(streams.get(30), tuple)
        servers[0].stop(0).wait()
        found = [streams.get(30) for _ in range(2)]
        assert not any(item is None or isinstance(item[1], Ended) for item in found)
        assert made[1].calls == ["Watch"]
        streams.close()


class Networks(Manager):
    """A manager that makes networks in what all managers share."""

    made: list[network_pb2.Network]

    def CreateNetwork(self, request: Any, context: Any) -> control_pb2.CreateNetworkResponse:
        self.before(context)
        self.made.append(network_pb2.Network(id=f"n{len(self.made)}", spec=request.spec))
        self._called("CreateNetwork", context)
        return control_pb2.CreateNetworkResponse(network=self.made[-1])

    def ListNetworks(self, request: Any, context: Any) -> control_pb2.ListNetworksResponse:
        return control_pb2.ListNetworksResponse(networks=self.made)


@pytest.mark.parametrize("done", [True, False])
def test_a_step_whose_manager_died_is_done_once(done: bool) -> None:
    """It was carried out before the manager went away, or not: either way there is one network afterwards."""
    made: list[network_pb2.Network] = []
    with managers("a", "b", kind=Networks) as (both, servers, target), Client(target) as client:
        both[0].made = both[1].made = made  # type: ignore[attr-defined]
        assert node(client) == "a"

        def die(context: Any) -> None:
            if done == bool(made):
                servers[0].stop(0)
                threading.Event().wait(0.2)
                context.abort(grpc.StatusCode.CANCELLED, "gone")

        both[0].before = die
        spec = network_pb2.NetworkSpec(name="p_default", project="p")
        assert apply(client, Step("create", "network", "p_default", spec=spec)) == "n0"
        assert len(made) == 1


def test_nobody_answers() -> None:
    with managers("a", "b") as (_, servers, target):
        for server in servers:
            server.stop(0).wait()
        with pytest.raises(NodeError, match=r"none of the 2 managers of prod can be reached\n.*nothing listens there"):
            Client(target)


def test_a_race_is_won_by_who_accepts() -> None:
    with managers("a") as (_, _, target), socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        refused = Address("tcp", "127.0.0.1", closed.getsockname()[1])
        unknown = Address("tcp", "no-such-name.invalid", 1)
        winner, problems = race([refused, unknown, *target.addresses], 30)
        assert winner == target.addresses[0]
        assert "nothing listens" in problems[refused]
        assert "not known" in problems[unknown]
        assert race([refused], 30)[0] is None


@contextmanager
def secured(theirs: Authority, trusted: Authority, role: str = "manager", **valid: timedelta) -> Iterator[Address]:
    certificate, key = theirs.issue(role, **valid)
    credentials = grpc.ssl_server_credentials([(key, certificate)], trusted.pem, require_client_auth=True)
    server, port = serve(Manager("tls"), credentials=credentials)
    try:
        yield Address("tcp", "127.0.0.1", port)
    finally:
        server.stop(0).wait()


def test_mutual_tls(tmp_path: Path) -> None:
    authority = Authority()
    folder = authority.client(tmp_path)
    with secured(authority, authority) as address, Client(Target((address,), "prod", folder)) as client:
        assert node(client) == "tls"
        assert why(address, folder) == ""
        found = validity(folder / "cert.pem")
        assert found is not None
        assert found[0] < found[1]


BAD_SERVERS: list[tuple[str, dict[str, Any], str]] = [
    ("expired", {"begin": -3 * DAY, "end": -DAY}, "certificate has expired; this machine's clock says"),
    ("early", {"begin": DAY, "end": 2 * DAY}, "not valid yet; this machine's clock says"),
    ("worker", {"role": "worker"}, "what answers is a node, but no manager"),
    ("other", {}, "of another CA than this context's"),
]


@pytest.mark.parametrize(("kind", "certificate", "said"), BAD_SERVERS, ids=[row[0] for row in BAD_SERVERS])
def test_a_manager_that_is_not_believed(tmp_path: Path, kind: str, certificate: Any, said: str) -> None:
    authority = Authority()
    theirs = Authority() if kind == "other" else authority
    folder = authority.client(tmp_path)
    with secured(theirs, authority, **certificate) as address:
        with Client(Target((address,), "prod", folder)) as client, pytest.raises(ClientError, match=said):
            node(client)


def test_a_client_that_is_not_believed(tmp_path: Path) -> None:
    authority, stranger = Authority(), Authority()
    expired = authority.client(tmp_path / "expired", begin=-3 * DAY, end=-DAY)
    foreign = stranger.client(tmp_path / "foreign")
    (foreign / "ca.pem").write_bytes(authority.pem)
    with secured(authority, authority) as address:
        with Client(Target((address,), "prod", expired)) as client:
            with pytest.raises(ClientError, match=r"this context's certificate expired on .*make a context anew"):
                node(client)
        assert why(address, foreign) != ""
        with Client(Target((address,), "prod", foreign)) as client, pytest.raises(ClientError, match="certificate"):
            node(client)


def test_what_speaks_no_tls(tmp_path: Path) -> None:
    folder = Authority().client(tmp_path)
    with managers("plain") as (_, _, target):
        assert "no manager" in why(target.addresses[0], folder)


@pytest.mark.parametrize(
    ("alert", "said"),
    [
        ("TLSV1_ALERT_UNKNOWN_CA", "does not know the CA"),
        ("SSLV3_ALERT_CERTIFICATE_EXPIRED", "one of the two clocks"),
        ("SSLV3_ALERT_BAD_CERTIFICATE", "refuses this context's certificate"),
        ("WRONG_VERSION_NUMBER", "speaks no TLS"),
    ],
)
def test_alerts(alert: str, said: str) -> None:
    assert said in ours(alert, (0.0, 100.0), 50.0)
    assert "expired on 1970-01-01" in ours(alert, (0.0, 100.0), 150.0)


def test_ssh_is_never_asked_to_ask() -> None:
    words = command(parse("ssh://root@node-1:2222/run/it's/api.sock"))
    assert words[:3] == ["ssh", "-o", "BatchMode=yes"]
    assert words[-3:-1] == ["--", "node-1"]
    assert words[6:10] == ["-p", "2222", "-l", "root"]
    assert words[-1] == """pycompose -H unix://'/run/it'"'"'s/api.sock' node dial-stdio"""


@pytest.mark.parametrize(
    ("status", "said", "told"),
    [
        (127, "sh: pycompose: not found", "has no pycompose in the PATH"),
        (255, "root@node-1: Permission denied (publickey).", "ssh-copy-id root@node-1"),
        (255, "Host key verification failed.", "ssh root@node-1"),
        (255, "", "ssh ended with status 255; try it by hand"),
        (1, "error: no node answers at /run/pycompose/api.sock; start it there", "root@node-1: no node answers"),
    ],
)
def test_what_ssh_says(status: int, said: str, told: str) -> None:
    assert told in explained(parse("ssh://root@node-1"), status, said)


def test_a_manager_behind_ssh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The ssh of this test runs the command here: `pycompose node dial-stdio` is the real one."""
    import os
    import sys

    server = grpc.server(ThreadPoolExecutor(4))
    control_pb2_grpc.add_ControlServiceServicer_to_server(Manager("far"), server)
    server.add_insecure_port(f"unix:{tmp_path}/api.sock")
    server.start()
    tools = tmp_path / "bin"
    tools.mkdir()
    (tools / "ssh").write_text('#!/bin/sh\nfor last; do :; done\nexec sh -c "$last"\n')
    (tools / "pycompose").write_text(f'#!/bin/sh\nexec {sys.executable} -m pycompose.compose.cli.main "$@"\n')
    for tool in tools.iterdir():
        tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tools}:{os.environ['PATH']}")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    try:
        with Client(f"ssh://root@far{tmp_path}/api.sock") as client:
            assert node(client) == "far"
        with Client(f"ssh://root@far{tmp_path}/nothing.sock") as client:
            with pytest.raises(NodeError, match=r"root@far: no node answers at .*nothing\.sock"):
                node(client)
    finally:
        server.stop(0).wait()
