"""The store on one machine: SQLite in a thread of its own.

All statements run in one thread, in the order in which they were asked for. Transactions that wait together are
committed together, with one fsync (group commit): answers, and events to watchers, go out only after the commit. A
log table keeps past changes for watches until compaction; it is cut by itself when it grows beyond
`history` revisions. WAL with synchronous=FULL: what was acknowledged survives a power cut.
"""

from __future__ import annotations

import asyncio
import os
import queue
import secrets
import sqlite3
import threading
import time
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Any, TypeVar

from pycompose.manager.store.interface import (
    Batch,
    CompactedError,
    Compare,
    Delete,
    Event,
    KeyValue,
    Operation,
    Put,
    Range,
    Revision,
    StoreClosedError,
    StoreError,
    TooManyOperationsError,
    TransactionResult,
)

T = TypeVar("T")

SCHEMA = """
CREATE TABLE IF NOT EXISTS meta (name TEXT PRIMARY KEY, value) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS kv (key TEXT PRIMARY KEY, value BLOB NOT NULL, created INTEGER NOT NULL,
    modified INTEGER NOT NULL, lease INTEGER NOT NULL DEFAULT 0) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS kv_lease ON kv (lease) WHERE lease != 0;
CREATE TABLE IF NOT EXISTS log (revision INTEGER NOT NULL, position INTEGER NOT NULL, key TEXT NOT NULL, value BLOB,
    created INTEGER NOT NULL, PRIMARY KEY (revision, position)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS lease (id INTEGER PRIMARY KEY AUTOINCREMENT, ttl REAL NOT NULL);
"""
LAST = "\U0010ffff"
MAX_BATCH = 256
MAX_BACKLOG = 50_000


class _Watcher:
    """One watch: batches that its reader has not taken yet."""

    def __init__(self, prefix: str, loop: asyncio.AbstractEventLoop) -> None:
        self.prefix = prefix
        self.loop = loop
        self.start = 0
        self.queue: asyncio.Queue[Batch | StoreError] = asyncio.Queue()

    def deliver(self, item: Batch | StoreError) -> None:
        """Hand over a batch (from the event loop). A reader that is too slow is told to start anew."""
        if self.queue.qsize() > MAX_BACKLOG:
            item = CompactedError("this watch fell too far behind: read everything anew")
        self.queue.put_nowait(item)


class SqliteStore:
    """`Store` in the file `path`. `history`: revisions kept for watches. `clock`: seconds, for leases."""

    name = "sqlite"

    def __init__(
        self,
        path: Path,
        *,
        max_operations: int = 128,
        history: int = 20_000,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.max_operations = max_operations
        self._path = path
        self._history = history
        self._clock = clock
        self._jobs: queue.SimpleQueue[tuple[Callable[[], Any], Future[Any]] | None] = queue.SimpleQueue()
        self._watchers: list[_Watcher] = []
        self._pending: list[Batch] = []
        self._deadlines: dict[int, float] = {}
        self._number = 0
        self._committed = 0
        self._compacted = 0
        self._epoch = ""
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="store", daemon=True)

    @classmethod
    async def open(cls, path: Path, **options: Any) -> SqliteStore:
        """Open or create the store in `path`. Raises StoreError when the file cannot be used."""
        store = cls(path, **options)
        await asyncio.to_thread(store._connect)
        store._thread.start()
        return store

    @property
    def epoch(self) -> str:
        """Name of the store's lifetime."""
        return self._epoch

    async def revision(self) -> Revision:
        """Return the newest committed revision."""
        self._check_open()
        return Revision(self._epoch, self._committed)

    async def transact(self, compares: Sequence[Compare], operations: Sequence[Operation]) -> TransactionResult:
        """Apply all operations if all comparisons hold (see `Store.transact`)."""
        if len(operations) > self.max_operations:
            raise TooManyOperationsError(f"{len(operations)} operations, at most {self.max_operations} are taken")
        if len({op.key for op in operations}) != len(operations):
            raise ValueError("a transaction writes one key twice")
        return await self._submit(lambda: self._transact(compares, operations))

    async def get(self, key: str) -> KeyValue | None:
        """Return one key, or None."""
        return await self._submit(lambda: self._get(key))

    async def range(self, prefix: str, *, after: str = "", limit: int = 0) -> Range:
        """Return keys that start with `prefix`, after `after`, at most `limit` (0: all)."""
        return await self._submit(lambda: self._range(prefix, after, limit))

    async def watch(self, prefix: str, after: Revision) -> AsyncIterator[Batch]:
        """Yield every change after `after` below `prefix`."""
        watcher = _Watcher(prefix, asyncio.get_running_loop())
        past = await self._submit(lambda: self._start_watch(watcher, after))
        try:
            for batch in past:
                yield batch
            while True:
                item = await watcher.queue.get()
                if isinstance(item, StoreError):
                    raise item
                yield item
        finally:
            if watcher in self._watchers:
                self._watchers.remove(watcher)

    async def compact(self, number: int) -> None:
        """Forget the history up to and including `number`."""
        await self._submit(lambda: self._compact(number))

    async def grant(self, ttl: float) -> int:
        """Make a lease of `ttl` seconds."""
        return await self._submit(lambda: self._grant(ttl))

    async def keep_alive(self, lease: int) -> bool:
        """Give the lease its full time again."""
        return await self._submit(lambda: self._keep_alive(lease))

    async def revoke(self, lease: int) -> None:
        """End the lease and delete its keys."""
        await self._submit(lambda: self._revoke(lease))

    async def close(self) -> None:
        """Commit what was asked for, then release the file."""
        if self._closed:
            return
        self._closed = True
        self._jobs.put(None)
        await asyncio.to_thread(self._thread.join)
        for watcher in self._watchers:
            watcher.deliver(StoreClosedError("the store was closed"))

    def _check_open(self) -> None:
        if self._closed:
            raise StoreClosedError(f"the store {self._path} was closed")

    async def _submit(self, work: Callable[[], T]) -> T:
        self._check_open()
        future: Future[T] = Future()
        self._jobs.put((work, future))
        return await asyncio.wrap_future(future)

    # What follows runs in the store's thread.

    def _connect(self) -> None:
        try:
            descriptor = os.open(self._path, os.O_CREAT | os.O_RDWR, 0o600)
            os.close(descriptor)
            self._db = sqlite3.connect(self._path, isolation_level=None, check_same_thread=False)
            self._db.execute("PRAGMA journal_mode=WAL")
            self._db.execute("PRAGMA synchronous=FULL")
            self._db.executescript(SCHEMA)
            meta = dict(self._db.execute("SELECT name, value FROM meta"))
            if "epoch" not in meta:
                meta = {"epoch": secrets.token_hex(8), "revision": 0, "compacted": 0}
                self._db.executemany("INSERT INTO meta VALUES (?, ?)", list(meta.items()))
            self._epoch = str(meta["epoch"])
            self._number = self._committed = int(meta["revision"])
            self._compacted = int(meta["compacted"])
            now = self._clock()
            self._deadlines = {row[0]: now + row[1] for row in self._db.execute("SELECT id, ttl FROM lease")}
        except (sqlite3.Error, OSError) as error:
            raise StoreError(
                f"{self._path}: the store cannot be opened ({error}); restore it from a backup or move it away"
            ) from error

    def _run(self) -> None:
        while True:
            jobs = self._take()
            if jobs:
                self._group(jobs)
            if self._closed and self._jobs.empty():
                self._db.close()
                return

    def _take(self) -> list[tuple[Callable[[], Any], Future[Any]]]:
        """Return the jobs that wait, at least one unless a lease is due or the store closes."""
        timeout = None
        if self._deadlines:
            timeout = max(0.0, min(self._deadlines.values()) - self._clock())
        jobs: list[tuple[Callable[[], Any], Future[Any]]] = []
        try:
            first = self._jobs.get(timeout=timeout)
            if first is not None:
                jobs.append(first)
            while len(jobs) < MAX_BATCH:
                job = self._jobs.get_nowait()
                if job is not None:
                    jobs.append(job)
        except queue.Empty:
            pass
        now = self._clock()
        due = [lease for lease, deadline in self._deadlines.items() if deadline <= now]
        # Expired leases go first: a keep-alive that comes too late must fail.
        return [((lambda lease=lease: self._revoke(lease)), Future()) for lease in due] + jobs

    def _group(self, jobs: list[tuple[Callable[[], Any], Future[Any]]]) -> None:
        """Run jobs in one transaction of the database and answer after its commit."""
        answers: list[tuple[Future[Any], Any, BaseException | None]] = []
        start = self._number
        try:
            self._db.execute("BEGIN IMMEDIATE")
            for work, future in jobs:
                try:
                    answers.append((future, work(), None))
                except (StoreError, ValueError) as error:
                    answers.append((future, None, error))
            if self._number != start:
                self._db.execute("UPDATE meta SET value = ? WHERE name = 'revision'", (self._number,))
                if self._number - self._compacted > 2 * self._history:
                    self._compact(self._number - self._history)
            self._db.execute("COMMIT")
        except sqlite3.Error as error:
            self._number = start
            self._pending.clear()
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
            failure = StoreError(f"{self._path}: the store cannot be written ({error}); check the disk's free space")
            answers = [(future, None, failure) for _, future in jobs]
        self._committed = self._number
        self._publish()
        for future, value, problem in answers:
            if not future.set_running_or_notify_cancel():
                continue
            if problem is None:
                future.set_result(value)
            else:
                future.set_exception(problem)

    def _publish(self) -> None:
        batches, self._pending = self._pending, []
        if not batches:
            return
        for watcher in list(self._watchers):
            for batch in batches:
                if batch.revision.number <= watcher.start:
                    continue
                events = tuple(event for event in batch.events if event.key.startswith(watcher.prefix))
                if events:
                    try:
                        watcher.loop.call_soon_threadsafe(watcher.deliver, Batch(batch.revision, events))
                    except RuntimeError:  # its event loop is gone
                        break

    def _row(self, key: str) -> tuple[int, int] | None:
        row = self._db.execute("SELECT created, modified FROM kv WHERE key = ?", (key,)).fetchone()
        return None if row is None else (row[0], row[1])

    def _transact(self, compares: Sequence[Compare], operations: Sequence[Operation]) -> TransactionResult:
        failed = []
        for compare in compares:
            row = self._row(compare.key)
            if (row[1] if row else 0) != compare.mod_revision:
                failed.append(compare.key)
        if failed:
            return TransactionResult(False, Revision(self._epoch, self._number), tuple(failed))
        for op in operations:
            if isinstance(op, Put) and op.lease and op.lease not in self._deadlines:
                raise ValueError(f"lease {op.lease} does not exist or has ended")
        self._apply(operations)
        return TransactionResult(True, Revision(self._epoch, self._number))

    def _apply(self, operations: Sequence[Operation]) -> None:
        number = self._number + 1
        events: list[Event] = []
        for op in operations:
            row = self._row(op.key)
            if isinstance(op, Delete):
                if row is not None:
                    self._db.execute("DELETE FROM kv WHERE key = ?", (op.key,))
                    events.append(Event(op.key, None, number))
                continue
            created = row[0] if row else number
            self._db.execute(
                "INSERT OR REPLACE INTO kv VALUES (?, ?, ?, ?, ?)", (op.key, op.value, created, number, op.lease)
            )
            events.append(Event(op.key, op.value, number, created=row is None))
        if not events:
            return
        self._db.executemany(
            "INSERT INTO log VALUES (?, ?, ?, ?, ?)",
            [(number, place, event.key, event.value, event.created) for place, event in enumerate(events)],
        )
        self._number = number
        self._pending.append(Batch(Revision(self._epoch, number), tuple(events)))

    def _get(self, key: str) -> KeyValue | None:
        row = self._db.execute("SELECT key, value, created, modified, lease FROM kv WHERE key = ?", (key,)).fetchone()
        return None if row is None else KeyValue(*row)

    def _range(self, prefix: str, after: str, limit: int) -> Range:
        rows = self._db.execute(
            "SELECT key, value, created, modified, lease FROM kv WHERE key >= ? AND key < ? AND key > ?"
            " ORDER BY key LIMIT ?",
            (prefix, prefix + LAST, after, limit + 1 if limit else -1),
        ).fetchall()
        more = bool(limit) and len(rows) > limit
        items = tuple(KeyValue(*row) for row in (rows[:limit] if more else rows))
        return Range(Revision(self._epoch, self._number), items, more)

    def _start_watch(self, watcher: _Watcher, after: Revision) -> list[Batch]:
        if after.epoch != self._epoch:
            raise CompactedError(f"revision of epoch {after.epoch}, the store's is {self._epoch}: read everything anew")
        if after.number < self._compacted:
            raise CompactedError(f"history up to {self._compacted} is compacted, asked after {after.number}")
        past: dict[int, list[Event]] = {}
        rows = self._db.execute(
            "SELECT revision, key, value, created FROM log WHERE revision > ? AND key >= ? AND key < ?"
            " ORDER BY revision, position",
            (after.number, watcher.prefix, watcher.prefix + LAST),
        )
        for number, key, value, created in rows:
            past.setdefault(number, []).append(Event(key, value, number, created=bool(created)))
        # Changes of this very group are in the log already: they must not come a second time.
        watcher.start = self._number
        self._watchers.append(watcher)
        return [Batch(Revision(self._epoch, number), tuple(events)) for number, events in past.items()]

    def _compact(self, number: int) -> None:
        number = min(number, self._number)
        if number <= self._compacted:
            return
        self._db.execute("DELETE FROM log WHERE revision <= ?", (number,))
        self._db.execute("UPDATE meta SET value = ? WHERE name = 'compacted'", (number,))
        self._compacted = number

    def _grant(self, ttl: float) -> int:
        lease = int(self._db.execute("INSERT INTO lease (ttl) VALUES (?)", (ttl,)).lastrowid or 0)
        self._deadlines[lease] = self._clock() + ttl
        return lease

    def _keep_alive(self, lease: int) -> bool:
        if lease not in self._deadlines:
            return False
        ttl = self._db.execute("SELECT ttl FROM lease WHERE id = ?", (lease,)).fetchone()[0]
        self._deadlines[lease] = self._clock() + ttl
        return True

    def _revoke(self, lease: int) -> None:
        if self._deadlines.pop(lease, None) is None:
            return
        self._db.execute("DELETE FROM lease WHERE id = ?", (lease,))
        keys = [row[0] for row in self._db.execute("SELECT key FROM kv WHERE lease = ? ORDER BY key", (lease,))]
        if keys:
            self._apply([Delete(key) for key in keys])
