"""One pass's overlay: what it changes, over the cache, until all is written together."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from google.protobuf.timestamp_pb2 import Timestamp

from pycompose.manager.allocator import Allocator, PortBook, ports_of_task, service_ports
from pycompose.manager.cache import Cache
from pycompose.manager.model import NODE, REVISION, SERVICE, TASK, Kind, Object
from pycompose.manager.scheduler import NodeInfo, node_infos
from pycompose.manager.store import Operation
from pycompose.proto.v1 import node_pb2, service_pb2, task_pb2

Key = tuple[str, str]


def timestamp(seconds: float) -> Timestamp:
    """Return seconds since the epoch as a Timestamp."""
    stamp = Timestamp()
    stamp.FromNanoseconds(int(seconds * 1e9))
    return stamp


@dataclass(slots=True)
class Entry:
    """One object before (None: it is new) and after (None: it goes), and what is written only together with it."""

    kind: Kind
    id: str
    old: Object | None
    new: Object | None
    extra: list[Operation] = field(default_factory=list)

    @property
    def service_id(self) -> str:
        """The service that the object belongs to, "" for none."""
        if self.kind is TASK:
            sample: Object = self.new if self.new is not None else self.old
            return str(sample.service_id)
        if self.kind is REVISION:
            return self.id.split(".")[0]
        return self.id if self.kind is SERVICE else ""


class Pass:
    """One pass: an overlay of changed objects over the cache."""

    def __init__(self, cache: Cache, allocator: Allocator, now: float, new_id: Callable[[], str]) -> None:
        self.cache, self.allocator, self.now, self.new_id = cache, allocator, now, new_id
        self.changed: dict[Key, Entry] = {}
        self.wake_at: float | None = None
        self._new: dict[str, dict[str, Object]] = {}
        self._tasks: dict[str, list[Object]] = {}
        self._infos: dict[str, NodeInfo] | None = None
        self._down: dict[str, float] | None = None
        self._drained: set[str] | None = None
        self._book: PortBook | None = None

    def put(self, kind: Kind, identity: str, message: Object) -> None:
        """Remember a new or changed object."""
        old = self.cache.get(kind, identity)
        message.meta.updated_at.CopyFrom(timestamp(self.now))
        if old is None:
            message.meta.created_at.CopyFrom(timestamp(self.now))
        self._set(kind, identity, message)
        if kind is TASK:
            self._tasks.pop(message.service_id, None)
            if old is None:
                self._new.setdefault(message.service_id, {})[identity] = message
        if self._book is not None and kind in (TASK, SERVICE):
            self._book.remove(identity)
            held = service_ports(message, self.tasks(identity)) if kind is SERVICE else ports_of_task(message)
            self._book.add(held)

    def delete(self, kind: Kind, identity: str, *extra: Operation) -> None:
        """Remember a deletion, and what is deleted with it."""
        self._set(kind, identity, None)
        self._tasks.clear()
        self.changed[kind.name, identity].extra += extra
        for group in self._new.values():
            group.pop(identity, None)

    def _set(self, kind: Kind, identity: str, message: Object | None) -> None:
        entry = self.changed.get((kind.name, identity))
        if entry is None:
            self.changed[kind.name, identity] = Entry(kind, identity, self.cache.get(kind, identity), message)
        else:
            entry.new = message

    def forget(self, service_id: str) -> None:
        """Drop what was decided for a service."""
        self.changed = {key: entry for key, entry in self.changed.items() if entry.service_id != service_id}
        self._new.pop(service_id, None)
        self._tasks.pop(service_id, None)

    def get(self, kind: Kind, identity: str) -> Object | None:
        """Return an object as it will be."""
        entry = self.changed.get((kind.name, identity))
        return entry.new if entry else self.cache.get(kind, identity)

    def edit(self, kind: Kind, identity: str) -> Object:
        """Return a copy that may be changed; give it to `put`."""
        copy = kind.message()
        copy.CopyFrom(self.get(kind, identity))
        return copy

    def tasks(self, service_id: str) -> list[task_pb2.Task]:
        """Return the service's tasks as they will be."""
        known = self._tasks.get(service_id)
        if known is None:
            stored = [self.get(TASK, task.id) for task in self.cache.tasks_of_service(service_id)]
            known = [task for task in stored if task is not None] + list(self._new.get(service_id, {}).values())
            self._tasks[service_id] = known
        return list(known)

    def _tasks_by_node(self) -> Callable[[str], Iterator[task_pb2.Task]]:
        """Return what gives a node's tasks as they will be."""
        placed: dict[str, list[task_pb2.Task]] = defaultdict(list)
        for entry in self.changed.values():
            if entry.kind is TASK and entry.new is not None and (entry.old is None or not entry.old.node_id):
                placed[entry.new.node_id].append(entry.new)

        def tasks(node_id: str) -> Iterator[task_pb2.Task]:
            for task in self.cache.tasks_of_node(node_id):
                found = self.get(TASK, task.id)
                if found is not None:
                    yield found
            yield from placed.get(node_id, ())

        return tasks

    def _services(self) -> Iterator[service_pb2.Service]:
        for service in self.cache.all(SERVICE):
            found = self.get(SERVICE, service.id)
            if found is not None:
                yield found

    def infos(self) -> dict[str, NodeInfo]:
        """Return the nodes with what their tasks take."""
        if self._infos is None:
            nodes = self.cache.all(NODE)
            self._infos = node_infos(nodes, self._tasks_by_node(), lambda identity: self.get(SERVICE, identity))
        return self._infos

    def down(self) -> dict[str, float]:
        """Return since when nodes are down, by id (seconds since the epoch)."""
        if self._down is None:
            lost = [info.node for info in self.infos().values() if info.node.status.state == node_pb2.NODE_STATE_DOWN]
            self._down = {node.id: node.status.since.ToNanoseconds() / 1e9 for node in lost}
        return self._down

    def drained(self) -> set[str]:
        """Return the nodes that take no tasks and give up those that they have."""
        if self._drained is None:
            nodes = [info.node for info in self.infos().values()]
            drain = node_pb2.NODE_AVAILABILITY_DRAIN
            self._drained = {node.id for node in nodes if node.spec.availability == drain}
        return self._drained

    def ports(self) -> PortBook:
        """Return who holds which published port."""
        if self._book is None:
            of_node = self._tasks_by_node()
            tasks = (task for node in self.cache.all(NODE) for task in of_node(node.id))
            self._book = PortBook(self._services(), tasks, self.tasks)
        return self._book

    def wake(self, at: float | None) -> None:
        """Run again at `at` at the latest."""
        if at is not None:
            self.wake_at = at if self.wake_at is None else min(self.wake_at, at)
