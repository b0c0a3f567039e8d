"""What was acknowledged is there after kill -9; a damaged, locked or full store says so and loses nothing."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from pycompose.manager.store import Compare, Put, StoreError, StoreFullError
from pycompose.manager.store.sqlite import SqliteStore

WRITER = """
import asyncio, sys
from pathlib import Path
from pycompose.manager.store import Put
from pycompose.manager.store.sqlite import SqliteStore

async def main():
    store = await SqliteStore.open(Path(sys.argv[1]), history=50)
    number = int(sys.argv[2])
    async def write(n):
        await store.transact([], [Put(f"/{n}", b"x" * 200), Put("/last", b"%d" % n)])
        print(n, flush=True)
    while True:
        await asyncio.gather(*(write(number + n) for n in range(10)))
        number += 10

asyncio.run(main())
"""


def write_and_be_killed(path: Path, first: int, pause: float) -> set[int]:
    """Let a process write, kill it; returns the numbers of the writes that were acknowledged to it."""
    command = [sys.executable, "-c", WRITER, str(path), str(first)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as writer:
        assert writer.stdout is not None
        lines = [writer.stdout.readline()]
        time.sleep(pause)
        writer.send_signal(signal.SIGKILL)
        lines += writer.stdout.read().split(b"\n")
    return {int(line) for line in lines if line.strip()}


@pytest.mark.timeout(1200)
async def test_soak_kill_9_loses_no_acknowledged_write(tmp_path: Path, many: Callable[[int], int]) -> None:
    chance, path, acknowledged = random.Random(5), tmp_path / "store.db", 0
    for _ in range(many(100)):
        said = await asyncio.to_thread(write_and_be_killed, path, acknowledged + 1, chance.uniform(0.0, 0.3))
        store = await SqliteStore.open(path)
        missing = [number for number in said if await store.get(f"/{number}") is None]
        assert missing == []
        items = (await store.range("/")).items
        # Each transaction is whole: the newest says so of itself.
        last = await store.get("/last")
        assert last is not None
        assert f"/{int(last.value)}" in {item.key for item in items}
        assert max(item.mod_revision for item in items) == (await store.revision()).number
        acknowledged = max(int(item.key[1:]) for item in items if item.key != "/last")
        await store.close()


async def test_history_is_cut_by_itself_and_the_file_does_not_grow(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    store = await SqliteStore.open(path, history=200)
    sizes = []
    for _ in range(12):
        for _ in range(5):
            await asyncio.gather(*(store.transact([], [Put(f"/{n % 5}", os.urandom(2000))]) for n in range(100)))
        sizes.append(path.stat().st_size + Path(f"{path}-wal").stat().st_size)
    assert max(sizes[4:]) < 1.5 * max(sizes[:4]), sizes
    start = await store.revision()
    with pytest.raises(StoreError, match="compacted"):
        await store.changes("/", type(start)(start.epoch, 1), 10)
    await store.close()


async def test_history_of_large_values_is_bounded_in_bytes(tmp_path: Path) -> None:
    store = await SqliteStore.open(tmp_path / "store.db", history_bytes=1_000_000)
    for number in range(100):
        await store.transact([], [Put("/large", os.urandom(100_000) + b"%d" % number)])
    await store.close()
    assert (tmp_path / "store.db").stat().st_size < 4_000_000


async def test_a_second_manager_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pycompose.manager.store.sqlite.file.LOCK_SECONDS", 0.2)
    store = await SqliteStore.open(tmp_path / "store.db")
    await store.transact([], [Put("/a", b"")])
    with pytest.raises(StoreError, match="another manager uses this store; end that one first"):
        await SqliteStore.open(tmp_path / "store.db")
    await store.close()
    await (await SqliteStore.open(tmp_path / "store.db")).close()


async def made(path: Path) -> bytes:
    store = await SqliteStore.open(path)
    for number in range(300):
        await store.transact([], [Put(f"/{number}", os.urandom(500))])
    await store.close()
    return path.read_bytes()


@pytest.mark.parametrize("damage", ["empty", "garbage", "cut", "torn", "other"])
async def test_a_damaged_file_is_refused_with_what_to_do(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "store.db"
    whole = await made(path)
    if damage == "other":
        path.unlink()
        db = sqlite3.connect(path)
        db.execute("CREATE TABLE something (a)")
        db.execute("PRAGMA user_version=2")
        db.close()
    else:
        middle = len(whole) // 2
        torn = whole[:middle] + os.urandom(8192) + whole[middle + 8192 :]
        path.write_bytes({"empty": b"", "garbage": b"x" * 9000, "cut": whole[:middle], "torn": torn}[damage])
    before = path.read_bytes()
    with pytest.raises(StoreError) as caught:
        await SqliteStore.open(path)
    assert str(path) in str(caught.value)
    if damage != "other":
        assert "damaged" in str(caught.value)
        assert "backup" in str(caught.value)
        assert path.read_bytes() == before, "what can be saved is left alone"


async def test_a_store_of_a_newer_version_is_refused(tmp_path: Path) -> None:
    await made(tmp_path / "store.db")
    db = sqlite3.connect(tmp_path / "store.db")
    db.execute("PRAGMA user_version=99")
    db.close()
    with pytest.raises(StoreError, match="a newer pycompose made this store"):
        await SqliteStore.open(tmp_path / "store.db")


async def test_a_full_disk_fails_the_write_alone_and_is_got_over(tmp_path: Path) -> None:
    store = await SqliteStore.open(tmp_path / "store.db")
    await store.transact([], [Put("/kept", b"1")])
    tables = store._tables
    pages = tables._db.execute("PRAGMA page_count").fetchone()[0]
    tables._db.execute(f"PRAGMA max_page_count={pages + 4}")
    before = await store.revision()
    with pytest.raises(StoreFullError, match="no space left on its disk; make room"):
        await store.transact([], [Put("/large", bytes(1_000_000))])
    # In one group with others: they are not to blame.
    results = await asyncio.gather(
        store.get("/kept"),
        store.transact([], [Put("/large", bytes(1_000_000))]),
        store.transact([], [Put("/small", b"2")]),
        return_exceptions=True,
    )
    assert results[0] is not None
    assert isinstance(results[1], StoreFullError)
    assert getattr(results[2], "succeeded", False)
    tables._db.execute("PRAGMA max_page_count=1000000")
    small = await store.get("/small")
    assert small is not None
    assert small.mod_revision == before.number + 1
    assert (await store.transact([Compare("/large", 0)], [Put("/large", bytes(1_000_000))])).succeeded
    await store.close()


def test_a_manager_that_cannot_use_its_store_says_why(tmp_path: Path) -> None:
    folder = tmp_path / "state" / "manager"
    folder.mkdir(parents=True)
    (folder / "store.db").write_bytes(b"")
    places = {"PYCOMPOSE_STATE_DIR": str(tmp_path / "state"), "PYCOMPOSE_RUN_DIR": str(tmp_path / "run")}
    command = [sys.executable, "-m", "pycompose.manager"]
    done = subprocess.run(command, env=os.environ | places, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert "the store is damaged (the file is empty)" in done.stderr
    assert "Traceback" not in done.stderr
