"""The manager's memory of the store: every object decoded, with indexes, kept up to date by a watch.

Readers get messages that they must not change (copy first). `wait(revision)` returns once the cache has seen a
revision: asking the store for its newest revision and waiting for it makes a read linearizable. Listeners are
called after each batch with what changed; a short history of changes serves clients' watches, a longer one is the
store's: what came before `forgotten` (a revision) is not known here.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict, deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from pycompose.manager.model import KINDS, NODE, OBJECTS, SERVICE, TASK, Codec, Kind, Object, parse_key
from pycompose.manager.store import Batch, KeyValue, Revision, Store


@dataclass(frozen=True, slots=True)
class Change:
    """One object before (None: it is new) and after (None: it is gone)."""

    kind: Kind
    id: str
    old: Object | None
    new: Object | None


@dataclass(frozen=True, slots=True)
class Changes:
    """What one transaction changed."""

    revision: int
    items: tuple[Change, ...]


Listener = Callable[[Changes], None]


class Cache:
    """All objects by kind and id, and indexes."""

    def __init__(self, store: Store, codec: Codec, history: int = 2_000) -> None:
        self._store = store
        self._codec = codec
        self._objects: dict[str, dict[str, Object]] = {name: {} for name in KINDS}
        self._names: dict[str, dict[str, str]] = defaultdict(dict)
        self._tasks_by_service: dict[str, set[str]] = defaultdict(set)
        self._tasks_by_network: dict[str, set[str]] = defaultdict(set)
        self._tasks_by_node: dict[str, set[str]] = defaultdict(set)
        self._services_by_project: dict[str, set[str]] = defaultdict(set)
        self._revisions: dict[str, set[str]] = defaultdict(set)
        self._waiters: list[tuple[int, asyncio.Future[None]]] = []
        self._listeners: list[Listener] = []
        self.history: deque[Changes] = deque(maxlen=history)
        self.forgotten = 0
        self.number = 0

    # Reading.

    @property
    def version(self) -> Revision:
        """What the cache is as of."""
        return Revision(self._store.epoch, self.number)

    def get(self, kind: Kind, identity: str) -> Object | None:
        """Return an object by id."""
        return self._objects[kind.name].get(identity)

    def all(self, kind: Kind) -> Iterable[Object]:
        """Return all objects of a kind, oldest id order not promised."""
        return self._objects[kind.name].values()

    def by_name(self, kind: Kind, name: str) -> Object | None:
        """Return the object with that unique name."""
        identity = self._names[kind.name].get(name)
        return None if identity is None else self._objects[kind.name].get(identity)

    def tasks_of_service(self, service_id: str) -> list[Object]:
        """Return the service's tasks by slot."""
        tasks = self._objects[TASK.name]
        return sorted((tasks[i] for i in self._tasks_by_service.get(service_id, ())), key=lambda t: (t.slot, t.id))

    def tasks_of_node(self, node_id: str) -> list[Object]:
        """Return the tasks placed on the node."""
        tasks = self._objects[TASK.name]
        return [tasks[i] for i in sorted(self._tasks_by_node.get(node_id, ()))]

    def tasks_of_network(self, network_id: str) -> list[Object]:
        """Return the tasks that are on the network."""
        tasks = self._objects[TASK.name]
        return [tasks[i] for i in self._tasks_by_network.get(network_id, ())]

    def services_of_project(self, project: str) -> list[Object]:
        """Return the project's services by name."""
        services = self._objects[SERVICE.name]
        found = (services[i] for i in self._services_by_project.get(project, ()))
        return sorted(found, key=lambda s: str(s.spec.name))

    def revisions(self, service_id: str) -> list[str]:
        """Return the ids of a service's stored revisions, oldest first."""
        return sorted(self._revisions.get(service_id, ()))

    # Following the store.

    async def load(self) -> None:
        """Read everything from the store."""
        after = ""
        first: Revision | None = None
        while True:
            part = await self._store.range(OBJECTS, after=after, limit=1000)
            first = first or part.revision
            for item in part.items:
                kind, identity = parse_key(item.key)
                self._index(kind, identity, None, self._codec.decode(kind, part.revision.epoch, item))
            if not part.more:
                break
            after = part.items[-1].key
        self.number = self.forgotten = first.number

    async def follow(self) -> None:
        """Apply changes for ever. Raises CompactedError when the history is gone (start anew)."""
        async for batch in self._store.watch("/", self.version):
            self.apply(batch)

    def apply(self, batch: Batch) -> None:
        """Take over one transaction and tell those who listen."""
        items = []
        for event in batch.events:
            if not event.key.startswith(OBJECTS):
                continue
            kind, identity = parse_key(event.key)
            old = self._objects[kind.name].get(identity)
            new = None
            if event.value is not None:
                item = KeyValue(event.key, event.value, 0, event.mod_revision)
                new = self._codec.decode(kind, batch.revision.epoch, item)
            self._index(kind, identity, old, new)
            items.append(Change(kind, identity, old, new))
        self.number = batch.revision.number
        if items:
            changes = Changes(self.number, tuple(items))
            if len(self.history) == self.history.maxlen:
                self.forgotten = self.history[0].revision
            self.history.append(changes)
            for listener in list(self._listeners):
                listener(changes)
        self._wake()

    def listen(self, listener: Listener) -> Callable[[], None]:
        """Call `listener` after each batch; returns what ends it."""
        self._listeners.append(listener)
        return lambda: self._listeners.remove(listener)

    async def wait(self, number: int) -> None:
        """Return once the cache has seen store revision `number`."""
        if self.number >= number:
            return
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiters.append((number, future))
        await future

    async def until(self, holds: Callable[[], bool], seconds: float) -> bool:
        """Wait until a condition on the objects holds, so long at most; returns whether it does."""
        changed = asyncio.Event()
        stop = self.listen(lambda _: changed.set())
        try:
            async with asyncio.timeout(seconds):
                while not holds():
                    changed.clear()
                    await changed.wait()
        except TimeoutError:
            return False
        finally:
            stop()
        return True

    async def synchronize(self) -> None:
        """Return once the cache has everything that was committed before this call."""
        await self.wait((await self._store.revision()).number)

    def since(self, after: Revision) -> list[Changes]:
        """Return the changes after a version that is not `forgotten`, oldest first."""
        found: list[Changes] = []
        for changes in reversed(self.history):
            if changes.revision <= after.number:
                break
            found.append(changes)
        return found[::-1]

    def _wake(self) -> None:
        rest = []
        for number, future in self._waiters:
            if number > self.number:
                rest.append((number, future))
            elif not future.done():
                future.set_result(None)
        self._waiters = rest

    def _index(self, kind: Kind, identity: str, old: Object | None, new: Object | None) -> None:
        objects = self._objects[kind.name]
        if old is not None:
            self._forget(kind, identity, old)
        if new is None:
            objects.pop(identity, None)
            return
        objects[identity] = new
        if kind.unique is not None:
            self._names[kind.name][kind.unique(new)] = identity
        if kind is TASK:
            self._tasks_by_service[new.service_id].add(identity)
            if new.node_id:
                self._tasks_by_node[new.node_id].add(identity)
            for attachment in new.attachments:
                self._tasks_by_network[attachment.network_id].add(identity)
        elif kind is SERVICE:
            self._services_by_project[new.spec.project].add(identity)
        elif kind.name == "revision":
            self._revisions[identity.split(".")[0]].add(identity)

    def _forget(self, kind: Kind, identity: str, old: Object) -> None:
        if kind.unique is not None and self._names[kind.name].get(kind.unique(old)) == identity:
            del self._names[kind.name][kind.unique(old)]
        if kind is TASK:
            self._drop(self._tasks_by_service, old.service_id, identity)
            self._drop(self._tasks_by_node, old.node_id, identity)
            for attachment in old.attachments:
                self._drop(self._tasks_by_network, attachment.network_id, identity)
        elif kind is SERVICE:
            self._drop(self._services_by_project, old.spec.project, identity)
        elif kind.name == "revision":
            self._drop(self._revisions, identity.split(".")[0], identity)

    @staticmethod
    def _drop(index: dict[str, set[str]], key: str, identity: str) -> None:
        members = index.get(key)
        if members is not None:
            members.discard(identity)
            if not members:
                del index[key]


__all__ = ["NODE", "Cache", "Change", "Changes"]
