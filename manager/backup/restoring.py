"""From a backup into a store beside the one in use; a rename puts it in that one's place.

Nothing that is in use is touched before the whole backup was read, checked, opened and decoded. The new store is
`STATE/manager/store.db.restoring`; complete, it is renamed to `store.db.restored`: that is the restoring. The next life
of the manager begins with it (`moving.adopt`), also when this one is killed right then.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

from google.protobuf.message import DecodeError

from pycompose.manager.backup.rehome import Move, rehomed, replaces
from pycompose.manager.backup.sealed import Reader
from pycompose.manager.model import (
    CLUSTER,
    CLUSTER_ID,
    KEPT,
    KINDS,
    NODE,
    OBJECTS,
    PROJECT,
    SERVICE,
    Codec,
    Kind,
    Object,
    parse_key,
)
from pycompose.manager.moving import RESTORED_DATABASE, remove_database
from pycompose.manager.sealing import Sealer, SealError
from pycompose.manager.store import Delete, KeyValue, Operation, Put, Store
from pycompose.manager.store.sqlite import SqliteStore
from pycompose.proto.backup import BackupError, Head
from pycompose.proto.files import sync_folder
from pycompose.proto.v1 import cluster_pb2
from pycompose.proto.v1.backup_pb2 import BackupEntry, BackupPart

UNFINISHED = "store.db.restoring"
PAGE = 100


@dataclass
class Restored:
    """What was read, and is not in use yet.

    Attributes:
        head: the backup's.
        folder: the manager's.
        cluster: the backup's cluster; None: it is of a single node.
        projects: names.
        nodes: host names of nodes by id, as the backup has them.
        replaced: the id of the node whose place this one takes; "" for none.
        epoch: of the new store.
    """

    head: Head
    folder: Path
    cluster: cluster_pb2.Cluster | None = None
    projects: list[str] = field(default_factory=list)
    nodes: dict[str, str] = field(default_factory=dict)
    replaced: str = ""
    epoch: str = ""

    def commit(self) -> None:
        """Have the manager's next life begin with it. Raises OSError."""
        (self.folder / UNFINISHED).rename(self.folder / RESTORED_DATABASE)
        sync_folder(self.folder)

    def drop(self) -> None:
        """Forget it."""
        remove_database(self.folder / UNFINISHED)


class Restorer:
    """Args: folder: the manager's; codec: of its store; here: this node's id."""

    def __init__(self, folder: Path, codec: Codec, here: str) -> None:
        self._folder, self._codec, self._here = folder, codec, here

    async def read(self, data: AsyncIterator[bytes], reader: Reader) -> Restored:
        """Read a whole backup. Raises BackupError, StoreError; then nothing is left of it."""
        path = self._folder / UNFINISHED
        remove_database(path)
        try:
            target = await SqliteStore.open(path, history=PAGE)
            try:
                await self._fill(target, data, reader)
                restored = Restored(reader.finish(), self._folder, epoch=target.epoch)
                await self._renew(target, restored)
                await target.compact((await target.revision()).number)
            finally:
                await target.close()
            await asyncio.to_thread(_sync, path)
        except BaseException:
            remove_database(path)
            raise
        return restored

    async def _fill(self, target: Store, data: AsyncIterator[bytes], reader: Reader) -> None:
        theirs: Sealer | None = None
        async for piece in data:
            for part in reader.feed(piece):
                if part.WhichOneof("content") == "keys":
                    theirs = _sealer(part)
                    continue
                last = {entry.key: self._operation(entry, theirs) for entry in part.entries.entries}
                await _write(target, list(last.values()))

    def _operation(self, entry: BackupEntry, theirs: Sealer | None) -> Operation:
        """What an entry does to the new store; what is encrypted is so with this node's key."""
        if not entry.key.startswith(KEPT):
            raise BackupError(f"has a key that this pycompose does not know ({entry.key}): upgrade this one")
        if entry.deleted:
            return Delete(entry.key)
        if theirs is None or not _sealed(entry.key):
            return Put(entry.key, entry.value)
        try:
            return self._codec.seal(entry.key, theirs.open(entry.value, entry.key))
        except SealError:
            raise BackupError(f"has no key for what it has at {entry.key}") from None

    async def _renew(self, target: Store, restored: Restored) -> None:
        """Decode everything, and make of it what it is here."""
        async for item in _items(target, f"{OBJECTS}{NODE.name}/"):
            node = self._decoded(item)[2]
            restored.nodes[node.id] = node.description.hostname
        restored.replaced = replaces(self._here, restored.nodes)
        move = Move(self._here, restored.replaced, time.time_ns())
        projects: set[str] = set()
        async for item in _items(target, OBJECTS):
            kind, identity, message = self._decoded(item)
            if kind is PROJECT or (kind is SERVICE and message.spec.project):
                projects.add(identity if kind is PROJECT else message.spec.project)
            elif (kind, identity) == (CLUSTER, CLUSTER_ID):
                restored.cluster = message
            there = rehomed(kind, identity, message, move)
            operations: list[Operation] = [] if there is None else [self._codec.put(kind, *there)]
            if not operations or operations[0].key != item.key:
                operations.append(Delete(item.key))
            await target.transact([], operations)
        restored.projects = sorted(projects)

    def _decoded(self, item: KeyValue) -> tuple[Kind, str, Object]:
        try:
            kind, identity = parse_key(item.key)
            return kind, identity, self._codec.decode(kind, "", item)
        except KeyError:
            raise BackupError(f"has objects that this pycompose does not know ({item.key}): upgrade this one") from None
        except (DecodeError, SealError):
            raise BackupError(f"has something at {item.key} that cannot be read") from None


async def _items(store: Store, prefix: str) -> AsyncIterator[KeyValue]:
    after, more = "", True
    while more:
        page = await store.range(prefix, after=after, limit=PAGE)
        for item in page.items:
            after = item.key
            yield item
        more = page.more


async def _write(store: Store, operations: list[Operation]) -> None:
    for first in range(0, len(operations), store.max_operations):
        await store.transact([], operations[first : first + store.max_operations])


def _sealer(part: BackupPart) -> Sealer:
    if len(part.keys.data_key) != 32:
        raise BackupError("has a data key of another size")
    return Sealer(part.keys.data_key)


def _sealed(key: str) -> bool:
    """Whether a key's value is encrypted in the store."""
    kind = KINDS.get(key.removeprefix(OBJECTS).partition("/")[0]) if key.startswith(OBJECTS) else None
    return kind is not None and kind.sealed


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
