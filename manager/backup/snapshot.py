"""Everything that is in a store, as it is at one revision, without holding up writes or keeping it in memory.

Pages are read one after another, each as of its own moment, and after each page the changes since the one before
follow. Applied in this order, pages and changes together give the content at the revision of the last change: what a
page saw too early a change corrects, and what it saw too late the same change says again. Both stores have what this
takes, `range` and `changes`; the distance to the store's history never grows beyond one page.
"""

from __future__ import annotations

from collections.abc import AsyncIterator

from pycompose.manager.model import KEPT
from pycompose.manager.store import CompactedError, Past, Revision, Store, StoreUnavailableError
from pycompose.proto.backup import PART_BYTES
from pycompose.proto.v1.backup_pb2 import BackupEntries, BackupEntry

#: Keys of one read, and transactions of one look at the history.
PAGE, TRANSACTIONS = 100, 100


async def snapshot(store: Store) -> AsyncIterator[BackupEntries]:
    """Yield the content of a store in parts of about `PART_BYTES`.

    Raises:
        StoreUnavailableError: it changes faster than it can be read.
    """
    part, size = BackupEntries(), 0
    async for entry in _entries(store):
        part.entries.append(entry)
        size += len(entry.key) + len(entry.value)
        if size >= PART_BYTES:
            yield part
            part, size = BackupEntries(), 0
    if part.entries:
        yield part


async def _entries(store: Store) -> AsyncIterator[BackupEntry]:
    position = await store.revision()
    try:
        for prefix in KEPT:
            after, more = "", True
            while more:
                page = await store.range(prefix, after=after, limit=PAGE)
                for item in page.items:
                    after = item.key
                    if not item.lease:
                        yield BackupEntry(key=item.key, value=item.value)
                more = page.more
                async for past in _since(store, position):
                    position = past.revision
                    for entry in _changed(past):
                        yield entry
    except CompactedError:
        raise StoreUnavailableError("the store changes faster than it can be read; try again") from None


async def _since(store: Store, position: Revision) -> AsyncIterator[Past]:
    """Yield what has changed until now; what changes meanwhile follows the next page, or is not of the snapshot."""
    now, more = (await store.revision()).number, True
    while more:
        past = await store.changes("/", position, TRANSACTIONS)
        yield past
        position, more = past.revision, past.more and past.revision.number < now


def _changed(past: Past) -> list[BackupEntry]:
    return [
        BackupEntry(key=event.key, value=event.value or b"", deleted=event.value is None)
        for batch in past.items
        for event in batch.events
        if event.key.startswith(KEPT)
    ]
