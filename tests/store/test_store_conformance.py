"""What every store backend promises, sentence by sentence; `test_store_model` attacks the same with random steps."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from store.conftest import Opener

from pycompose.manager.store import (
    Batch,
    CompactedError,
    Compare,
    Delete,
    Event,
    Put,
    Revision,
    Store,
    StoreClosedError,
    TooManyOperationsError,
)


@pytest.fixture
async def store(open_store: Opener, tmp_path: Path) -> AsyncIterator[Store]:
    opened = await open_store(tmp_path)
    yield opened
    await opened.close()


async def take(store: Store, prefix: str, after: Revision, count: int) -> list[Batch]:
    """The first `count` batches of a watch."""
    found: list[Batch] = []
    async with asyncio.timeout(10), contextlib.aclosing(store.watch(prefix, after)) as batches:
        async for batch in batches:
            found.append(batch)
            if len(found) == count:
                break
    return found


async def test_compare_and_swap(store: Store) -> None:
    first = await store.transact([Compare("/a", 0)], [Put("/a", b"1")])
    assert first.succeeded
    again = await store.transact([Compare("/a", 0), Compare("/b", 0)], [Put("/a", b"2"), Put("/b", b"2")])
    assert (again.succeeded, again.failed, again.revision) == (False, ("/a",), first.revision)
    assert await store.get("/b") is None
    item = await store.get("/a")
    assert item is not None
    assert (item.value, item.create_revision, item.mod_revision) == (b"1", first.revision.number, first.revision.number)
    second = await store.transact([Compare("/a", item.mod_revision)], [Put("/a", b"2")])
    item = await store.get("/a")
    assert item is not None
    assert (item.create_revision, item.mod_revision) == (first.revision.number, second.revision.number)


async def test_of_many_writers_with_one_version_one_wins(store: Store) -> None:
    await store.transact([], [Put("/a", b"0")])
    item = await store.get("/a")
    assert item is not None
    compare = Compare("/a", item.mod_revision)
    results = await asyncio.gather(*(store.transact([compare], [Put("/a", b"%d" % n)]) for n in range(50)))
    assert sum(result.succeeded for result in results) == 1


async def test_a_transaction_that_changes_nothing_is_no_revision(store: Store) -> None:
    before = await store.revision()
    assert (await store.transact([], [])).revision == before
    assert (await store.transact([], [Delete("/nothing")])).revision == before
    assert await store.revision() == before


async def test_a_revision_for_each_transaction_and_one_batch(store: Store) -> None:
    start = await store.revision()
    result = await store.transact([], [Put("/x/a", b"1"), Put("/x/b", b"2"), Put("/y", b"3")])
    assert result.revision.number == start.number + 1
    (batch,) = await take(store, "/x/", start, 1)
    number = result.revision.number
    expected = (Event("/x/a", b"1", number, created=True), Event("/x/b", b"2", number, created=True))
    assert batch == Batch(result.revision, expected)


async def test_watch_has_no_gap_and_no_double(store: Store) -> None:
    start = await store.revision()
    await store.transact([], [Put("/a", b"1")])
    reader = asyncio.create_task(take(store, "/", start, 12))
    await asyncio.gather(*(store.transact([], [Put(f"/k{n}", b"x")]) for n in range(10)))
    await store.transact([], [Delete("/a")])
    batches = await reader
    assert [batch.revision.number for batch in batches] == list(range(start.number + 1, start.number + 13))
    events = [event for batch in batches for event in batch.events]
    assert (events[0].key, events[0].value, events[0].created) == ("/a", b"1", True)
    assert (events[-1].key, events[-1].value, events[-1].previous) == ("/a", None, b"1")
    assert {event.key for event in events[1:-1]} == {f"/k{n}" for n in range(10)}


async def test_watches_begun_amid_writes_lose_nothing(store: Store) -> None:
    """Watches that begin at any moment of a burst of writes see each change after their start once."""
    start = await store.revision()

    async def write() -> None:
        for number in range(200):
            await store.transact([], [Put(f"/{number % 7}", b"%d" % number)])

    async def watch(delay: float) -> None:
        await asyncio.sleep(delay)
        numbers = [batch.revision.number for batch in await take(store, "/", start, 200)]
        assert numbers == list(range(start.number + 1, start.number + 201))

    await asyncio.gather(write(), *(watch(0.003 * n) for n in range(10)))


async def test_past_changes_in_pieces(store: Store) -> None:
    start = await store.revision()
    for number in range(5):
        await store.transact([], [Put(f"/{number % 2}/{number}", b"")])
    first = await store.changes("/", start, 3)
    assert (len(first.items), first.more, first.revision) == (3, True, first.items[-1].revision)
    rest = await store.changes("/", first.revision, 3)
    assert (len(rest.items), rest.more, rest.revision) == (2, False, await store.revision())
    assert len((await store.changes("/1/", start, 10)).items) == 2


async def test_ranges_in_pieces(store: Store) -> None:
    await store.transact([], [Put(f"/r/{n:02}", b"") for n in range(10)] + [Put("/s", b"")])
    first = await store.range("/r/", limit=4)
    assert (len(first.items), first.more) == (4, True)
    rest = await store.range("/r/", after=first.items[-1].key)
    assert (len(rest.items), rest.more) == (6, False)
    assert [item.key for item in (*first.items, *rest.items)] == [f"/r/{n:02}" for n in range(10)]


async def test_compaction_and_epoch(store: Store) -> None:
    start = await store.revision()
    await store.transact([], [Put("/a", b"1")])
    middle = await store.revision()
    await store.transact([], [Put("/a", b"2")])
    await store.compact(middle.number)
    for after in (start, Revision("other", middle.number)):
        with pytest.raises(CompactedError):
            await anext(store.watch("/", after))
        with pytest.raises(CompactedError):
            await store.changes("/", after, 10)
    (batch,) = await take(store, "/", middle, 1)
    assert batch.events[0].value == b"2"
    item = await store.get("/a")
    assert item is not None  # what is present stays
    await store.compact(middle.number)  # again changes nothing


async def test_limits(store: Store) -> None:
    with pytest.raises(TooManyOperationsError):
        await store.transact([], [Put(f"/{n}", b"") for n in range(store.max_operations + 1)])
    with pytest.raises(ValueError, match="twice"):
        await store.transact([], [Put("/a", b""), Delete("/a")])
    with pytest.raises(ValueError, match="lease"):
        await store.transact([], [Put("/a", b"", lease=12345)])
    assert await store.get("/a") is None


async def test_a_lease_ends_with_its_keys_and_watches_see_it(store: Store) -> None:
    start = await store.revision()
    lease = await store.grant(0.2)
    await store.transact([], [Put("/l/1", b"x", lease), Put("/l/2", b"", lease)])
    await store.transact([], [Put("/l/2", b"")])  # no longer the lease's
    batches = await take(store, "/", start, 3)
    assert [(event.key, event.value, event.previous) for event in batches[2].events] == [("/l/1", None, b"x")]
    assert not await store.keep_alive(lease)
    assert await store.get("/l/2") is not None


async def test_a_lease_lives_while_it_is_kept(store: Store) -> None:
    lease = await store.grant(2.0)
    await store.transact([], [Put("/l", b"", lease)])
    for _ in range(5):
        await asyncio.sleep(0.6)
        assert await store.keep_alive(lease)
    item = await store.get("/l")
    assert item is not None
    assert item.lease == lease
    await store.revoke(lease)
    assert await store.get("/l") is None
    await store.revoke(lease)  # again changes nothing


async def test_a_closed_store_says_so(open_store: Opener, tmp_path: Path) -> None:
    store = await open_store(tmp_path)
    watch = asyncio.create_task(take(store, "/", await store.revision(), 1))
    await asyncio.sleep(0.05)
    await store.close()
    with pytest.raises(StoreClosedError):
        await watch
    with pytest.raises(StoreClosedError):
        await store.get("/a")
    await store.close()


async def test_survives_reopening(open_store: Opener, tmp_path: Path) -> None:
    store = await open_store(tmp_path)
    start = await store.revision()
    lease = await store.grant(60)
    await store.transact([], [Put("/a", b"1", lease)])
    before = await store.revision()
    await store.close()
    store = await open_store(tmp_path)
    assert await store.revision() == before
    assert (await store.range("/")).items[0].value == b"1"
    assert await store.keep_alive(lease)
    (batch,) = await take(store, "/", start, 1)  # a client goes on from before the restart
    assert batch.revision == before
    await store.close()


async def test_another_store_is_another_epoch(open_store: Opener, tmp_path: Path) -> None:
    epochs = set()
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        store = await open_store(tmp_path / name)
        epochs.add(store.epoch)
        await store.close()
    assert len(epochs) == 2
