"""The backends that every test of this folder runs against; a backend is added to `BACKENDS`."""

import functools
import hashlib
import shutil
import tempfile
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from store.members import RunningMember, alone

from pycompose.manager.store import Store
from pycompose.manager.store.etcd import EtcdStore
from pycompose.manager.store.sqlite import SqliteStore

Opener = Callable[..., Awaitable[Store]]


async def sqlite(folder: Path, **options: Any) -> Store:
    """The store in `folder`, made or found again."""
    return await SqliteStore.open(folder / "store.db", **options)


@functools.cache
def running_etcd() -> RunningMember:
    """One etcd for all tests; it ends with this process."""
    return alone(Path(tempfile.mkdtemp(prefix="pycompose-etcd-")))


async def etcd(folder: Path, **_: Any) -> Store:
    """The store of `folder`: a root of its own in the etcd that all tests share. Its clock cannot be another."""
    root = hashlib.sha256(str(folder).encode()).hexdigest()[:16]
    return await EtcdStore.open([running_etcd().member.client], root=root)


BACKENDS: dict[str, Opener] = {"etcd": etcd, "sqlite": sqlite}


@pytest.fixture(params=sorted(BACKENDS))
def open_store(request: pytest.FixtureRequest) -> Opener:
    """Opens a store of the backend under test in a folder."""
    return BACKENDS[request.param]


@pytest.fixture(scope="session", autouse=True)
def end_etcd() -> Iterator[None]:
    """End the shared etcd, if one was started, and remove its data."""
    yield
    if running_etcd.cache_info().currsize:
        running_etcd().kill()
        shutil.rmtree(running_etcd().member.directory.parent)
