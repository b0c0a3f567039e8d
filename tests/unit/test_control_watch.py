"""Watch: a snapshot, then each change once; going on after a cut, a lag, a restart; told when the past is gone."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from unit.manager_process import Manager, details, running_manager

from pycompose.manager.cache import Cache
from pycompose.manager.control import Api, ControlServicer, watch
from pycompose.manager.model import Codec
from pycompose.manager.sealing import Sealer
from pycompose.manager.store.sqlite import SqliteStore
from pycompose.proto.refusal import HistoryError, InvalidError
from pycompose.proto.v1 import control_pb2 as pb
from pycompose.proto.v1 import meta_pb2, secret_pb2


@pytest.fixture
async def control(tmp_path: Path) -> AsyncIterator[ControlServicer]:
    """The API over a store that remembers 40 changes, and a cache that remembers 5."""
    store = await SqliteStore.open(tmp_path / "s.db", history=40)
    codec = Codec(Sealer(bytes(32)))
    cache = Cache(store, codec, history=5)
    await cache.load()
    follow = asyncio.create_task(cache.follow())
    yield ControlServicer(Api(store, cache, codec))
    follow.cancel()
    await store.close()


async def put(control: ControlServicer, name: str, project: str = "p", data: bytes = b"") -> secret_pb2.Config:
    spec = secret_pb2.ConfigSpec(name=name, project=project, data=data)
    return (await control.CreateConfig(pb.CreateConfigRequest(spec=spec), None)).config  # type: ignore[arg-type]


class Reader:
    """Reads a watch; `names` of the events so far, with their types."""

    def __init__(self, control: ControlServicer, **fields: Any) -> None:
        self.stream = control.Watch(pb.WatchRequest(**fields), None)  # type: ignore[arg-type]
        self.events: list[tuple[str, str]] = []
        self.version = meta_pb2.Version()
        self.synchronized = False

    async def until(self, count: int) -> list[tuple[str, str]]:
        async with asyncio.timeout(20):
            while len(self.events) < count or not self.synchronized:
                response = await anext(self.stream)
                self.synchronized |= response.synchronized
                for event in response.events:
                    item = getattr(event, event.WhichOneof("object"))
                    self.events.append((pb.EventType.Name(event.type).removeprefix("EVENT_TYPE_"), item.spec.name))
                if response.HasField("version"):
                    self.version = response.version
        return self.events

    async def close(self) -> None:
        with contextlib.suppress(Exception):
            await self.stream.aclose()


async def test_snapshot_then_changes(control: ControlServicer) -> None:
    await put(control, "a")
    reader = Reader(control)
    assert await reader.until(1) == [("EXISTING", "a")]
    changed = await put(control, "b")
    changed.spec.labels["x"] = "y"
    request = pb.UpdateConfigRequest(config_id=changed.id, version=changed.meta.version, spec=changed.spec)
    await control.UpdateConfig(request, None)  # type: ignore[arg-type]
    await control.RemoveConfig(pb.RemoveConfigRequest(config_id=changed.id), None)  # type: ignore[arg-type]
    assert (await reader.until(4))[1:] == [("CREATED", "b"), ("UPDATED", "b"), ("REMOVED", "b")]
    await reader.close()


async def test_a_client_goes_on_where_it_was_cut_off(control: ControlServicer) -> None:
    """Cut after each single change, with a filter: nothing is lost, nothing comes twice."""
    reader = Reader(control, project="p")
    await reader.until(0)
    seen: list[tuple[str, str]] = []
    for number in range(30):
        await put(control, f"mine-{number}")
        await put(control, f"other-{number}", "q")
        if number % 3:
            seen += await reader.until(number + 1 - len(seen))
            await reader.close()
            reader = Reader(control, project="p", after=reader.version)
    assert seen == [("CREATED", f"mine-{number}") for number in range(30)]


async def test_what_the_cache_forgot_comes_from_the_store(control: ControlServicer) -> None:
    first = await put(control, "first")
    await control.RemoveConfig(pb.RemoveConfigRequest(config_id=first.id), None)  # type: ignore[arg-type]
    for number in range(20):
        await put(control, f"later-{number}")
    assert control.api.cache.forgotten > first.meta.version.number
    reader = Reader(control, after=first.meta.version)
    found = await reader.until(21)
    assert found == [("REMOVED", "first"), *(("CREATED", f"later-{number}") for number in range(20))]
    await reader.close()


async def test_a_reader_that_stands_still_costs_nothing_and_misses_nothing(control: ControlServicer) -> None:
    reader = Reader(control)
    await reader.until(0)
    for number in range(35):
        await put(control, f"n-{number}")
    assert await reader.until(35) == [("CREATED", f"n-{number}") for number in range(35)]
    await reader.close()


async def test_a_reader_that_fell_behind_the_store_is_told(control: ControlServicer) -> None:
    reader = Reader(control)
    await reader.until(0)
    begin = reader.version
    for number in range(600):  # the history is cut some hundreds at a time
        await put(control, f"n-{number}")
    with pytest.raises(HistoryError, match=r"compacted.*watch anew from the present"):
        await reader.until(600)
    with pytest.raises(HistoryError):
        await Reader(control, after=begin).until(1)


async def test_versions_that_are_none_of_ours(control: ControlServicer) -> None:
    now = (await put(control, "a")).meta.version
    for after in (meta_pb2.Version(epoch="other", number=1), meta_pb2.Version(epoch=now.epoch, number=now.number + 99)):
        with pytest.raises(HistoryError):
            await Reader(control, after=after).until(1)
    with pytest.raises(InvalidError, match=r"kinds\[1\]"):
        await Reader(control, kinds=[1, 99]).until(1)


async def test_a_quiet_watch_is_told_how_far_it_is(control: ControlServicer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch, "PROGRESS_SECONDS", 0.1)
    reader = Reader(control, project="nobody")
    await reader.until(0)
    last = (await put(control, "unseen", "q")).meta.version
    async with asyncio.timeout(10):
        while reader.version.number < last.number:
            response = await anext(reader.stream)
            assert not response.events
            reader.version = response.version
    await reader.close()


async def test_answers_are_bounded(control: ControlServicer) -> None:
    for number in range(6):
        await put(control, f"big-{number}", data=bytes(900 * 1024))
    stream = control.Watch(pb.WatchRequest(), None)  # type: ignore[arg-type]
    sizes, versions = [], []
    async for response in stream:
        sizes.append(response.ByteSize())
        versions.append(response.HasField("version"))
        if response.synchronized:
            break
    assert max(sizes) < 2 * 1024 * 1024
    assert versions == [False] * (len(sizes) - 1) + [True]  # only the last one says that all is there
    await stream.aclose()


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[Manager]:
    with running_manager(tmp_path) as found:
        yield found


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_watch_outlives_the_manager(manager: Manager, number: int) -> None:
    """The manager is ended, or killed; the client goes on from the version that it had."""

    def create(name: str) -> None:
        spec = secret_pb2.SecretSpec(name=name, data=b"hidden")
        manager.control.CreateSecret(pb.CreateSecretRequest(spec=spec))

    create("before")
    stream = manager.control.Watch(pb.WatchRequest())
    version = next(iter(stream)).version
    create("missed")
    stream.cancel()
    manager.restart(number)
    create("after")
    stream = manager.control.Watch(pb.WatchRequest(after=version))
    names = []
    for response in stream:
        for event in response.events:
            assert event.secret.spec.data == b""
            names.append(event.secret.spec.name)
        if len(names) == 2:
            break
    stream.cancel()
    assert names == ["missed", "after"]
    lost = manager.control.Watch(pb.WatchRequest(after=meta_pb2.Version(epoch="x", number=1)))
    with pytest.raises(grpc.RpcError) as caught:
        next(iter(lost))
    assert caught.value.code() == grpc.StatusCode.OUT_OF_RANGE
    assert details(caught.value)["ErrorInfo"].reason == "COMPACTED"
