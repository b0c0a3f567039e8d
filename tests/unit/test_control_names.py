"""A name is one object's, also while a manager has not heard yet of what another one created."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from pycompose.manager.cache import Cache
from pycompose.manager.control.api import Api
from pycompose.manager.model import CONFIG, Codec
from pycompose.manager.sealing import Sealer
from pycompose.manager.store.sqlite import SqliteStore
from pycompose.proto.refusal import ExistsError
from pycompose.proto.v1 import secret_pb2

CODEC = Codec(Sealer(bytes(32)))


async def test_a_name_that_another_manager_gave_just_now_is_taken(tmp_path: Path) -> None:
    store = await SqliteStore.open(tmp_path / "store.db")
    quick, slow = Cache(store, CODEC), Cache(store, CODEC)
    for cache in (quick, slow):
        await cache.load()
    following = [asyncio.create_task(quick.follow())]
    spec = secret_pb2.ConfigSpec(name="one")
    await Api(store, quick, CODEC).create(CONFIG, secret_pb2.Config(id="a", spec=spec))
    second = asyncio.create_task(Api(store, slow, CODEC).create(CONFIG, secret_pb2.Config(id="b", spec=spec)))
    await asyncio.sleep(0.05)
    following.append(asyncio.create_task(slow.follow()))
    with pytest.raises(ExistsError):
        await second
    assert [config.id for config in slow.all(CONFIG)] == ["a"]
    for task in following:
        task.cancel()
    await asyncio.gather(*following, return_exceptions=True)
    await store.close()
