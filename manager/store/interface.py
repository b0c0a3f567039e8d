"""The store's interface, shaped so that SQLite and etcd both fit behind it.

Theory of operation. The store maps keys (text) to values (bytes). Each transaction that changes something raises the
store's revision by one; a key remembers the revision that created it and the one that changed it last. A
transaction compares revisions of keys (0: the key does not exist), and applies all of its operations or none.
A watch delivers every change after a revision, in order, one batch per transaction, without gap; when the
store no longer keeps that past it raises CompactedError, and the reader starts anew from a range read.

A revision is (epoch, number). The epoch is random and changes when the store is made, migrated or restored, so that
numbers of two lifetimes are never compared.

Errors::

    StoreError
    ├── CompactedError            the past asked for is gone, or of another epoch
    ├── TooManyOperationsError    more operations than `max_operations`
    ├── StoreFullError            no space left where the store lies
    ├── StoreUnavailableError     no answer: members cannot be reached, or are no majority
    └── StoreClosedError          the store was closed
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Protocol


class StoreError(Exception):
    """Something is wrong with the store; the message says what."""


class CompactedError(StoreError):
    """The history after the asked revision is no longer there: read everything anew."""


class TooManyOperationsError(StoreError):
    """The transaction is larger than the backend takes: split it."""


class StoreFullError(StoreError):
    """There is no space left where the store lies; nothing was changed."""


class StoreUnavailableError(StoreError):
    """The store does not answer; a write may have been done all the same."""


class StoreClosedError(StoreError):
    """The store was closed."""


@dataclass(frozen=True, slots=True)
class Revision:
    """A point in the store's history."""

    epoch: str
    number: int


@dataclass(frozen=True, slots=True)
class KeyValue:
    """One key as it is. `lease` 0: none."""

    key: str
    value: bytes
    create_revision: int
    mod_revision: int
    lease: int = 0


@dataclass(frozen=True, slots=True)
class Compare:
    """Holds when `key` was last changed at `mod_revision`; 0: when it does not exist."""

    key: str
    mod_revision: int


@dataclass(frozen=True, slots=True)
class Put:
    """Sets a key. `lease`: the key goes when that lease ends; 0: none."""

    key: str
    value: bytes
    lease: int = 0


@dataclass(frozen=True, slots=True)
class Delete:
    """Removes a key; nothing happens when it is not there."""

    key: str


Operation = Put | Delete


@dataclass(frozen=True, slots=True)
class Event:
    """A change of one key. `value` None: it was deleted; then `previous` is what it was (None: no longer known)."""

    key: str
    value: bytes | None
    mod_revision: int
    created: bool = False
    previous: bytes | None = None


@dataclass(frozen=True, slots=True)
class Batch:
    """What one transaction changed."""

    revision: Revision
    events: tuple[Event, ...]


@dataclass(frozen=True, slots=True)
class Past:
    """Changes in order. `revision`: everything up to here was looked at; `more`: the limit cut the answer."""

    revision: Revision
    items: tuple[Batch, ...]
    more: bool = False


@dataclass(frozen=True, slots=True)
class Range:
    """Keys in order, all as of `revision`. `more`: the limit cut the answer."""

    revision: Revision
    items: tuple[KeyValue, ...]
    more: bool = False


@dataclass(frozen=True, slots=True)
class TransactionResult:
    """`succeeded`: all comparisons held and the operations are durable. `failed`: keys whose comparison did not."""

    succeeded: bool
    revision: Revision
    failed: tuple[str, ...] = ()


class Store(Protocol):
    """A revisioned key-value store."""

    name: str
    max_operations: int

    @property
    def epoch(self) -> str:
        """Name of the store's lifetime."""
        ...

    async def revision(self) -> Revision:
        """Return the newest committed revision (linearizable)."""
        ...

    async def transact(self, compares: Sequence[Compare], operations: Sequence[Operation]) -> TransactionResult:
        """Apply all operations if all comparisons hold; durable when it returns.

        Raises TooManyOperationsError, StoreClosedError; ValueError when one key is written twice or a lease is unknown.
        """
        ...

    async def get(self, key: str) -> KeyValue | None:
        """Return one key, or None."""
        ...

    async def range(self, prefix: str, *, after: str = "", limit: int = 0) -> Range:
        """Return keys that start with `prefix`, after the key `after`, at most `limit` (0: all)."""
        ...

    def watch(self, prefix: str, after: Revision) -> AsyncIterator[Batch]:
        """Yield every change after `after` to keys with `prefix`. Raises CompactedError, StoreClosedError."""
        ...

    async def changes(self, prefix: str, after: Revision, limit: int) -> Past:
        """Return the changes after `after` to keys with `prefix`, up to now, of at most `limit` transactions.

        Raises CompactedError, StoreClosedError.
        """
        ...

    async def compact(self, number: int) -> None:
        """Forget the history up to and including revision `number`; present values stay."""
        ...

    async def grant(self, ttl: float) -> int:
        """Make a lease of `ttl` seconds and return its id (above 0)."""
        ...

    async def keep_alive(self, lease: int) -> bool:
        """Give the lease its full time again; False: it has ended."""
        ...

    async def revoke(self, lease: int) -> None:
        """End the lease and delete its keys."""
        ...

    async def close(self) -> None:
        """Release everything; watches end with StoreClosedError."""
        ...
