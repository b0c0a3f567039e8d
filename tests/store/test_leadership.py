"""One of several managers leads, and a leader that was away writes nothing that another has not allowed."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from store.conftest import Opener
from store.members import several

from pycompose.manager.leadership import KEY, Election
from pycompose.manager.store import Compare, Put, Store, StoreError, StoreUnavailableError, TransactionResult
from pycompose.manager.store.etcd import EtcdStore


@pytest.fixture
async def store(open_store: Opener, tmp_path: Path) -> AsyncIterator[Store]:
    opened = await open_store(tmp_path)
    yield opened
    await opened.close()


class Paused:
    """A store that a paused process sees: its calls wait, and then go out late."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.going = asyncio.Event()
        self.going.set()

    def __getattr__(self, name: str) -> object:
        return getattr(self.store, name)

    async def transact(self, compares: list[Compare], operations: list[Put]) -> TransactionResult:
        await self.going.wait()
        return await self.store.transact(compares, operations)

    async def keep_alive(self, lease: int) -> bool:
        await self.going.wait()
        return await self.store.keep_alive(lease)


async def write(store: Store, election: Election, value: bytes) -> bool:
    """Write as a control loop does."""
    return (await store.transact([*election.fence()], [Put("/written", value)])).succeeded


async def test_one_leads_and_the_next_one_takes_over(store: Store) -> None:
    first, second = Election(store, "first"), Election(store, "second")
    await first.acquire()
    waiting = asyncio.create_task(second.acquire())
    assert await write(store, first, b"1")
    assert not await write(store, second, b"2")
    await asyncio.sleep(0.3)
    assert not waiting.done()
    await first.resign()
    async with asyncio.timeout(30):
        await waiting
    assert await write(store, second, b"2")
    assert not await write(store, first, b"1")
    found = await store.get(KEY)
    assert found is not None
    assert found.value == b"second"
    await second.resign()
    assert await store.get(KEY) is None


async def test_the_late_write_of_a_leader_that_was_paused_is_refused(store: Store) -> None:
    paused = Paused(store)
    first, second = Election(paused, "first"), Election(store, "second")  # type: ignore[arg-type]
    await first.acquire()
    assert await write(paused, first, b"before")  # type: ignore[arg-type]
    paused.going.clear()
    late = asyncio.create_task(write(paused, first, b"late"))  # type: ignore[arg-type]
    async with asyncio.timeout(30):
        await second.acquire()
    assert await write(store, second, b"second")
    paused.going.set()
    assert not await late
    async with asyncio.timeout(30):
        await first.lost()
    found = await store.get("/written")
    assert found is not None
    assert found.value == b"second"
    await second.resign()


async def test_a_leader_stays_while_the_store_answers(store: Store) -> None:
    election = Election(store, "first", ttl=1.0)
    await election.acquire()
    losing = asyncio.create_task(election.lost())
    await asyncio.sleep(3)
    assert not losing.done()
    assert await write(store, election, b"1")
    await election.resign()
    await losing


async def test_of_many_that_ask_at_once_one_leads(store: Store) -> None:
    elections = [Election(store, str(number)) for number in range(8)]
    tasks = [asyncio.create_task(each.acquire()) for each in elections]
    for _ in elections:
        async with asyncio.timeout(30):
            while not any(task.done() for task in tasks):
                await asyncio.sleep(0.02)
        await asyncio.sleep(0.05)
        (number,) = [number for number, task in enumerate(tasks) if task.done()]
        assert await write(store, elections[number], b"%d" % number)
        await elections[number].resign()
        tasks[number] = asyncio.create_task(asyncio.Event().wait())  # type: ignore[arg-type]
    for task in tasks:
        task.cancel()


async def test_soak_members_die_and_one_manager_leads(tmp_path: Path, many: Callable[[int], int]) -> None:
    """Two managers; the member behind them is paused or killed; a counter that the leader raises never goes back."""
    members = several(tmp_path, 3)
    endpoints = [each.member.client for each in members]
    stores: list[EtcdStore] = []
    try:
        async with asyncio.timeout(60):
            while len(stores) < 2:
                try:
                    stores.append(await EtcdStore.open(endpoints, timeout=2.0))
                except StoreUnavailableError:
                    await asyncio.sleep(0.1)
        counts: list[int] = []

        async def manage(store: EtcdStore, name: str) -> None:
            election = Election(store, name)
            while True:
                await election.acquire()
                leading = asyncio.create_task(count(store, election, counts))
                await asyncio.wait([leading, asyncio.create_task(election.lost())], return_when="FIRST_COMPLETED")
                leading.cancel()

        managers = [asyncio.create_task(manage(store, f"m{number}")) for number, store in enumerate(stores)]
        for round_ in range(many(60)):
            victim = members[round_ % 3]
            before = len(counts)
            if round_ % 2:
                victim.kill()
                await grown(counts, before + 5)
                victim.start()
            else:
                os.kill(victim.process.pid, signal.SIGSTOP)
                await grown(counts, before + 5)
                os.kill(victim.process.pid, signal.SIGCONT)
            await grown(counts, before + 10)
        for task in managers:
            task.cancel()
        await asyncio.gather(*managers, return_exceptions=True)
        assert counts == sorted(set(counts)), "an acknowledged count was taken back or given twice"
        last = await stores[0].get("/count")
        assert last is not None
        assert int(last.value) >= counts[-1]
    finally:
        for store in stores:
            await store.close()
        for member in members:
            os.kill(member.process.pid, signal.SIGCONT)
            member.kill()


async def count(store: EtcdStore, election: Election, counts: list[int]) -> None:
    """Raise the counter again and again; what is acknowledged is noted."""
    while True:
        try:
            found = await store.get("/count")
            number = int(found.value) + 1 if found else 1
            compares = [*election.fence(), Compare("/count", found.mod_revision if found else 0)]
            if (await store.transact(compares, [Put("/count", b"%d" % number)])).succeeded:
                counts.append(number)
        except StoreError:
            pass
        await asyncio.sleep(0.01)


async def grown(counts: list[int], size: int) -> None:
    """Wait until so many were acknowledged."""
    async with asyncio.timeout(60):
        while len(counts) < size:
            await asyncio.sleep(0.02)
