"""`SqliteStore`: the thread that has the tables, group commit, watches, and the deadlines of leases."""

from __future__ import annotations

import asyncio
import queue
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
    KeyValue,
    Operation,
    Past,
    Range,
    Revision,
    StoreClosedError,
    StoreError,
    TooManyOperationsError,
    TransactionResult,
)
from pycompose.manager.store.sqlite.file import explain, open_file
from pycompose.manager.store.sqlite.tables import Tables

T = TypeVar("T")
Job = tuple[Callable[[], Any], "Future[Any]"]
MAX_BATCH = 256
MAX_BACKLOG = 50_000


class _Watcher:
    """One watch: batches that its reader has not taken yet."""

    def __init__(self, prefix: str, loop: asyncio.AbstractEventLoop) -> None:
        self.prefix, self.loop = prefix, loop
        self.start = 0
        self.over = False
        self.queue: asyncio.Queue[Batch | StoreError] = asyncio.Queue()

    def deliver(self, item: Batch | StoreError) -> None:
        """Hand over a batch (from the event loop). A reader that is too slow is told to start anew."""
        if self.over:
            return
        if self.queue.qsize() >= MAX_BACKLOG:
            item = CompactedError("this watch fell too far behind: read everything anew")
        self.over = isinstance(item, StoreError)
        self.queue.put_nowait(item)


class SqliteStore:
    """`Store` in the file `path`.

    Args:
        path: the file; a missing one is made.
        max_operations: most operations of one transaction.
        history, history_bytes: transactions, and bytes of their values, that are kept for watches.
        clock: seconds, for leases. After a restart every lease has its full time again.
    """

    name = "sqlite"

    def __init__(
        self,
        path: Path,
        *,
        max_operations: int = 128,
        history: int = 10_000,
        history_bytes: int = 64 * 1024 * 1024,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.max_operations = max_operations
        self._path, self._bounds, self._clock = path, (history, history_bytes), clock
        self._tables: Tables
        self._jobs: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
        self._watchers: list[_Watcher] = []
        self._deadlines: dict[int, tuple[float, float]] = {}
        self._committed = 0
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
        return self._tables.epoch

    async def revision(self) -> Revision:
        """Return the newest committed revision."""
        self._check_open()
        return Revision(self._tables.epoch, self._committed)

    async def transact(self, compares: Sequence[Compare], operations: Sequence[Operation]) -> TransactionResult:
        """Apply all operations if all comparisons hold (see `Store.transact`)."""
        if len(operations) > self.max_operations:
            raise TooManyOperationsError(f"{len(operations)} operations, at most {self.max_operations} are taken")
        if len({op.key for op in operations}) != len(operations):
            raise ValueError("a transaction writes one key twice")
        return await self._submit(lambda: self._tables.transact(compares, operations, self._deadlines))

    async def get(self, key: str) -> KeyValue | None:
        """Return one key, or None."""
        return await self._submit(lambda: self._tables.get(key))

    async def range(self, prefix: str, *, after: str = "", limit: int = 0) -> Range:
        """Return keys that start with `prefix`, after `after`, at most `limit` (0: all)."""
        return await self._submit(lambda: self._tables.range(prefix, after, limit))

    async def changes(self, prefix: str, after: Revision, limit: int) -> Past:
        """Return past changes (see `Store.changes`)."""
        return await self._submit(lambda: self._tables.changes(prefix, after, limit))

    async def watch(self, prefix: str, after: Revision) -> AsyncIterator[Batch]:
        """Yield every change after `after` below `prefix`."""
        watcher = _Watcher(prefix, asyncio.get_running_loop())
        try:
            for batch in await self._submit(lambda: self._start_watch(watcher, after)):
                yield batch
            while True:
                item = await watcher.queue.get()
                if isinstance(item, StoreError):
                    raise item
                yield item
        finally:
            # Also a watch that was cancelled before it began: jobs run in the order in which they were asked for.
            self._jobs.put((lambda: self._end_watch(watcher), Future()))

    async def compact(self, number: int) -> None:
        """Forget the history up to and including `number`."""
        await self._submit(lambda: self._tables.compact(number))

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
            watcher.deliver(StoreClosedError(f"the store {self._path} was closed"))

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
        self._tables = Tables(open_file(self._path), *self._bounds)
        self._committed = self._tables.state.number
        now = self._clock()
        self._deadlines = {lease: (now + ttl, ttl) for lease, ttl in self._tables.leases().items()}

    def _run(self) -> None:
        while True:
            jobs = self._take()
            if jobs:
                self._group(jobs)
            if self._closed and self._jobs.empty():
                self._tables.close()
                return

    def _take(self) -> list[Job]:
        """Return the jobs that wait, at least one unless a lease is due or the store closes."""
        timeout = None
        if self._deadlines:
            timeout = max(0.0, min(self._deadlines.values())[0] - self._clock())
        jobs: list[Job] = []
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
        due = [lease for lease, (deadline, _) in self._deadlines.items() if deadline <= now]
        # Expired leases go first: a keep-alive that comes too late must fail.
        return [((lambda lease=lease: self._revoke(lease)), Future()) for lease in due] + jobs

    def _group(self, jobs: list[Job]) -> None:
        """Run jobs in one transaction of the database and answer after its commit."""
        answers: list[tuple[Future[Any], Any, BaseException | None]] = []
        deadlines, watchers = dict(self._deadlines), list(self._watchers)
        try:
            self._tables.begin()
            for work, future in jobs:
                try:
                    answers.append((future, work(), None))
                except (StoreError, ValueError) as error:
                    answers.append((future, None, error))
            batches = self._tables.commit()
            self._committed = self._tables.state.number
            self._publish(batches)
        except sqlite3.Error as error:
            self._tables.rollback()
            self._deadlines, self._watchers = deadlines, watchers
            if len(jobs) > 1:  # each by itself: only the one to blame fails
                for job in jobs:
                    self._group([job])
                return
            time.sleep(0.01)  # a lease that is due comes again at once
            answers = [(jobs[0][1], None, explain(self._path, error))]
        for future, value, problem in answers:
            if not future.set_running_or_notify_cancel():
                continue
            if problem is None:
                future.set_result(value)
            else:
                future.set_exception(problem)

    def _publish(self, batches: Sequence[Batch]) -> None:
        if not batches:
            return
        for watcher in self._watchers:
            for batch in batches:
                if batch.revision.number <= watcher.start:
                    continue
                events = tuple(event for event in batch.events if event.key.startswith(watcher.prefix))
                if events:
                    try:
                        watcher.loop.call_soon_threadsafe(watcher.deliver, Batch(batch.revision, events))
                    except RuntimeError:  # its event loop is gone
                        break

    def _start_watch(self, watcher: _Watcher, after: Revision) -> tuple[Batch, ...]:
        past = self._tables.changes(watcher.prefix, after, 0)
        # Changes of this very group are in the history already: they must not come a second time.
        watcher.start = past.revision.number
        self._watchers.append(watcher)
        return past.items

    def _end_watch(self, watcher: _Watcher) -> None:
        if watcher in self._watchers:
            self._watchers.remove(watcher)

    def _grant(self, ttl: float) -> int:
        lease = self._tables.grant(ttl)
        self._deadlines[lease] = (self._clock() + ttl, ttl)
        return lease

    def _keep_alive(self, lease: int) -> bool:
        if lease not in self._deadlines:
            return False
        ttl = self._deadlines[lease][1]
        self._deadlines[lease] = (self._clock() + ttl, ttl)
        return True

    def _revoke(self, lease: int) -> None:
        if self._deadlines.pop(lease, None) is not None:
            self._tables.revoke(lease)
