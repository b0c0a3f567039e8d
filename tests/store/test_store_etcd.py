"""What is etcd's own: members that die, a majority that is lost, space that runs out, versions that are refused."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import signal
import subprocess
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest
from store.members import RunningMember, alone, several

from pycompose.manager.store import (
    CompactedError,
    Delete,
    Put,
    Revision,
    StoreError,
    StoreFullError,
    StoreUnavailableError,
)
from pycompose.manager.store.etcd import EtcdStore
from pycompose.manager.store.etcd.client import check_version
from pycompose.manager.store.etcd.member import Member, Tls, command
from pycompose.manager.store.etcd.watching import end_of


@pytest.fixture
def member(tmp_path: Path) -> Iterator[RunningMember]:
    running = alone(tmp_path)
    yield running
    running.kill()


@pytest.fixture
def members(tmp_path: Path) -> Iterator[list[RunningMember]]:
    running = several(tmp_path, 3)
    yield running
    for each in running:
        each.kill()


@contextlib.asynccontextmanager
async def opened(*running: RunningMember, timeout: float = 5.0) -> AsyncIterator[EtcdStore]:
    """The store; a cluster that has just begun has no leader yet."""
    endpoints = [each.member.client for each in running]
    async with asyncio.timeout(60):
        while True:
            try:
                store = await EtcdStore.open(endpoints, timeout=timeout)
                break
            except StoreUnavailableError:
                await asyncio.sleep(0.1)
    try:
        yield store
    finally:
        await store.close()


class Follower:
    """Watches everything from the beginning; `numbers` are the values of /n that it saw."""

    def __init__(self, store: EtcdStore, after: Revision) -> None:
        self.numbers: list[int] = []
        self.task = asyncio.ensure_future(self._follow(store, after))

    async def _follow(self, store: EtcdStore, after: Revision) -> None:
        async for batch in store.watch("/", after):
            self.numbers += [int(event.value or b"-1") for event in batch.events]

    async def has(self, number: int) -> None:
        """Wait until it saw a value."""
        async with asyncio.timeout(60):
            while number not in self.numbers:
                if self.task.done():
                    await self.task
                await asyncio.sleep(0.02)


async def write_until_answered(store: EtcdStore, number: int) -> None:
    """Write /n; a write without answer is made anew, as one that is the same twice may."""
    async with asyncio.timeout(60):
        while True:
            try:
                await store.transact([], [Put("/n", b"%d" % number)])
                return
            except StoreUnavailableError:
                await asyncio.sleep(0.05)


async def test_a_member_that_is_killed_loses_nothing_and_watches_go_on(member: RunningMember) -> None:
    async with opened(member) as store:
        follower = Follower(store, await store.revision())
        for number in range(30):
            if number % 10 == 5:
                member.kill()
                member.start()
            await write_until_answered(store, number)
            found = await store.get("/n")
            assert found is not None
            assert found.value == b"%d" % number
        await follower.has(29)
        follower.task.cancel()
    # A write whose answer was lost may be there twice; nothing is missing, and nothing is out of order.
    assert sorted(set(follower.numbers)) == list(range(30))
    assert follower.numbers == sorted(follower.numbers)


async def test_of_three_members_any_may_die(members: list[RunningMember], many: Callable[[int], int]) -> None:
    chance = random.Random(1)
    async with opened(*members, timeout=2.0) as store:
        follower = Follower(store, await store.revision())
        last = 0
        for _ in range(many(50)):
            victim = chance.choice(members)
            victim.kill()
            for _ in range(20):
                last += 1
                await write_until_answered(store, last)
            victim.start()
        await follower.has(last)
        follower.task.cancel()
    assert sorted(set(follower.numbers)) == list(range(1, last + 1))
    assert follower.numbers == sorted(follower.numbers)


async def test_without_a_majority_nothing_is_acknowledged(members: list[RunningMember]) -> None:
    async with opened(*members, timeout=1.0) as store:
        await write_until_answered(store, 1)
        for each in members[1:]:
            each.kill()
        with pytest.raises(StoreUnavailableError, match="no answer from etcd"):
            await store.transact([], [Put("/n", b"2")])
        with pytest.raises(StoreUnavailableError):
            await store.get("/n")  # it may have changed, for all that one member knows
        members[1].start()
        await write_until_answered(store, 3)
        found = await store.get("/n")
        assert found is not None
        assert found.value == b"3"


async def test_a_member_that_hangs_is_noticed(member: RunningMember) -> None:
    async with opened(member, timeout=0.5) as store:
        os.kill(member.process.pid, signal.SIGSTOP)
        try:
            with pytest.raises(StoreUnavailableError):
                await store.revision()
        finally:
            os.kill(member.process.pid, signal.SIGCONT)
        await write_until_answered(store, 1)


async def test_the_deletion_at_the_compacted_revision_is_not_passed_over(member: RunningMember) -> None:
    async with opened(member) as store:
        before = (await store.transact([], [Put("/a", b"1")])).revision
        gone = (await store.transact([], [Delete("/a")])).revision
        await store.transact([], [Put("/b", b"2")])
        await store.compact(gone.number)
        with pytest.raises(CompactedError):
            await anext(store.watch("/", before))
        with pytest.raises(CompactedError):
            await store.changes("/", before, 10)
        past = await store.changes("/", gone, 10)
        assert [event.key for batch in past.items for event in batch.events] == ["/b"]


async def fill(store: EtcdStore) -> None:
    """Write until it is refused; etcd notices what it has only after it committed it."""
    for number in range(1000):
        await store.transact([], [Put(f"/{number}", bytes(100_000))])


async def test_space_that_runs_out_is_said(tmp_path: Path) -> None:
    member = alone(tmp_path, quota=2_000_000)
    try:
        async with opened(member) as store:
            with pytest.raises(StoreFullError, match="no space left"):
                await fill(store)
            assert await store.get("/0") is not None
    finally:
        member.kill()


async def test_several_stores_share_an_etcd(member: RunningMember) -> None:
    endpoints = [member.member.client]
    one, two = [await EtcdStore.open(endpoints, root=name) for name in ("one", "two")]
    start = await one.revision()
    await one.transact([], [Put("/a", b"1")])
    await two.transact([], [Put("/a", b"2"), Put("/b", b"2")])
    assert [item.value for item in (await one.range("/")).items] == [b"1"]
    past = await one.changes("", start, 10)
    assert [event.value for batch in past.items for event in batch.events] == [b"1"]
    assert past.revision == await one.revision()
    for store in (one, two):
        await store.close()


async def test_ranges_of_many_pages_are_of_one_moment(member: RunningMember, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pycompose.manager.store.etcd.store.PAGE", 7)
    async with opened(member) as store:
        for first in range(0, 200, 100):
            await store.transact([], [Put(f"/{number:03}", b"") for number in range(first, first + 100)])
        found = await store.range("/")
        assert [item.key for item in found.items] == [f"/{number:03}" for number in range(200)]
        assert not found.more
        part = await store.range("/", after="/009", limit=15)
        assert [item.key for item in part.items] == [f"/{number:03}" for number in range(10, 25)]
        assert part.more


@pytest.mark.parametrize("version", ["3.4.23", "3.4.0", "3.5.3", "3.5.12", "3.6.0-rc.1"])
def test_versions_that_are_taken(version: str) -> None:
    check_version(version)


@pytest.mark.parametrize(("version", "why"), [("3.3.25", "too old"), ("3.5.0", "can lose data"), ("3.5.2", "3.5.3")])
def test_versions_that_are_refused(version: str, why: str) -> None:
    with pytest.raises(StoreError, match=why):
        check_version(version)


@pytest.mark.parametrize(("prefix", "end"), [(b"a", b"b"), (b"a\xff", b"b"), (b"\xff\xff", b"\0"), (b"a/", b"a0")])
def test_the_end_of_a_prefix(prefix: bytes, end: bytes) -> None:
    assert end_of(prefix) == end


def test_a_member_knows_every_flag_that_it_is_given(tmp_path: Path) -> None:
    files = Tls(*(tmp_path / name for name in ("ca", "certificate", "key")))
    member = Member("a", tmp_path / "a", "127.0.0.1:1", "127.0.0.1:2", {"a": "127.0.0.1:2", "b": "127.0.0.1:3"}, True)
    words = command(member)
    assert "--initial-cluster=a=http://127.0.0.1:2,b=http://127.0.0.1:3" in words
    assert "--initial-cluster-state=existing" in words
    secured = command(Member("a", tmp_path / "a", "127.0.0.1:1", "127.0.0.1:2", tls=files))
    assert "--peer-client-cert-auth=true" in secured
    assert not any("http://" in word for word in secured)
    known = subprocess.run(["etcd", "--help"], capture_output=True, text=True)
    named = known.stdout + known.stderr
    assert [word for word in secured[1:] if word.split("=")[0] not in named] == []
