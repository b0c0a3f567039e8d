"""Calls about tasks reach the worker that has them; several workers' answers become one."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import AsyncGenerator, AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from pycompose.manager.cache import Cache
from pycompose.manager.model import NODE, TASK, Codec, Kind, object_key
from pycompose.manager.routing import Workers, add_router, merging
from pycompose.manager.routing.requests import METHODS, About, about, parse
from pycompose.manager.sealing import Sealer
from pycompose.manager.store import Batch, Event, Revision
from pycompose.proto.guard import Guard
from pycompose.proto.serving import listen, new_server
from pycompose.proto.v1 import access_pb2, access_pb2_grpc, node_pb2, task_pb2

CODEC = Codec(Sealer(bytes(32)))
A = access_pb2


class Rows:
    """A store for a cache that is fed by hand."""

    epoch = "e"
    number = 0

    async def revision(self) -> Revision:
        return Revision(self.epoch, self.number)

    def put(self, cache: Cache, kind: Kind, identity: str, message: Any) -> None:
        self.number += 1
        event = Event(object_key(kind, identity), CODEC.put(kind, identity, message).value, self.number)
        cache.apply(Batch(Revision(self.epoch, self.number), (event,)))


class FakeWorker(access_pb2_grpc.TaskAccessServiceServicer):
    """Says which node it is."""

    def __init__(self, name: str) -> None:
        self.name, self.sent, self.cut = name, 0, asyncio.Event()

    async def Exec(self, requests: Any, context: Any) -> AsyncIterator[A.ExecResponse]:
        async for request in requests:
            if request.WhichOneof("message") == "stdin":
                yield A.ExecResponse(stdout=f"{self.name}: {request.stdin.decode()}".encode())
        yield A.ExecResponse(exited=A.ExecExited(exit_code=7))

    async def ReadLogs(self, request: A.ReadLogsRequest, context: Any) -> AsyncIterator[A.ReadLogsResponse]:
        if request.tail == 1:  # endless
            try:
                while True:
                    entry = A.LogEntry(task_id=request.task_ids[0], data=bytes(16384))
                    entry.time.FromNanoseconds(self.sent)
                    yield A.ReadLogsResponse(entries=[entry])
                    self.sent += 1
            finally:
                self.cut.set()
        for number in range(10):
            response = A.ReadLogsResponse()
            for task_id in request.task_ids:
                entry = response.entries.add(task_id=task_id, data=self.name.encode())
                entry.time.FromNanoseconds(number * 10 + (5 if self.name == "b" else 0))
            yield response
        if request.follow:
            await asyncio.Event().wait()

    async def WatchStats(self, request: A.WatchStatsRequest, context: Any) -> AsyncIterator[A.WatchStatsResponse]:
        yield A.WatchStatsResponse(stats=[A.TaskStats(task_id=task_id) for task_id in request.task_ids])

    async def ProbePorts(self, request: A.ProbePortsRequest, context: Any) -> A.ProbePortsResponse:
        return A.ProbePortsResponse(problems=["", "taken"] if self.name == "b" else ["", ""])

    async def MeasureVolumes(self, request: A.MeasureVolumesRequest, context: Any) -> A.MeasureVolumesResponse:
        response = A.MeasureVolumesResponse()
        response.usages.add(volume="data", bytes=100, entries=1)
        return response


class Cluster:
    """A manager's routing between this machine (node a) and another (node b)."""

    def __init__(self) -> None:
        self.rows = Rows()
        self.cache = Cache(self.rows, CODEC)  # type: ignore[arg-type]
        self.workers = {name: FakeWorker(name) for name in "ab"}
        self.stub: Any = None

    def node(self, name: str, state: int = node_pb2.NODE_STATE_READY) -> None:
        node = node_pb2.Node(id=name)
        node.status.state = state  # type: ignore[assignment]
        node.description.hostname = f"host-{name}"
        node.description.access_address = f"host-{name}:7422"
        self.rows.put(self.cache, NODE, name, node)


@pytest.fixture
async def cluster(tmp_path: Path) -> AsyncIterator[Cluster]:
    found = Cluster()
    servers = []
    for name, worker in found.workers.items():
        server = new_server(Guard("the log"))
        access_pb2_grpc.add_TaskAccessServiceServicer_to_server(worker, server)
        await listen(server, tmp_path / name)
        servers.append(server)
        found.node(name)
        found.rows.put(found.cache, TASK, f"task-{name}", task_pb2.Task(id=f"task-{name}", node_id=name))
    (tmp_path / "node-id").write_text("a")

    def connect(address: str, node_id: str) -> grpc.aio.Channel:
        assert address == f"host-{node_id}:7422"
        return grpc.aio.insecure_channel(f"unix:{tmp_path}/{node_id}")

    workers = Workers(found.cache, f"unix:{tmp_path}/a", tmp_path / "node-id", connect)
    server = new_server(Guard("the log"))
    add_router(server, workers)
    await listen(server, tmp_path / "api")
    servers.append(server)
    async with grpc.aio.insecure_channel(f"unix:{tmp_path}/api") as channel:
        found.stub = access_pb2_grpc.TaskAccessServiceStub(channel)
        yield found
    await workers.close()
    for server in servers:
        await server.stop(0)


@pytest.mark.parametrize("name", ["a", "b"])
async def test_a_program_runs_where_its_task_is(cluster: Cluster, name: str) -> None:
    call = cluster.stub.Exec()
    await call.write(A.ExecRequest(start=A.ExecStart(task_id=f"task-{name}")))
    await call.write(A.ExecRequest(stdin=b"hello"))
    assert (await call.read()).stdout.decode() == f"{name}: hello"
    await call.done_writing()
    assert (await call.read()).exited.exit_code == 7


async def test_logs_of_several_nodes_come_in_time_order(cluster: Cluster) -> None:
    for follow in (False, True):
        call = cluster.stub.ReadLogs(A.ReadLogsRequest(task_ids=["task-a", "task-b"], follow=follow))
        entries: list[Any] = []
        while len(entries) < 20:
            entries += (await call.read()).entries
        assert [entry.data for entry in entries] == [b"a", b"b"] * 10
        assert [entry.task_id for entry in entries[:2]] == ["task-a", "task-b"]
        call.cancel()


async def test_a_slow_reader_slows_the_workers_and_a_cut_ends_them(cluster: Cluster) -> None:
    call = cluster.stub.ReadLogs(A.ReadLogsRequest(task_ids=["task-a", "task-b"], tail=1))
    await call.read()
    sent = -1
    async with asyncio.timeout(60):
        while sent != sum(worker.sent for worker in cluster.workers.values()):
            sent = sum(worker.sent for worker in cluster.workers.values())
            await asyncio.sleep(1)
    assert sent * 16384 < 64 * 2**20
    call.cancel()
    async with asyncio.timeout(30):
        for worker in cluster.workers.values():
            await worker.cut.wait()


async def test_usage_ports_and_volumes_are_told_for_all_nodes(cluster: Cluster) -> None:
    call = cluster.stub.WatchStats(A.WatchStatsRequest(task_ids=["task-b", "task-a"], once=True))
    answers = [answer async for answer in call]
    assert [sorted(one.task_id for one in answer.stats) for answer in answers] == [["task-a", "task-b"]]
    problems = (await cluster.stub.ProbePorts(A.ProbePortsRequest(ports=[A.PortProbe()] * 2))).problems
    assert list(problems) == ["", "on host-b: taken"]
    (usage,) = (await cluster.stub.MeasureVolumes(A.MeasureVolumesRequest(volumes=["data"]))).usages
    assert (usage.bytes, usage.entries) == (200, 2)


async def test_a_task_of_a_node_that_is_down_is_told_plainly(cluster: Cluster) -> None:
    cluster.node("b", node_pb2.NODE_STATE_DOWN)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await cluster.stub.ReadLogs(A.ReadLogsRequest(task_ids=["task-b"])).read()
    assert "node host-b" in str(caught.value.details())
    entries = []
    async for answer in cluster.stub.ReadLogs(A.ReadLogsRequest(task_ids=["task-a", "task-b"])):
        entries += answer.entries
    assert {entry.task_id for entry in entries} == {"task-a"}


def test_every_call_is_about_something() -> None:
    """Enumerated from the descriptors: a new call about a task is found by its fields."""
    for method, descriptor in METHODS.items():
        found = about(method, parse(method, b""))
        names = descriptor.input_type.fields_by_name
        start = names["start"].message_type.fields_by_name if "start" in names else names
        assert bool(found.tasks) == ("task_id" in start), method
    access = "/pycompose.v1.TaskAccessService/"
    assert about(access + "Exec", A.ExecRequest(start=A.ExecStart(task_id="t"))) == About(("t",))
    assert about(access + "CopyTo", A.CopyToRequest(start=A.CopyToStart(task_id="t"))) == About(("t",))
    assert about(access + "ReadLogs", A.ReadLogsRequest(task_ids=["t", "u", "t"])) == About(("t", "u"))
    assert about(access + "WatchEvents", A.WatchEventsRequest()).everywhere


async def test_merging_keeps_each_streams_order_whatever_comes_when() -> None:
    chance = random.Random(5)

    async def stream(times: list[int]) -> AsyncGenerator[list[int], None]:
        while times:
            size = chance.randrange(1, 5)
            yield times[:size]
            times = times[size:]
            if chance.random() < 0.3:
                await asyncio.sleep(0)

    for _ in range(50):
        parts = [sorted(chance.randrange(1000) for _ in range(chance.randrange(60))) for _ in range(4)]
        found = []
        async with contextlib.aclosing(merging.by_time([stream(part) for part in parts], int, None)) as merged:
            async for items in merged:
                found += items
        assert found == sorted(time for part in parts for time in part)
