"""What a manager has that is one of several, put together."""

from __future__ import annotations

from collections.abc import Coroutine
from pathlib import Path
from typing import Any

from pycompose.manager.backend import Backend
from pycompose.manager.cache import Cache
from pycompose.manager.leadership import Leadership
from pycompose.manager.member import FILE, Settings
from pycompose.manager.members.certificate import MemberKeeper
from pycompose.manager.members.leading import Leading
from pycompose.manager.members.managing import Managing
from pycompose.manager.members.quorum import Handshake, Quorum
from pycompose.manager.members.roster import Roster
from pycompose.manager.members.upkeep import Upkeep
from pycompose.manager.model import Codec
from pycompose.manager.store import Store
from pycompose.manager.store.etcd import EtcdStore
from pycompose.manager.store.etcd.cluster import Cluster


class OneOfSeveral:
    """The parts.

    Args:
        folder: the manager's.
        backend: names this manager, and its etcd.
        raw: the store on it; `store`: the same behind the gate.
        cache, codec: of the store.
    """

    def __init__(
        self, folder: Path, backend: Backend, raw: EtcdStore, store: Store, cache: Cache, codec: Codec
    ) -> None:
        self._folder = folder
        self._own, self._store, self._cache, self._codec = backend.name, store, cache, codec
        self._cluster = Cluster(raw.client)
        self._roster = Roster(folder, self._cluster, store, cache)
        probe = Handshake(folder)
        self.quorum = Quorum(backend.name, raw, self._roster.fellows, probe, backend.endpoints)
        #: None: the etcd is somebody else's.
        self.managing = (
            Managing(folder, self._cluster, store, cache, codec, probe) if (folder / FILE).exists() else None
        )

    def loops(self, leadership: Leadership) -> list[Coroutine[Any, Any, None]]:
        """Return what runs for ever."""
        loops = [self.quorum.run()]
        if self.managing is not None:
            leading = Leading(
                self._own, self._cluster, self.managing, self._roster, self._store, self._cache, self._codec, leadership
            )
            upkeep = Upkeep(self._cluster, self.managing, self._store, Settings.load(self._folder).quota)
            certificate = MemberKeeper(self._folder, self._store, self._codec)
            loops += [self._roster.run(), leading.run(), upkeep.run(), certificate.run()]
        return loops
