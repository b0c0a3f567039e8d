"""Logs are read exactly once, whatever the writer does meanwhile."""

from __future__ import annotations

import asyncio
import json
import os
import random
import resource
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pycompose.worker.runtime import jsonlog, logfiles, logs
from pycompose.worker.runtime.jsonlog import PIECE, JsonLog

SECOND = 1_000_000_000


def write(path: Path, lines: range, max_bytes: int, max_files: int, pause_every: int = 50) -> None:
    log = JsonLog(str(path), max_bytes, max_files)
    for number in lines:
        log.write("stdout", b"line %d\n" % number, time.time_ns())
        if number % pause_every == 0:
            time.sleep(0.002)
    log.close(time.time_ns())


def read(path: Path, **span: Any) -> list[logs.Entry]:
    reader = logs.Reader(path, logs.Span(**span))
    reader.begin()
    found: list[logs.Entry] = []
    while not reader.finished:
        found += reader.more()
    reader.close()
    return found


async def numbers_of(path: Path, done: threading.Event, count: int | None = None) -> list[int]:
    reader = logs.Reader(path, logs.Span(count=count, follow=True), done.is_set)
    return [int(data.split()[1]) async for batch in logs.merged([("one", reader)]) for _, (_, _, data) in batch]


async def test_readers_that_begin_at_any_moment_miss_nothing_and_see_nothing_twice(tmp_path: Path) -> None:
    path, done = tmp_path / "log", threading.Event()

    def writer() -> None:
        write(path, range(4000), 1500, 1_000_000)
        done.set()

    thread = threading.Thread(target=writer)
    thread.start()
    readers = []
    for number in range(6):
        readers.append(asyncio.create_task(numbers_of(path, done, count=None if number % 2 else 10)))
        await asyncio.sleep(0.02)
    results = await asyncio.gather(*readers)
    thread.join()
    for number, found in enumerate(results):
        assert found[-1] == 3999
        assert found == list(range(found[0], 4000))
        if number % 2:
            assert found[0] == 0


async def test_files_that_rotation_deletes_are_the_only_ones_missing(tmp_path: Path) -> None:
    path, done = tmp_path / "log", threading.Event()
    log = JsonLog(str(path), 200, 2)
    log.write("stdout", b"line 0\n", 1)
    reader = asyncio.create_task(numbers_of(path, done))
    await asyncio.sleep(0.05)
    for number in range(1, 100):  # without a pause: the reader sleeps, and most files are gone when it looks
        log.write("stdout", b"line %d\n" % number, number)
    done.set()
    found = await reader
    log.close(0)
    assert found[0] == 0
    assert found[-1] == 99
    assert found == sorted(set(found))


async def test_a_log_of_one_file_is_read_to_its_end_before_it_goes(tmp_path: Path) -> None:
    path, done = tmp_path / "log", threading.Event()
    log = JsonLog(str(path), 300, 1)
    log.write("stdout", b"line 0\n", 1)
    reader = asyncio.create_task(numbers_of(path, done))
    await asyncio.sleep(0.05)
    for number in range(1, 30):
        log.write("stdout", b"line %d\n" % number, number)
        await asyncio.sleep(0.06)
    done.set()
    assert await reader == list(range(30))


async def test_a_log_that_is_not_there_yet(tmp_path: Path) -> None:
    path, done = tmp_path / "log", threading.Event()
    reader = asyncio.create_task(numbers_of(path, done))
    await asyncio.sleep(0.05)
    write(path, range(5), 0, 1)
    await asyncio.sleep(0.2)
    done.set()
    assert await reader == [0, 1, 2, 3, 4]


async def test_a_line_is_followed_only_when_it_is_whole(tmp_path: Path) -> None:
    path, done = tmp_path / "log", threading.Event()
    line = b'{"log":"line 7\\n","stream":"stdout","time":"2026-01-01T00:00:00Z"}\n'
    path.write_bytes(line + line[:20])
    reader = asyncio.create_task(numbers_of(path, done))
    await asyncio.sleep(0.15)
    with open(path, "ab") as file:
        file.write(line[20:])
    await asyncio.sleep(0.15)
    done.set()
    assert await reader == [7, 7]


def test_spans_of_time(tmp_path: Path) -> None:
    path = tmp_path / "log"
    log = JsonLog(str(path), 400, 50)
    for number in range(60):
        log.write("stdout", b"%d\n" % number, number * SECOND)
    log.close(0)

    def span(**bounds: int) -> list[int]:
        return [int(data) for _, _, data in read(path, **bounds)]

    assert span(since=50 * SECOND) == list(range(50, 60))
    assert span(until=5 * SECOND) == list(range(6))
    assert span(since=20 * SECOND, until=30 * SECOND, count=3) == [28, 29, 30]
    assert span(since=20 * SECOND, until=30 * SECOND) == list(range(20, 31))
    assert span(count=0) == []


def test_the_last_lines_of_two_streams_with_long_ones(tmp_path: Path) -> None:
    path = tmp_path / "log"
    log = JsonLog(str(path), 0, 1)
    log.write("stdout", b"first\n", 1)
    log.write("stderr", b"x" * (3 * PIECE) + b"end\n", 2)
    log.write("stdout", b"last\n", 3)
    log.close(4)
    found = read(path, count=2)
    assert b"".join(data for _, stream, data in found if stream == "stderr") == b"x" * (3 * PIECE) + b"end\n"
    assert found[-1][2] == b"last\n"
    assert all(data != b"first\n" for _, _, data in found)


@given(st.text(st.characters(codec="utf-8"), min_size=1).map(str.encode), st.integers(0, 8))
def test_long_lines_are_split_between_characters(unit: bytes, shift: int) -> None:
    line = (b"a" * shift + unit * (2 * PIECE // len(unit) + 1)).replace(b"\n", b"")
    pieces = []
    while len(line) > PIECE:
        size = jsonlog.whole_characters(line)
        assert PIECE - 3 <= size <= PIECE
        pieces.append(line[:size])
        line = line[size:]
    for piece in pieces:
        piece.decode()  # no character is torn


def test_bytes_that_are_no_text(tmp_path: Path) -> None:
    path = tmp_path / "log"
    log = JsonLog(str(path), 0, 1)
    log.write("stdout", bytes(range(256)) * 200, 1)
    log.close(2)
    for line in path.read_bytes().splitlines():
        json.loads(line)
    assert "".join(data.decode() for _, _, data in read(path)).count("\n") == 200


def test_a_full_disk_costs_lines_but_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "log"
    log = JsonLog(str(path), 0, 1)
    real, room = os.write, [100]

    def limited(fd: int, data: bytes) -> int:
        if not room[0]:
            raise OSError(28, "No space left on device")
        written = real(fd, data[: room[0]])
        room[0] -= written
        return written

    monkeypatch.setattr(os, "write", limited)
    for number in range(5):
        log.write("stdout", b"line %d\n" % number, 1)
    room[0] = 10_000
    log.write("stdout", b"after\n", 2)
    log.write("stdout", b"again\n", 3)
    assert [data for _, _, data in read(path)] == [b"line 0\n", b"after\n", b"again\n"]


@pytest.mark.parametrize("kept", [1, 2, 5, 300])
def test_a_view_of_the_files_is_whole_while_they_are_renamed(tmp_path: Path, kept: int) -> None:
    path, stop = tmp_path / "log", threading.Event()
    write(path, range(100), 300, kept)

    def writer() -> None:
        number = 100
        log = JsonLog(str(path), 300, kept)
        while not stop.is_set() and number < 800:
            log.write("stdout", b"line %d\n" % number, number)
            number += 1
        log.close(0)

    thread = threading.Thread(target=writer)
    thread.start()
    try:
        while thread.is_alive():
            files = logfiles.open_all(path)
            text = b"".join(os.pread(each.fd, each.size, 0) for each in files)
            found = [int(entry[2].split()[1]) for entry in logs.parse_lines(text)]
            first = 0 if kept == 300 else min(found, default=0)
            assert found == list(range(first, first + len(found)))
            for each in files:
                each.close()
    finally:
        stop.set()
        thread.join()


def written(path: Path, times: list[int], name: str = "line", max_bytes: int = 3000, files: int = 3) -> list[bytes]:
    """Write a line at each time; return those that rotation kept."""
    log = JsonLog(str(path), max_bytes, files)
    for number, moment in enumerate(times):
        log.write("stdout", b"%s %d\n" % (name.encode(), number), moment)
    log.close(0)
    return [data for _, _, data in read(path)]


@pytest.mark.parametrize("files", [1, 2, 5])
def test_tails_and_spans_are_parts_of_the_whole(tmp_path: Path, files: int) -> None:
    chance = random.Random(files)
    times = [1000 * SECOND + number * SECOND for number in range(300)]
    whole = written(tmp_path / "log", times, files=files)
    assert whole[-1] == b"line 299\n"
    assert whole == [b"line %d\n" % number for number in range(300 - len(whole), 300)]
    for _ in range(60):
        count = chance.choice([None, 0, 1, 5, 40, 10_000])
        since, until = (chance.choice([None, chance.randrange(300)]) for _ in range(2))
        numbers = range(300 - len(whole), 300)
        expected = [n for n in numbers if (since is None or n >= since) and (until is None or n <= until)]
        if count is not None:
            expected = expected[len(expected) - count :] if count < len(expected) else expected
        span = {"count": count, "since": 0 if since is None else times[since]}
        span["until"] = None if until is None else times[until]
        found = [data for _, _, data in read(tmp_path / "log", **span)]
        assert found == [b"line %d\n" % n for n in expected], (count, since, until)


def test_a_damaged_line_is_left_out(tmp_path: Path) -> None:
    written(tmp_path / "log", [1, 2])
    with open(tmp_path / "log", "ab") as file:
        file.write(b'{"log":"cut off\n\0\0\0\n{"log":"good\\n","stream":"stdout","time":"1970-01-01T00:00:03Z"}\n')
    assert [entry[2] for entry in read(tmp_path / "log")] == [b"line 0\n", b"line 1\n", b"good\n"]
    assert [entry[2] for entry in read(tmp_path / "log", count=2)] == [b"line 1\n", b"good\n"]


async def collect(readers: list[tuple[str, logs.Reader]]) -> list[tuple[str, logs.Entry]]:
    found: list[tuple[str, logs.Entry]] = []
    async for batch in logs.merged(readers):
        assert len(batch) <= logs.BATCH
        found += batch
    return found


async def test_several_logs_come_merged_by_time(tmp_path: Path) -> None:
    chance = random.Random(3)
    expected = []
    for name in ("a", "b", "c"):
        times = sorted(chance.randrange(10**6) * 1000 for _ in range(700))
        kept = written(tmp_path / name, times, name, max_bytes=20_000, files=4)
        expected += [(moment, name) for moment in times[len(times) - len(kept) :]]
    readers = [(name, logs.Reader(tmp_path / name, logs.Span())) for name in ("a", "b", "c")]
    found = await collect(readers)
    assert [entry[0] for _, entry in found] == sorted(moment for moment, _ in expected)
    for name in ("a", "b", "c"):
        own = [int(entry[2].split()[1]) for each, entry in found if each == name]
        assert own == list(range(own[0], own[0] + len(own)))


async def test_until_ends_following(tmp_path: Path) -> None:
    written(tmp_path / "log", [1])
    span = logs.Span(follow=True, until=time.time_ns() + SECOND // 2)
    async with asyncio.timeout(20):
        assert len(await collect([("one", logs.Reader(tmp_path / "log", span))])) == 1


def test_a_large_log_is_not_held(tmp_path: Path) -> None:
    """60 MB of log are read without keeping them."""
    line = b'{"log":"%s\\n","stream":"stdout","time":"1970-01-01T00:00:01Z"}\n' % (b"x" * 1000)
    with open(tmp_path / "log", "wb") as file:
        for _ in range(60):
            file.write(line * 1000)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    reader = logs.Reader(tmp_path / "log", logs.Span(count=59_000))
    reader.begin()
    count = 0
    while not reader.finished:
        count += len(reader.more())
    assert count == 59_000
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 20_000  # KiB
