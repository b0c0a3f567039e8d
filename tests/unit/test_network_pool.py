"""The pool of prepared namespaces: filled while nobody waits, emptied when it is of no use, no descriptor lost."""

from __future__ import annotations

import asyncio
import os

import pytest

from pycompose.worker.network.errors import KernelRefused
from pycompose.worker.network.pool import Pool, Prepared


class Maker:
    """Makes members of /dev/null; `gate` holds it, `failures` come first."""

    def __init__(self) -> None:
        self.made: list[Prepared] = []
        self.discarded: list[Prepared] = []
        self.gate = asyncio.Event()
        self.gate.set()
        self.failures = 0

    async def __call__(self) -> Prepared:
        await self.gate.wait()
        if self.failures:
            self.failures -= 1
            raise KernelRefused("no")
        member = Prepared(os.open("/dev/null", os.O_RDONLY), f"key{len(self.made)}", (1, 2), "rules")
        self.made.append(member)
        return member

    def open(self) -> int:
        """How many descriptors of members are open."""
        found = 0
        for member in self.made:
            try:
                os.fstat(member.descriptor)
                found += 1
            except OSError:
                continue
        return found


async def until(condition: object) -> None:
    assert callable(condition)
    async with asyncio.timeout(20):
        while not condition():
            await asyncio.sleep(0)


async def test_it_is_filled_while_it_is_wanted() -> None:
    maker = Maker()
    pool = Pool(maker, maker.discarded.append, size=3)
    pool.start()
    assert pool.take() is None
    pool.want(True)
    await until(lambda: len(pool) == 3)
    first = pool.take()
    assert first == maker.made[0]
    await until(lambda: len(pool) == 3)
    pool.want(False)
    assert len(pool) == 0
    assert maker.discarded == maker.made[1:]
    os.close(first.descriptor)
    assert maker.open() == 0
    await pool.stop()


async def test_nobody_waits_for_it() -> None:
    """While containers are attached, none is made."""
    maker = Maker()
    pool = Pool(maker, maker.discarded.append, size=2)
    pool.start()
    with pool.in_use():
        pool.want(True)
        for _ in range(20):
            await asyncio.sleep(0)
        assert not maker.made
    await until(lambda: len(pool) == 2)
    await pool.stop()
    assert maker.open() == 0


async def test_what_is_being_made_is_not_used_when_its_ground_has_gone() -> None:
    maker = Maker()
    maker.gate.clear()
    pool = Pool(maker, maker.discarded.append, size=1)
    pool.start()
    pool.want(True)
    for _ in range(5):
        await asyncio.sleep(0)
    pool.drain()
    maker.gate.set()
    await until(lambda: len(pool) == 1)
    assert [one.key for one in maker.discarded] == ["key0"]
    member = pool.take()
    assert member is not None
    assert member.key == "key1"
    os.close(member.descriptor)
    await pool.stop()
    assert maker.open() == 0


async def test_a_failure_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pycompose.worker.network.pool.RETRY_S", 0)
    maker = Maker()
    maker.failures = 2
    pool = Pool(maker, maker.discarded.append, size=1)
    pool.start()
    pool.want(True)
    await until(lambda: len(pool) == 1)
    await pool.stop()
