"""A worker's session: which manager it tries, how it leaves one that is silent, and who may call its door."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import grpc
import pytest

from pycompose.manager.ca.authority import Authority, Subject
from pycompose.manager.routing.workers import by_identity
from pycompose.proto.guard import Guard
from pycompose.proto.peer import Authorizer, Role
from pycompose.proto.serving import new_server
from pycompose.proto.tls import Identity, new_request, server_credentials
from pycompose.proto.v1 import access_pb2, access_pb2_grpc, dispatcher_pb2, dispatcher_pb2_grpc
from pycompose.worker.access import remote
from pycompose.worker.access.remote import new_remote_server
from pycompose.worker.agent.membership import Managers, Membership
from pycompose.worker.agent.session import Session

CLUSTER = "cluster-of-the-test"


def node_json(folder: Path, **row: Any) -> None:
    (folder / "node").mkdir(exist_ok=True)
    (folder / "node" / "node.json").write_text(json.dumps(row))


def managers(folder: Path) -> Managers:
    return Managers(folder, Path("/run/x"), lambda _: None)


def test_a_single_node_has_its_own_manager(tmp_path: Path) -> None:
    assert managers(tmp_path).targets() == ["unix:/run/x/api.sock"]
    assert Membership.load(tmp_path) == Membership()


def test_a_worker_tries_all_managers_and_remembers_what_it_hears(tmp_path: Path) -> None:
    node_json(tmp_path, role="worker", cluster_id="c", advertise="h9", managers=["h1:7420", "h2:7420"])
    found = managers(tmp_path)
    assert found.targets() == ["h1:7420", "h2:7420"]
    found.heard(["h3:7420", "h2:7420"])
    assert managers(tmp_path).targets() == ["h2:7420", "h3:7420"]
    found.heard([])  # a manager that is alone does not know its address
    assert managers(tmp_path).targets() == ["h2:7420", "h3:7420"]
    assert Membership.load(tmp_path) == Membership("worker", "c", "", "h9")


def test_a_manager_node_asks_its_own_manager_first(tmp_path: Path) -> None:
    node_json(tmp_path, role="manager", advertise="h1", managers=["h1:7420", "h2:7420"])
    assert managers(tmp_path).targets() == ["unix:/run/x/api.sock", "h2:7420"]


def identity(authority: Authority, role: Role, name: str) -> Identity:
    key, request = new_request()
    subject = Subject(role, name, CLUSTER, ["127.0.0.1"])
    return Identity(authority.sign(request, subject, datetime.now(UTC)), key, authority.pem)


class Dispatcher(dispatcher_pb2_grpc.DispatcherServiceServicer):
    """A manager that accepts, and ends the stream when it is told to."""

    def __init__(self) -> None:
        self.hellos = 0
        self.end = asyncio.Event()

    async def Session(self, requests: Any, context: Any) -> AsyncIterator[dispatcher_pb2.SessionResponse]:
        await anext(aiter(requests))
        self.hellos += 1
        yield dispatcher_pb2.SessionResponse(accepted=dispatcher_pb2.SessionAccepted(session_id="s"))
        await self.end.wait()


async def test_a_worker_goes_to_another_manager_by_mutual_tls(tmp_path: Path) -> None:
    authority = Authority.create(CLUSTER, datetime.now(UTC))
    shown = identity(authority, Role.MANAGER, "manager-node")
    dispatchers, servers, addresses = [Dispatcher(), Dispatcher()], [], []
    for each in dispatchers:
        server = new_server(Guard("the log"), Authorizer(lambda: CLUSTER))
        dispatcher_pb2_grpc.add_DispatcherServiceServicer_to_server(each, server)
        addresses.append(f"127.0.0.1:{server.add_secure_port('127.0.0.1:0', server_credentials(lambda: shown))}")
        await server.start()
        servers.append(server)
    identity(authority, Role.WORKER, "worker-node").store(tmp_path / "node")
    node_json(tmp_path, role="worker", cluster_id=CLUSTER, managers=["127.0.0.1:1", *addresses])
    found = managers(tmp_path)
    session = Session(
        found.targets,
        lambda: dispatcher_pb2.SessionHello(node_id="worker-node"),
        lambda: None,
        list,
        lambda _: None,
        found.heard,
        asyncio.Event(),
        found.connect,
    )
    work = asyncio.create_task(session.run())
    async with asyncio.timeout(60):
        while not dispatchers[0].hellos:  # past one that is not there
            await asyncio.sleep(0.02)
        await servers[0].stop(0)
        while not dispatchers[1].hellos:
            await asyncio.sleep(0.02)
    work.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await work
    await servers[1].stop(0)


class Access(access_pb2_grpc.TaskAccessServiceServicer):
    async def SignalTask(self, request: Any, context: Any) -> access_pb2.SignalTaskResponse:
        return access_pb2.SignalTaskResponse()


async def test_a_workers_door_is_for_managers_that_know_its_id(tmp_path: Path) -> None:
    authority = Authority.create(CLUSTER, datetime.now(UTC))
    for role, name in ((Role.WORKER, "right"), (Role.MANAGER, "m"), (Role.WORKER, "w"), (Role.CLIENT, "c")):
        identity(authority, role, name).store(tmp_path / str(role) / name)
    identity(Authority.create(CLUSTER, datetime.now(UTC)), Role.MANAGER, "m").store(tmp_path / "stranger")
    door = new_remote_server(tmp_path / "worker" / "right", CLUSTER, "127.0.0.1:0")
    access_pb2_grpc.add_TaskAccessServiceServicer_to_server(Access(), door)
    port = door.add_secure_port("127.0.0.1:0", server_credentials(lambda: Identity.load(tmp_path / "worker" / "right")))
    await door.start()

    async def ask(folder: str, name: str) -> grpc.StatusCode:
        async with by_identity(tmp_path / folder)(f"127.0.0.1:{port}", name) as channel:
            try:
                stub = access_pb2_grpc.TaskAccessServiceStub(channel)
                await stub.SignalTask(access_pb2.SignalTaskRequest(), timeout=20)
            except grpc.aio.AioRpcError as error:
                return error.code()
        return grpc.StatusCode.OK

    assert await ask("manager/m", "right") == grpc.StatusCode.OK
    assert await ask("manager/m", "another") == grpc.StatusCode.UNAVAILABLE
    assert await ask("worker/w", "right") == grpc.StatusCode.PERMISSION_DENIED
    assert await ask("stranger", "right") == grpc.StatusCode.UNAVAILABLE
    await door.stop(0)
    with pytest.raises(Exception, match="it has no certificate"):
        by_identity(tmp_path / "nothing")("127.0.0.1:1", "x")


async def test_a_port_that_is_taken_is_told_and_had_when_it_is_free(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remote, "AGAIN_SECONDS", 0.05)
    identity(Authority.create(CLUSTER, datetime.now(UTC)), Role.WORKER, "w").store(tmp_path)
    with socket.create_server(("127.0.0.1", 0)) as other:
        address = f"127.0.0.1:{other.getsockname()[1]}"
        door = remote.RemoteDoor(lambda: new_remote_server(tmp_path, CLUSTER, address), address)
        await door.open()
        assert f"nothing can listen on {address}" in door.problem
    async with asyncio.timeout(60):
        while door.problem:
            await asyncio.sleep(0.02)
    with socket.create_connection(("127.0.0.1", int(address.rpartition(":")[2])), 5):
        pass
    await door.stop(0)
