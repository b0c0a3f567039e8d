"""`Backup` and `Restore` of ClusterService. What they need is imported when they are called: few nodes ever do."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pycompose
from pycompose.manager.cluster.listening import FILE, Listening, check_ports, wrong
from pycompose.manager.control.api import Api
from pycompose.manager.dispatcher.sessions import MANAGERS
from pycompose.manager.model import CLUSTER, CLUSTER_ID, PROJECT, SERVICE
from pycompose.manager.sealing import Sealer
from pycompose.proto.backup import FORMAT, BackupError, Head
from pycompose.proto.files import replace
from pycompose.proto.refusal import BlockedError, InvalidError
from pycompose.proto.v1 import cluster_pb2

if TYPE_CHECKING:
    from pycompose.manager.backup.restoring import Restored

KEY_BYTES, NOTE_BYTES = 32, 1024
#: Puts what was read in the place of the store in use, and begins a new life with it.
Commit = Callable[["Restored"], Awaitable[None]]


class Backups:
    """Those of one manager.

    Args:
        api: store and cache.
        folder: the manager's.
        node_id: gives this node's id.
        place: what this node is in a cluster (its node.json); {} for a single node.
        commit: see `Commit`.
    """

    def __init__(
        self,
        api: Api,
        folder: Path,
        node_id: Callable[[], str],
        place: Callable[[], Mapping[str, Any]],
        commit: Commit,
    ) -> None:
        self._api, self._folder, self._data_key = api, folder, api.codec.data_key
        self._node_id, self._place, self._commit = node_id, place, commit
        self._restoring = asyncio.Lock()

    async def make(self, request: cluster_pb2.BackupRequest) -> AsyncIterator[bytes]:
        """Yield a backup's file. Raises InvalidError, StoreError."""
        from pycompose.manager.backup.sealed import Writer
        from pycompose.manager.backup.snapshot import snapshot
        from pycompose.proto.v1.backup_pb2 import BackupKeys, BackupPart

        _check_key(request.key)
        if len(request.key_note) > NOTE_BYTES:
            raise InvalidError([("key_note", f"{NOTE_BYTES} characters at most")])
        await self._api.fresh()
        cluster = self._api.cache.get(CLUSTER, CLUSTER_ID)
        head = Head(
            format=FORMAT,
            version=pycompose.__version__,
            made_at=time.time(),
            cluster=cluster.spec.name if cluster is not None else "",
            key="",
            with_keys=bool(request.key),
            note=request.key_note,
        )
        writer = Writer(head, Sealer(request.key or self._data_key))
        yield writer.begin()
        if request.key:
            yield writer.part(BackupPart(keys=BackupKeys(data_key=self._data_key)))
        async for entries in snapshot(self._api.store):
            yield writer.part(BackupPart(entries=entries))
        yield writer.end()

    async def restore(self, start: cluster_pb2.RestoreStart, data: AsyncIterator[bytes]) -> cluster_pb2.RestoreResponse:
        """Read a backup, and put it in the store's place. Raises InvalidError, BlockedError, StoreError."""
        from pycompose.manager.backup.restoring import Restorer
        from pycompose.manager.backup.sealed import Reader
        from pycompose.manager.cluster.identity import FOLDER as IDENTITY
        from pycompose.manager.cluster.identity import issue

        _check_key(start.key)
        if self._restoring.locked():
            raise BlockedError("another backup is being restored here", "RESTORING")
        async with self._restoring:
            await self._api.fresh()
            await self._check(start.force)

            def opener(head: Head) -> Sealer:
                if head.with_keys and not start.key:
                    raise BackupError("was made with a passphrase: give it with --passphrase-file")
                return Sealer(start.key if head.with_keys else self._data_key)

            restorer = Restorer(self._folder, self._api.codec, self._node_id())
            try:
                restored = await restorer.read(data, Reader(opener))
            except BackupError as error:
                raise InvalidError([("data", str(error))], f"the backup {error}; nothing was changed") from None
            try:
                self._check_place(restored)
                listening = self._listening(start, restored)
                async with self._api.checking:
                    await self._check(start.force)
                    if listening is not None and restored.cluster is not None:
                        # without the cluster's object these files mean nothing
                        made = issue(restored.cluster, self._node_id(), listening, datetime.now(UTC))
                        made.store(self._folder / IDENTITY)
                        replace(self._folder / FILE, listening.encoded())
                    await self._commit(restored)
            except BaseException:
                restored.drop()
                raise
            return self._answer(restored)

    async def _check(self, force: bool) -> None:
        """Raise BlockedError when something would be lost."""
        others = [item for item in (await self._api.store.range(MANAGERS)).items if not self._mine(item.key)]
        if others:
            raise BlockedError(
                f"the cluster has {len(others)} other managers, at odds with a restored one; demote them "
                "first, or restore on a machine of no cluster",
                "MANAGERS",
            )
        if force:
            return
        cache = self._api.cache
        projects = {one.id for one in cache.all(PROJECT)} | {one.spec.project for one in cache.all(SERVICE)} - {""}
        if projects:
            raise BlockedError(
                f"this node has projects ({', '.join(sorted(projects))}), which would go with their containers; "
                "--force does it",
                "PROJECTS",
            )
        cluster = cache.get(CLUSTER, CLUSTER_ID)
        if cluster is not None:
            text = f"this node is a manager of cluster {cluster.spec.name}, which would be no more; --force does it"
            raise BlockedError(text, "CLUSTER", cluster.id)

    def _check_place(self, restored: Restored) -> None:
        """Raise BlockedError when this machine is a node of another cluster than the backup's, or of one at all."""
        present = self._place().get("cluster_id")
        if present and (restored.cluster is None or restored.cluster.id != present):
            raise BlockedError(
                f"this node is of another cluster ({present}) than the backup; it has to leave first: pycompose node "
                "leave; nothing was changed",
                "CLUSTER",
                present,
            )

    def _mine(self, key: str) -> bool:
        return key.removeprefix(MANAGERS) == self._node_id()

    def _listening(self, start: cluster_pb2.RestoreStart, restored: Restored) -> Listening | None:
        """Return where to listen, if a cluster is restored and that is not known yet. Raises InvalidError."""
        if restored.cluster is None:
            return None
        present = Listening.load(self._folder)
        advertise = start.advertise_address or (present.advertise if present else "")
        if not advertise:
            text = (
                f"the backup is of cluster {restored.cluster.spec.name}: say with --advertise-addr ADDRESS how others "
                "reach this machine; nothing was changed"
            )
            raise InvalidError([("advertise_address", text)], text)
        before = present or Listening(advertise)
        made = Listening(
            advertise,
            start.listen_address or before.address,
            start.port or before.port,
            start.join_port or before.join_port,
            start.worker_port or before.worker_port,
        )
        if found := wrong(made):
            raise InvalidError(found)
        if made != present:
            check_ports(made)
        return made

    def _answer(self, restored: Restored) -> cluster_pb2.RestoreResponse:
        answer = cluster_pb2.RestoreResponse(
            projects=restored.projects,
            epoch=restored.epoch,
            replaced=restored.nodes.get(restored.replaced, "") or restored.replaced,
            other_nodes=len(set(restored.nodes) - {restored.replaced, self._node_id()}),
        )
        if restored.cluster is not None:
            answer.cluster_name = restored.cluster.spec.name
        answer.made_at.FromNanoseconds(int(restored.head.made_at * 1e9))
        return answer


def _check_key(key: bytes) -> None:
    if key and len(key) != KEY_BYTES:
        raise InvalidError([("key", f"{KEY_BYTES} bytes, or none")])
