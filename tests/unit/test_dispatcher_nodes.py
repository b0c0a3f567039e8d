"""Who answers for a node: session records, grace times, and a manager that is gone or late."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from pycompose.manager.cache import Cache
from pycompose.manager.dispatcher.absence import Absence, Doubt, doubts
from pycompose.manager.dispatcher.nodes import Nodes
from pycompose.manager.dispatcher.presence import Presence
from pycompose.manager.dispatcher.pulse import LOOK_SECONDS, Pulse
from pycompose.manager.dispatcher.sessions import ManagerId, session_key, taken_over
from pycompose.manager.dispatcher.statuses import StatusWriter
from pycompose.manager.leadership import AlwaysLeader
from pycompose.manager.model import NODE, TASK, Codec, object_key
from pycompose.manager.sealing import Sealer
from pycompose.manager.store import Delete, KeyValue
from pycompose.manager.store.sqlite import SqliteStore
from pycompose.proto.v1 import dispatcher_pb2, node_pb2, task_pb2

READY, DOWN, DISCONNECTED = (
    node_pb2.NODE_STATE_READY,
    node_pb2.NODE_STATE_DOWN,
    node_pb2.NODE_STATE_DISCONNECTED,
)
CODEC = Codec(Sealer(bytes(32)))
HOST = node_pb2.NodeDescription(hostname="one")


class Manager:
    """The dispatcher's parts of one manager, on a store that several share."""

    def __init__(self, store: SqliteStore, name: str, pause: float = 0.1) -> None:
        self.me = ManagerId(name, f"boot of {name}")
        self.store, self.cache = store, Cache(store, CODEC)
        self.nodes = Nodes(store, self.cache, CODEC, time.time, self.me, pause)
        self.statuses = StatusWriter(store, self.cache, CODEC, self.nodes)
        self.tasks: list[asyncio.Task[None]] = []

    async def start(self) -> Manager:
        await self.cache.load()
        self.tasks = [asyncio.create_task(self.cache.follow())]
        self.tasks += [asyncio.create_task(work) for work in (self.nodes.run(), self.statuses.run())]
        return self

    def state(self) -> int:
        node = self.cache.get(NODE, "n1")
        return 0 if node is None else int(node.status.state)

    async def until(self, state: int) -> None:
        async with asyncio.timeout(30):
            while self.state() != state:
                await asyncio.sleep(0.02)

    async def end(self) -> None:
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[SqliteStore]:
    opened = await SqliteStore.open(tmp_path / "store.db")
    yield opened
    await opened.close()


@pytest.fixture
async def pair(store: SqliteStore) -> AsyncIterator[tuple[Manager, Manager]]:
    found = await Manager(store, "a").start(), await Manager(store, "b").start()
    yield found
    for each in found:
        await each.end()


@pytest.fixture
async def calm(store: SqliteStore) -> AsyncIterator[tuple[Manager, Manager]]:
    """Two that call no node down while a test lasts."""
    found = await Manager(store, "a", 600).start(), await Manager(store, "b", 600).start()
    yield found
    for each in found:
        await each.end()


async def test_a_node_is_ready_disconnected_and_down_in_turn(pair: tuple[Manager, Manager]) -> None:
    first, second = pair
    held = await first.nodes.arrived("n1", HOST)
    await second.until(READY)
    first.nodes.left(held)
    await second.until(DISCONNECTED)
    await second.until(DOWN)
    assert first.nodes.fence("n1") is None


async def test_silence_ends_a_session_that_still_has_its_stream(pair: tuple[Manager, Manager]) -> None:
    held = await pair[0].nodes.arrived("n1", HOST)
    await pair[0].until(DOWN)
    assert held.ended.is_set()


async def test_a_node_that_went_to_another_manager_is_not_called_down_by_the_first(
    pair: tuple[Manager, Manager],
) -> None:
    first, second = pair
    old = await first.nodes.arrived("n1", HOST)
    new = await second.nodes.arrived("n1", HOST)
    first.nodes.left(old)
    for _ in range(20):  # longer than the first one's grace time
        second.nodes.heard(new)
        await asyncio.sleep(0.1)
        assert second.state() == READY
    assert first.nodes.fence("n1") is None
    record = await first.store.get(session_key("n1"))
    assert record is not None
    assert new.fence.mod_revision == record.mod_revision


async def test_a_status_said_to_the_manager_before_is_not_stored(pair: tuple[Manager, Manager]) -> None:
    first, second = pair
    task = task_pb2.Task(id="t1", node_id="n1", slot=1, service_id="s")
    task.status.state = task_pb2.TASK_STATE_ASSIGNED
    await first.store.transact([], [CODEC.put(TASK, "t1", task)])
    old = await first.nodes.arrived("n1", HOST)
    await second.nodes.arrived("n1", HOST)
    late = dispatcher_pb2.StatusBatch()
    late.tasks.add(task_id="t1").status.state = task_pb2.TASK_STATE_RUNNING
    first.statuses.add("n1", late)
    async with asyncio.timeout(30):
        await old.ended.wait()  # the refused write is how the first one hears of it
    now = dispatcher_pb2.StatusBatch()
    now.tasks.add(task_id="t1").status.state = task_pb2.TASK_STATE_PREPARING
    second.statuses.add("n1", now)
    async with asyncio.timeout(30):
        while second.cache.get(TASK, "t1").status.state != task_pb2.TASK_STATE_PREPARING:  # type: ignore[union-attr]
            assert second.cache.get(TASK, "t1").status.state != task_pb2.TASK_STATE_RUNNING  # type: ignore[union-attr]
            await asyncio.sleep(0.02)


async def test_the_leader_gives_a_dead_managers_nodes_a_grace_time(pair: tuple[Manager, Manager]) -> None:
    """Down when nothing comes of them, and not when they have gone to another manager meanwhile."""
    first, second = pair
    gone = Manager(first.store, "gone", pause=1000)
    await gone.cache.load()
    following = asyncio.create_task(gone.cache.follow())
    await gone.nodes.arrived("n1", HOST)
    await gone.nodes.arrived("n2", HOST)
    following.cancel()
    leader = Absence(first.store, first.cache, CODEC, AlwaysLeader(), first.me, time.time, grace=1.0)
    there = Presence(second.store, second.me, "second:7420", lambda _: None)
    work = [asyncio.create_task(there.run())]
    saved = await second.nodes.arrived("n2", HOST)
    async with asyncio.timeout(30):
        while await second.store.get("/manager/b") is None:
            await asyncio.sleep(0.02)
    work.append(asyncio.create_task(leader.run()))
    async with asyncio.timeout(30):
        while first.state() != DOWN:
            second.nodes.heard(saved)
            await asyncio.sleep(0.02)
    assert second.cache.get(NODE, "n2").status.state == READY  # type: ignore[union-attr]
    for task in work:
        task.cancel()
    await asyncio.gather(*work, return_exceptions=True)


def test_doubts_keep_their_time_until_the_record_changes() -> None:
    gone, here = ManagerId("m", "1"), ManagerId("m", "2")

    def record(manager: ManagerId, revision: int) -> dict[str, KeyValue]:
        _, put = taken_over("n1", None, manager, "s")
        return {put.key: KeyValue(put.key, put.value, revision, revision)}

    first = doubts([("n1", READY)], record(gone, 5), {here}, {}, 10.0, 6.5)
    assert first == {"n1": Doubt(5, 16.5)}
    assert doubts([("n1", READY)], record(gone, 5), {here}, first, 12.0, 6.5) == first
    assert doubts([("n1", READY)], record(gone, 7), {here}, first, 12.0, 6.5) == {"n1": Doubt(7, 18.5)}
    assert doubts([("n1", READY)], record(here, 8), {here}, first, 12.0, 6.5) == {}
    assert doubts([("n1", DOWN)], record(gone, 5), {here}, first, 12.0, 6.5) == {}
    assert doubts([("n1", DISCONNECTED)], {}, {here}, {}, 1.0, 6.5) == {"n1": Doubt(0, 7.5)}
    own = doubts([("n1", READY)], record(ManagerId("n1", "1"), 5), {here}, {}, 1.0, 6.5)
    assert own == {"n1": Doubt(5, 5.5)}, "a manager's own node has less time"


def test_a_pause_of_the_manager_is_no_silence_of_its_workers() -> None:
    now = 0.0
    pulse = Pulse(lambda: now)
    for _ in range(8):
        now += LOOK_SECONDS
        pulse.beat()
    assert pulse.seconds == 2.0
    now += 3600
    assert pulse.beat() == 2.0 + 2 * LOOK_SECONDS


async def test_a_node_drains_and_leaves_by_its_session(calm: tuple[Manager, Manager]) -> None:
    first, second = calm
    held = await first.nodes.arrived("n1", HOST)
    await first.nodes.drains(held)
    await second.until(READY)
    node = first.cache.get(NODE, "n1")
    assert node is not None
    assert node.spec.availability == node_pb2.NODE_AVAILABILITY_DRAIN
    assert node.meta.spec_after, "an operator's older update is refused"
    assert first.nodes.has("n1")
    await first.nodes.gone(held)
    assert held.ended.is_set()
    assert first.state() == DOWN
    assert not first.nodes.has("n1")
    first.nodes.left(held)  # the stream ends afterwards: that changes nothing
    await second.until(DOWN)
    assert second.cache.get(NODE, "n1").status.left  # type: ignore[union-attr]


async def test_the_session_of_a_node_that_is_removed_ends(calm: tuple[Manager, Manager]) -> None:
    first, second = calm
    stop = first.cache.listen(first.nodes.heed)
    held = await first.nodes.arrived("n1", HOST)
    await second.until(READY)
    await second.store.transact([], [Delete(object_key(NODE, "n1"))])
    async with asyncio.timeout(30):
        await held.ended.wait()
    assert not first.nodes.has("n1")
    stop()
