"""The engine over a real store: a created service gets its tasks assigned, and removal ends in an empty store."""

import asyncio
from pathlib import Path

from pycompose.manager.allocator import Pools
from pycompose.manager.cache import Cache
from pycompose.manager.engine import Engine
from pycompose.manager.leadership import AlwaysLeader
from pycompose.manager.model import NETWORK, NODE, SERVICE, TASK, Codec, object_key
from pycompose.manager.sealing import Sealer
from pycompose.manager.states import check_invariants
from pycompose.manager.store import Delete
from pycompose.manager.store.sqlite import SqliteStore
from pycompose.proto.v1 import network_pb2, node_pb2, service_pb2, task_pb2


async def until(condition: object, seconds: float = 5) -> None:
    async with asyncio.timeout(seconds):
        while not condition():  # type: ignore[operator]
            await asyncio.sleep(0.01)


async def test_hundred_replicas_assigned_then_removed(tmp_path: Path) -> None:
    store = await SqliteStore.open(tmp_path / "s.db")
    codec = Codec(Sealer(bytes(32)))
    cache = Cache(store, codec)
    await cache.load()
    loops = [asyncio.create_task(cache.follow())]
    loops.append(asyncio.create_task(Engine(store, cache, codec, AlwaysLeader(), Pools()).run()))
    node = node_pb2.Node(id="n1", status=node_pb2.NodeStatus(state=node_pb2.NODE_STATE_READY))
    network = network_pb2.Network(id="net", spec=network_pb2.NetworkSpec(name="app_default", project="app"))
    await store.transact([], [codec.put(NODE, "n1", node), codec.put(NETWORK, "net", network)])
    service = service_pb2.Service(id="s1", revision=1)
    service.spec.project, service.spec.name = "app", "web"
    service.spec.replicated.replicas = 100
    service.spec.task.networks.add(network="app_default")
    await store.transact([], [codec.put(SERVICE, "s1", service)])
    await until(lambda: len(cache.tasks_of_node("n1")) == 100)
    tasks = cache.tasks_of_service("s1")
    assert {task.status.state for task in tasks} == {task_pb2.TASK_STATE_ASSIGNED}
    assert check_invariants(tasks) == []
    assert {task.name for task in tasks} == {f"app-web-{slot}" for slot in range(1, 101)}

    removing = service_pb2.Service()
    removing.CopyFrom(cache.get(SERVICE, "s1"))
    removing.removing = True
    await store.transact([], [codec.put(SERVICE, "s1", removing)])
    await until(lambda: all(t.desired_state == task_pb2.DESIRED_STATE_REMOVED for t in cache.all(TASK)))
    await store.transact([], [Delete(object_key(TASK, task.id)) for task in tasks])  # as workers' confirmations
    await until(lambda: cache.get(SERVICE, "s1") is None)
    for loop in loops:
        loop.cancel()
    await store.close()
