"""Whether this manager's keys lie on its disk as they are, or behind the cluster's unlock key; each manager follows.

Behind it are the data key (`locking`), and with it all that is encrypted in the store: secrets, the authority. The
manager's own TLS key lies in the run directory then, which is in memory, and is made anew after a start. The key by
which its etcd talks to others' stays where it is: what that opens is encrypted.
"""

from __future__ import annotations

import asyncio
import logging
import shutil
from pathlib import Path

from pycompose.manager import locking
from pycompose.manager.ca import RequestError
from pycompose.manager.cache import Changes
from pycompose.manager.cluster.identity import Keeper
from pycompose.manager.control.api import Api
from pycompose.manager.model import CLUSTER, CLUSTER_ID, object_key
from pycompose.manager.store import Compare
from pycompose.proto.refusal import BlockedError
from pycompose.proto.v1 import cluster_pb2

log = logging.getLogger(__name__)
AGAIN_SECONDS = 5.0


class Autolock:
    """Args: api: store, cache and codec; folder: the manager's; volatile: where its TLS key lies while it is locked;
    keeper: of its certificate.
    """

    def __init__(self, api: Api, folder: Path, volatile: Path, keeper: Keeper) -> None:
        self._api, self._folder, self._volatile, self._keeper = api, folder, volatile, keeper
        self._changed = asyncio.Event()

    async def run(self) -> None:
        """Follow the cluster, for ever."""
        stop = self._api.cache.listen(self._heed)
        try:
            while True:
                self._changed.clear()
                wait = None if self.follow() else AGAIN_SECONDS
                try:
                    await asyncio.wait_for(self._changed.wait(), wait)
                except TimeoutError:
                    continue
        finally:
            stop()

    def _heed(self, changes: Changes) -> None:
        if any(one.kind is CLUSTER for one in changes.items):
            self._changed.set()

    def follow(self) -> bool:
        """Have this manager's keys where they are to be now; returns whether they are."""
        cluster = self._api.cache.get(CLUSTER, CLUSTER_ID)
        unlock_key = cluster.unlock_key if cluster is not None else ""
        try:
            locking.keep(self._folder, self._api.codec.data_key, unlock_key)
            if place_identity(self._keeper.files, self._volatile if unlock_key else None):
                self._keeper.renew()
        except (OSError, RequestError) as error:
            log.error("this manager's keys could not be put where they belong: %s; trying again", error)
            return False
        return True

    async def change(self, cluster: cluster_pb2.Cluster, unlock_key: str) -> None:
        """Have all managers use another unlock key, "" for none. Raises BlockedError, StoreError."""
        made = cluster_pb2.Cluster()
        made.CopyFrom(cluster)
        made.unlock_key = unlock_key
        self._api.stamp(made, new=False)
        same = Compare(object_key(CLUSTER, CLUSTER_ID), cluster.meta.version.number)
        if await self._api.commit([same], [self._api.codec.put(CLUSTER, CLUSTER_ID, made)]) is not None:
            raise BlockedError("the cluster changed in between; try again", "CHANGED", cluster.id)
        if not self.follow():
            raise BlockedError("this manager's keys could not be written yet; its log says why", "DISK", cluster.id)


def place_identity(folder: Path, volatile: Path | None) -> bool:
    """Have a certificate's folder in memory, or, for None, on disk. Returns whether a certificate is to be made anew.

    In memory, the folder is a link to `volatile`, which a reboot takes away.
    """
    if volatile is None:
        if not folder.is_symlink():
            return False
        shutil.rmtree(folder.resolve(), ignore_errors=True)
        folder.unlink()
        return True
    if folder.is_symlink() and volatile.is_dir():
        return False
    volatile.mkdir(parents=True, exist_ok=True, mode=0o700)
    if not folder.is_symlink():
        if folder.exists():
            for path in folder.iterdir():
                locking.remove(path)
            folder.rmdir()
        folder.symlink_to(volatile)
    return True
