"""What every store backend promises; `open_store` is parametrised over the backends."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from pycompose.manager.store import CompactedError, Compare, Delete, Put, Revision, Store, TooManyOperationsError
from pycompose.manager.store.sqlite import SqliteStore


@pytest.fixture(params=["sqlite"])
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Store]:
    opened = await SqliteStore.open(tmp_path / "store.db")
    yield opened
    await opened.close()


async def test_compare_and_swap(store: Store) -> None:
    first = await store.transact([Compare("/a", 0)], [Put("/a", b"1")])
    assert first.succeeded
    again = await store.transact([Compare("/a", 0)], [Put("/a", b"2"), Put("/b", b"2")])
    assert not again.succeeded
    assert again.failed == ("/a",)
    assert await store.get("/b") is None
    item = await store.get("/a")
    assert item is not None
    assert (item.value, item.mod_revision) == (b"1", first.revision.number)


async def test_watch_has_no_gap_and_no_double(store: Store) -> None:
    start = await store.revision()
    await store.transact([], [Put("/a", b"1")])
    seen: list[tuple[str, bytes | None]] = []

    async def read() -> None:
        async for batch in store.watch("/", start):
            seen.extend((event.key, event.value) for event in batch.events)
            if len(seen) == 12:
                return

    reader = asyncio.create_task(read())
    await asyncio.gather(*(store.transact([], [Put(f"/k{n}", b"x")]) for n in range(10)))
    await store.transact([], [Delete("/a")])
    await asyncio.wait_for(reader, 5)
    assert seen[0] == ("/a", b"1")
    assert seen[-1] == ("/a", None)
    assert {key for key, _ in seen[1:-1]} == {f"/k{n}" for n in range(10)}


async def test_compaction_and_epoch(store: Store) -> None:
    start = await store.revision()
    await store.transact([], [Put("/a", b"1")])
    now = await store.revision()
    await store.compact(now.number)
    for after in (start, Revision("other", now.number)):
        with pytest.raises(CompactedError):
            await anext(store.watch("/", after))


async def test_lease_and_limit(store: Store) -> None:
    lease = await store.grant(0.1)
    await store.transact([], [Put("/l", b"", lease)])
    await asyncio.sleep(0.3)
    assert await store.get("/l") is None
    assert not await store.keep_alive(lease)
    with pytest.raises(TooManyOperationsError):
        await store.transact([], [Put(f"/{n}", b"") for n in range(store.max_operations + 1)])


async def test_survives_reopening(tmp_path: Path) -> None:
    store = await SqliteStore.open(tmp_path / "s.db")
    await store.transact([], [Put("/a", b"1")])
    before = await store.revision()
    await store.close()
    store = await SqliteStore.open(tmp_path / "s.db")
    assert await store.revision() == before
    assert (await store.range("/")).items[0].value == b"1"
    await store.close()
