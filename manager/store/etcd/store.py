"""`EtcdStore`: the store's interface on etcd's keys.

Everything lies below one root, so that an etcd may be shared: ``ROOT/epoch`` names the store's lifetime, ``ROOT/data``
is followed by the store's key. Revisions are etcd's own.
"""

from __future__ import annotations

import asyncio
import math
import secrets
from collections.abc import AsyncIterator, Sequence
from typing import Self

import grpc

from pycompose.manager.store.etcd import wire_pb2 as wire
from pycompose.manager.store.etcd.client import TIMEOUT, Client, check_version
from pycompose.manager.store.etcd.watching import ALL, end_of, watch
from pycompose.manager.store.interface import (
    Batch,
    CompactedError,
    Compare,
    KeyValue,
    Operation,
    Past,
    Put,
    Range,
    Revision,
    StoreError,
    StoreUnavailableError,
    TooManyOperationsError,
    TransactionResult,
)

#: Keys of one answer, so that a large range does not arrive as one message.
PAGE = 5_000


class EtcdStore:
    """`Store` below `root` of the etcd at `client`.

    Args:
        client: its endpoints.
        root: first part of every key.
        max_operations: what the members take in one transaction (their --max-txn-ops).
    """

    name = "etcd"

    def __init__(self, client: Client, *, root: str = "pycompose", max_operations: int = 128) -> None:
        self.max_operations = max_operations
        self._client = client
        self._epoch_key, self._data = f"{root}/epoch".encode(), f"{root}/data".encode()
        self._epoch = ""

    @classmethod
    async def open(
        cls,
        endpoints: Sequence[str],
        *,
        credentials: grpc.ChannelCredentials | None = None,
        root: str = "pycompose",
        max_operations: int = 128,
        timeout: float = TIMEOUT,
    ) -> Self:
        """Connect; a root without an epoch is a new store.

        Raises:
            StoreUnavailableError: no endpoint answers.
            StoreError: the version of etcd is refused.
        """
        client = Client(endpoints, credentials, timeout)
        try:
            check_version((await client.status()).version)
            store = cls(client, root=root, max_operations=max_operations)
            await store._begin()
        except BaseException:
            await client.close()
            raise
        return store

    async def _begin(self) -> None:
        new = wire.PutRequest(key=self._epoch_key, value=secrets.token_hex(8).encode())
        missing = wire.Compare(target=wire.Compare.MOD, key=self._epoch_key, mod_revision=0)
        request = wire.TransactionRequest(compares=[missing], success=[wire.Operation(put=new)])
        await self._client.write("KV/Txn", request, wire.TransactionResponse)
        await self.revision()

    @property
    def client(self) -> Client:
        """The calls of etcd beside those for keys."""
        return self._client

    async def renew_epoch(self) -> None:
        """Begin another lifetime: versions and watches from before are refused from now on."""
        new = secrets.token_hex(8)
        put = wire.Operation(put=wire.PutRequest(key=self._epoch_key, value=new.encode()))
        await self._client.write("KV/Txn", wire.TransactionRequest(success=[put]), wire.TransactionResponse)
        self._epoch = new

    @property
    def epoch(self) -> str:
        """Name of the store's lifetime."""
        return self._epoch

    async def revision(self) -> Revision:
        """Return the newest committed revision, by a read that a majority confirms."""
        found = await self._range(wire.RangeRequest(key=self._epoch_key))
        if not found.items:
            raise StoreError("etcd no longer has this store: it was emptied, or another backup restored")
        self._epoch = found.items[0].value.decode()
        return Revision(self._epoch, found.header.revision)

    async def transact(self, compares: Sequence[Compare], operations: Sequence[Operation]) -> TransactionResult:
        """Apply all operations if all comparisons hold (see `Store.transact`)."""
        for what, many in (("operations", len(operations)), ("comparisons", len(compares))):
            if many > self.max_operations:
                raise TooManyOperationsError(f"{many} {what}, at most {self.max_operations} are taken")
        if len({operation.key for operation in operations}) != len(operations):
            raise ValueError("a transaction writes one key twice")
        request = wire.TransactionRequest(
            compares=[
                wire.Compare(target=wire.Compare.MOD, key=self._key(each.key), mod_revision=each.mod_revision)
                for each in compares
            ],
            success=[self._operation(each) for each in operations],
            failure=[wire.Operation(range=wire.RangeRequest(key=self._key(each.key))) for each in compares],
        )
        answer = await self._client.write("KV/Txn", request, wire.TransactionResponse)
        failed = []
        if not answer.succeeded:
            for compare, response in zip(compares, answer.responses, strict=True):
                items = response.range.items
                if (items[0].mod_revision if items else 0) != compare.mod_revision:
                    failed.append(compare.key)
        return TransactionResult(answer.succeeded, Revision(self._epoch, answer.header.revision), tuple(failed))

    def _operation(self, operation: Operation) -> wire.Operation:
        key = self._key(operation.key)
        if isinstance(operation, Put):
            return wire.Operation(put=wire.PutRequest(key=key, value=operation.value, lease=operation.lease))
        return wire.Operation(delete=wire.DeleteRequest(key=key))

    async def get(self, key: str) -> KeyValue | None:
        """Return one key, or None."""
        found = await self._range(wire.RangeRequest(key=self._key(key)))
        return self._item(found.items[0]) if found.items else None

    async def range(self, prefix: str, *, after: str = "", limit: int = 0) -> Range:
        """Return keys that start with `prefix`, after `after`, at most `limit` (0: all)."""
        first, end = self._key(prefix), end_of(self._key(prefix))
        first = max(first, self._key(after) + b"\0") if after else first
        items: list[KeyValue] = []
        revision = 0
        while first < end:
            page = min(limit - len(items), PAGE) if limit else PAGE
            request = wire.RangeRequest(key=first, range_end=end, limit=page, revision=revision)
            found = await self._range(request)
            revision = revision or found.header.revision
            items += map(self._item, found.items)
            if not found.more or (limit and len(items) >= limit):
                return Range(Revision(self._epoch, revision), tuple(items), found.more)
            first = found.items[-1].key + b"\0"
        return Range(await self.revision(), ())

    async def watch(self, prefix: str, after: Revision) -> AsyncIterator[Batch]:
        """Yield every change after `after` below `prefix`; connections that are lost meanwhile are made anew."""
        position, wait = after.number, 0.0
        key = self._key(prefix)
        while True:
            try:
                await self._check_epoch(after)
                async for number, batch in watch(self._client, key, end_of(key), position, self._text, after.epoch):
                    position, wait = number, 0.0
                    if batch is not None:
                        yield batch
            except StoreUnavailableError:
                await asyncio.sleep(wait)
                wait = min(0.5, wait + 0.1)

    async def changes(self, prefix: str, after: Revision, limit: int) -> Past:
        """Return past changes (see `Store.changes`).

        Each of etcd's revisions has an event of some key. So a watch of all keys has seen the past when it comes to
        an event of the present revision, whoever's that is.
        """
        present = await self._check_epoch(after)
        found: list[Batch] = []
        if after.number >= present.number:
            return Past(present, ())
        async for number, batch in watch(self._client, *ALL, after.number, self._text, after.epoch):
            kept = tuple(event for event in batch.events if event.key.startswith(prefix)) if batch else ()
            if kept and limit and len(found) == limit:
                return Past(found[-1].revision, tuple(found), more=True)
            if kept:
                found.append(Batch(Revision(after.epoch, number), kept))
            if number >= present.number:
                present = Revision(after.epoch, number)
                break
        return Past(present, tuple(found))

    async def compact(self, number: int) -> None:
        """Forget the history up to and including revision `number`; present values stay."""
        number = min(number, (await self.revision()).number)
        try:
            await self._client.write("KV/Compact", wire.CompactRequest(revision=number), wire.CompactResponse)
        except CompactedError:
            return

    async def grant(self, ttl: float) -> int:
        """Make a lease of `ttl` seconds, rounded up (the members have a least time too), and return its id."""
        request = wire.LeaseGrantRequest(ttl=max(1, math.ceil(ttl)))
        return (await self._client.write("Lease/LeaseGrant", request, wire.LeaseGrantResponse)).id

    async def keep_alive(self, lease: int) -> bool:
        """Give the lease its full time again; False: it has ended."""
        return await self._client.keep_alive(lease) > 0

    async def revoke(self, lease: int) -> None:
        """End the lease and delete its keys."""
        try:
            await self._client.write("Lease/LeaseRevoke", wire.LeaseRequest(id=lease), wire.LeaseRevokeResponse)
        except ValueError:
            return

    async def close(self) -> None:
        """Release everything; watches end with StoreClosedError."""
        await self._client.close()

    async def _range(self, request: wire.RangeRequest) -> wire.RangeResponse:
        return await self._client.read("KV/Range", request, wire.RangeResponse)

    async def _check_epoch(self, asked: Revision) -> Revision:
        present = await self.revision()
        if present.epoch != asked.epoch:
            raise CompactedError(f"revisions of another store ({asked.epoch}; this one is {present.epoch})")
        return present

    def _key(self, key: str) -> bytes:
        return self._data + key.encode()

    def _text(self, key: bytes) -> str | None:
        """The store's key; None: a key of somebody else."""
        return key[len(self._data) :].decode() if key.startswith(self._data) else None

    def _item(self, item: wire.KeyValue) -> KeyValue:
        key = item.key[len(self._data) :].decode()
        return KeyValue(key, item.value, item.create_revision, item.mod_revision, item.lease)
