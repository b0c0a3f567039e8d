"""The store's tables: keys as they are, the history of changes, leases. Runs in the store's thread alone.

What is kept in memory beside the tables (`State`) is a value, so that a group that could not be committed is undone by
putting the old value back.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from pycompose.manager.store.interface import (
    Batch,
    CompactedError,
    Compare,
    Delete,
    Event,
    KeyValue,
    Operation,
    Past,
    Put,
    Range,
    Revision,
    TransactionResult,
)

LAST = "\U0010ffff"
#: Revisions cut from the history at a time, so that no group waits long for it.
CUT = 500
FREE_PAGES = 256


@dataclass(frozen=True, slots=True)
class State:
    """`number`: newest revision; `compacted`: history up to here is gone; `bytes`: of the values in the history."""

    number: int
    compacted: int
    bytes: int


class Tables:
    """All statements. `history`, `history_bytes`: how much of the past is kept."""

    def __init__(self, db: sqlite3.Connection, history: int, history_bytes: int) -> None:
        self._db, self._history, self._history_bytes = db, history, history_bytes
        meta = dict(db.execute("SELECT name, value FROM meta"))
        self.epoch = str(meta["epoch"])
        size = db.execute("SELECT coalesce(sum(length(value) + coalesce(length(previous), 0)), 0) FROM log").fetchone()
        self.state = State(int(meta["revision"]), int(meta["compacted"]), int(size[0]))
        self.pending: list[Batch] = []
        self._saved = self.state

    # Groups.

    def begin(self) -> None:
        """Begin a group of jobs."""
        self._saved = self.state
        self._db.execute("BEGIN IMMEDIATE")

    def commit(self) -> list[Batch]:
        """Make the group durable; returns its changes."""
        if self.state.number != self._saved.number:
            self._cut()
            self._db.execute("UPDATE meta SET value = ? WHERE name = 'revision'", (self.state.number,))
        self._db.execute("COMMIT")
        batches, self.pending = self.pending, []
        return batches

    def rollback(self) -> None:
        """Undo the group."""
        self.state = self._saved
        self.pending = []
        if self._db.in_transaction:
            self._db.execute("ROLLBACK")

    def close(self) -> None:
        """Release the file."""
        self._db.close()

    def revision(self) -> Revision:
        """Return the newest revision, not yet committed ones included."""
        return Revision(self.epoch, self.state.number)

    # Keys.

    def _row(self, key: str) -> tuple[int, int] | None:
        row = self._db.execute("SELECT created, modified FROM kv WHERE key = ?", (key,)).fetchone()
        return None if row is None else (row[0], row[1])

    def transact(
        self, compares: Sequence[Compare], operations: Sequence[Operation], leases: Collection[int]
    ) -> TransactionResult:
        """Apply all operations if all comparisons hold. Raises ValueError for an unknown lease."""
        failed = []
        for compare in compares:
            row = self._row(compare.key)
            if (row[1] if row else 0) != compare.mod_revision:
                failed.append(compare.key)
        if failed:
            return TransactionResult(False, self.revision(), tuple(failed))
        for op in operations:
            if isinstance(op, Put) and op.lease and op.lease not in leases:
                raise ValueError(f"lease {op.lease} does not exist or has ended")
        self._apply(operations)
        return TransactionResult(True, self.revision())

    def _apply(self, operations: Sequence[Operation]) -> None:
        number = self.state.number + 1
        events: list[Event] = []
        for op in operations:
            if isinstance(op, Delete):
                gone = self._db.execute("DELETE FROM kv WHERE key = ? RETURNING value", (op.key,)).fetchone()
                if gone is not None:
                    events.append(Event(op.key, None, number, previous=gone[0]))
                continue
            row = self._row(op.key)
            self._db.execute(
                "INSERT OR REPLACE INTO kv VALUES (?, ?, ?, ?, ?)",
                (op.key, op.value, row[0] if row else number, number, op.lease),
            )
            events.append(Event(op.key, op.value, number, created=row is None))
        if not events:
            return
        self._db.executemany(
            "INSERT INTO log VALUES (?, ?, ?, ?, ?, ?)",
            [(number, place, e.key, e.value, e.created, e.previous) for place, e in enumerate(events)],
        )
        size = sum(len(event.value or event.previous or b"") for event in events)
        self.state = State(number, self.state.compacted, self.state.bytes + size)
        self.pending.append(Batch(Revision(self.epoch, number), tuple(events)))

    def get(self, key: str) -> KeyValue | None:
        """Return one key, or None."""
        row = self._db.execute("SELECT key, value, created, modified, lease FROM kv WHERE key = ?", (key,)).fetchone()
        return None if row is None else KeyValue(*row)

    def range(self, prefix: str, after: str, limit: int) -> Range:
        """Return keys in order."""
        rows = self._db.execute(
            "SELECT key, value, created, modified, lease FROM kv WHERE key >= ? AND key < ? AND key > ?"
            " ORDER BY key LIMIT ?",
            (prefix, prefix + LAST, after, limit + 1 if limit else -1),
        ).fetchall()
        more = bool(limit) and len(rows) > limit
        items = tuple(KeyValue(*row) for row in (rows[:limit] if more else rows))
        return Range(self.revision(), items, more)

    # History.

    def check(self, after: Revision) -> None:
        """Raises CompactedError when the history after this revision is not all there."""
        if after.epoch != self.epoch:
            raise CompactedError(f"revision of epoch {after.epoch}, the store's is {self.epoch}: read everything anew")
        if after.number < self.state.compacted:
            raise CompactedError(f"history up to {self.state.compacted} is compacted, asked after {after.number}")

    def changes(self, prefix: str, after: Revision, limit: int) -> Past:
        """Return changes of at most `limit` transactions (0: all) after a revision. Raises CompactedError."""
        self.check(after)
        past: dict[int, list[Event]] = {}
        more = False
        rows = self._db.execute(
            "SELECT revision, key, value, created, previous FROM log WHERE revision > ? AND key >= ? AND key < ?"
            " ORDER BY revision, position",
            (after.number, prefix, prefix + LAST),
        )
        for number, key, value, created, previous in rows:
            if limit and number not in past and len(past) == limit:
                more = True
                break
            past.setdefault(number, []).append(Event(key, value, number, bool(created), previous))
        rows.close()
        batches = tuple(Batch(Revision(self.epoch, number), tuple(events)) for number, events in past.items())
        return Past(batches[-1].revision if more else self.revision(), batches, more)

    def compact(self, number: int) -> None:
        """Forget the history up to and including `number`."""
        number = min(number, self.state.number)
        if number <= self.state.compacted:
            return
        gone = self._db.execute(
            "SELECT coalesce(sum(length(value) + coalesce(length(previous), 0)), 0) FROM log WHERE revision <= ?",
            (number,),
        ).fetchone()[0]
        self._db.execute("DELETE FROM log WHERE revision <= ?", (number,))
        self._db.execute("UPDATE meta SET value = ? WHERE name = 'compacted'", (number,))
        self._db.execute(f"PRAGMA incremental_vacuum({FREE_PAGES})").fetchall()
        self.state = State(self.state.number, number, self.state.bytes - gone)

    def _cut(self) -> None:
        """Keep the history within its bounds."""
        state = self.state
        if state.number - state.compacted >= self._history + CUT:
            self.compact(state.number - self._history)
        while self.state.bytes > self._history_bytes and self.state.compacted < state.number:
            kept = state.number - self.state.compacted
            self.compact(self.state.compacted + max(1, kept // 4))

    # Leases.

    def leases(self) -> dict[int, float]:
        """Return lease -> its time in seconds."""
        return {row[0]: row[1] for row in self._db.execute("SELECT id, ttl FROM lease")}

    def grant(self, ttl: float) -> int:
        """Make a lease."""
        return int(self._db.execute("INSERT INTO lease (ttl) VALUES (?)", (ttl,)).lastrowid or 0)

    def revoke(self, lease: int) -> None:
        """End a lease and delete its keys."""
        self._db.execute("DELETE FROM lease WHERE id = ?", (lease,))
        keys = [row[0] for row in self._db.execute("SELECT key FROM kv WHERE lease = ? ORDER BY key", (lease,))]
        if keys:
            self._apply([Delete(key) for key in keys])
