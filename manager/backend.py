"""Which store the manager uses: ``STATE/manager/backend.json``, written by the manager alone, by rename.

Without the file it is SQLite in ``STATE/manager/store.db``. To have renamed the file is to have moved: what was
prepared before counts from then on, and whatever was interrupted earlier has not happened.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Self

from pycompose.manager.leadership import AlwaysLeader, Election, Leadership
from pycompose.manager.member import IDENTITY
from pycompose.manager.store import Store, StoreError
from pycompose.manager.store.etcd import EtcdStore
from pycompose.manager.store.etcd.member import MAX_OPERATIONS
from pycompose.manager.store.sqlite import SqliteStore
from pycompose.proto.files import replace
from pycompose.proto.tls import Identity, channel_credentials

FILE, DATABASE = "backend.json", "store.db"


@dataclass(frozen=True)
class Backend:
    """A store's place.

    Attributes:
        store: "sqlite" or "etcd".
        endpoints: host:port of each etcd member that is asked.
        root: first part of every key in etcd.
        name: this manager's, in elections.
        max_operations: what etcd takes in one transaction.
    """

    store: str = "sqlite"
    endpoints: tuple[str, ...] = ()
    root: str = "pycompose"
    name: str = ""
    max_operations: int = MAX_OPERATIONS

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read the file of a manager's folder. Raises StoreError."""
        path = folder / FILE
        try:
            found = json.loads(path.read_text())
            backend = cls(**{**found, "endpoints": tuple(found.get("endpoints", ()))})
        except FileNotFoundError:
            return cls()
        except (ValueError, TypeError, AttributeError) as error:
            raise StoreError(f"{path} is damaged ({error}); put back what a backup has of it") from None
        if backend.store not in ("sqlite", "etcd"):
            raise StoreError(f"{path}: store {backend.store!r} is unknown; a newer pycompose may have written it")
        return backend

    def save(self, folder: Path) -> None:
        """Write the file: whole or not at all, and durable. Raises OSError."""
        replace(folder / FILE, json.dumps(asdict(self), indent=1).encode())

    async def open(self, folder: Path) -> Store:
        """Open the store. Raises StoreError."""
        if self.store == "sqlite":
            return await SqliteStore.open(folder / DATABASE)
        credentials = channel_credentials(Identity.load(folder / IDENTITY))
        return await EtcdStore.open(
            self.endpoints, credentials=credentials, root=self.root, max_operations=self.max_operations
        )

    def leadership(self, store: Store) -> Leadership:
        """Return how this manager comes to lead: alone always, else by election."""
        return AlwaysLeader() if self.store == "sqlite" else Election(store, self.name)
