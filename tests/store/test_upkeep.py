"""An etcd whose file has reached its quota takes writes again, without a person."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from store.members import alone

from pycompose.manager.members.upkeep import SLOT_SECONDS, Upkeep, is_worth_it, own_turn
from pycompose.manager.store import Put, StoreFullError
from pycompose.manager.store.etcd import EtcdStore
from pycompose.manager.store.etcd.cluster import Cluster

QUOTA = 2 * 1024**2


async def fill(store: EtcdStore) -> None:
    """Write one key, whose past fills the file."""
    for number in range(200):
        await store.transact([], [Put("/filled", bytes([number % 256]) * 100_000)])


async def test_a_full_file_is_made_small_and_the_alarm_taken_back(tmp_path: Path) -> None:
    member = alone(tmp_path, quota=QUOTA)
    try:
        store = await EtcdStore.open([member.member.client])
        with pytest.raises(StoreFullError):
            await fill(store)
        with pytest.raises(StoreFullError):
            await store.transact([], [Put("/refused", b"x")])
        upkeep = Upkeep(Cluster(store.client), Alone(), store, QUOTA, look=0.05)  # type: ignore[arg-type]
        looking = asyncio.create_task(upkeep.run())
        try:
            async with asyncio.timeout(60):
                while True:
                    try:
                        await store.transact([], [Put("/written", b"x")])
                        break
                    except StoreFullError:
                        await asyncio.sleep(0.05)
        finally:
            looking.cancel()
            await asyncio.gather(looking, return_exceptions=True)
        assert (await store.get("/written")) is not None
        assert await Cluster(store.client).alarms() == {}
        await store.close()
    finally:
        member.kill()


class Alone:
    """No other can lead."""

    async def hand_over(self, own: int) -> None:
        """Nothing to do."""


def test_members_take_turns() -> None:
    members = [30, 10, 20]
    for slot in range(7):
        assert sum(own_turn(each, members, slot * SLOT_SECONDS + 1) for each in members) == 1
    assert own_turn(5, [5], 12345.0)


def test_what_is_worth_rewriting() -> None:
    big = 100 * 1024**2
    assert is_worth_it(big, big // 4, full=False)
    assert not is_worth_it(big, big - 1, full=False)
    assert not is_worth_it(1000, 10, full=False)
    assert is_worth_it(1000, 10, full=True)
