"""Keeps the file of `fellows` as the store's members are."""

from __future__ import annotations

import asyncio
import json
import logging
from pathlib import Path

from pycompose.manager.cache import Cache
from pycompose.manager.dispatcher.sessions import MANAGERS
from pycompose.manager.members import fellows
from pycompose.manager.members.fellows import Fellow
from pycompose.manager.model import NODE
from pycompose.manager.store import Store, StoreError
from pycompose.manager.store.etcd.cluster import Cluster, peer_of

log = logging.getLogger(__name__)
LOOK_SECONDS = 1.0


class Roster:
    """Args: folder: the manager's; cluster: its member's calls; store, cache: of addresses and host names."""

    def __init__(self, folder: Path, cluster: Cluster, store: Store, cache: Cache) -> None:
        self._folder, self._cluster, self._store, self._cache = folder, cluster, store, cache

    def fellows(self) -> list[Fellow]:
        """Return the managers as they were last."""
        return fellows.load(self._folder)

    async def run(self) -> None:
        """Look for ever."""
        while True:
            try:
                await self._look()
            except (StoreError, OSError) as error:
                log.debug("the managers cannot be written down: %s", error)
            await asyncio.sleep(LOOK_SECONDS)

    async def _look(self) -> None:
        rows = (await self._store.range(MANAGERS)).items
        addresses = {item.key[len(MANAGERS) :]: json.loads(item.value)["address"] for item in rows}
        before = {each.name: each for each in self.fellows()}
        found = []
        for member in await self._cluster.members():
            if not member.name or member.is_learner:
                continue
            old = before.get(member.name)
            node = self._cache.get(NODE, member.name)
            label = node.description.hostname if node is not None else old.label if old is not None else member.name
            address = addresses.get(member.name, "") or (old.address if old is not None else "")
            found.append(Fellow(member.name, label, peer_of(member), address))
        if found:
            await asyncio.to_thread(fellows.save, self._folder, found)
