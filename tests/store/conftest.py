"""The backends that every test of this folder runs against; a backend is added to `BACKENDS`."""

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from pycompose.manager.store import Store
from pycompose.manager.store.sqlite import SqliteStore

Opener = Callable[..., Awaitable[Store]]


async def sqlite(folder: Path, **options: Any) -> Store:
    """The store in `folder`, made or found again."""
    return await SqliteStore.open(folder / "store.db", **options)


BACKENDS: dict[str, Opener] = {"sqlite": sqlite}


@pytest.fixture(params=sorted(BACKENDS))
def open_store(request: pytest.FixtureRequest) -> Opener:
    """Opens a store of the backend under test in a folder."""
    return BACKENDS[request.param]
