"""One pass's overlay: what it changes, over the cache, until all is written together."""

from __future__ import annotations

from google.protobuf.timestamp_pb2 import Timestamp

from pycompose.manager.allocator import Allocator
from pycompose.manager.cache import Cache
from pycompose.manager.model import NODE, SERVICE, TASK, Kind, Object
from pycompose.manager.orchestrator.actions import leaving
from pycompose.manager.scheduler import NodeInfo
from pycompose.manager.store import Operation
from pycompose.proto.v1 import task_pb2


def timestamp(seconds: float) -> Timestamp:
    """Return seconds since the epoch as a Timestamp."""
    stamp = Timestamp()
    stamp.FromNanoseconds(int(seconds * 1e9))
    return stamp


class Pass:
    """One pass: an overlay of changed objects over the cache."""

    def __init__(self, cache: Cache, allocator: Allocator, now: float) -> None:
        self.cache = cache
        self.allocator = allocator
        self.now = now
        self.changed: dict[tuple[str, str], tuple[Kind, Object | None, Object | None]] = {}
        self.extra: list[tuple[str, Operation]] = []
        self.wake_at: float | None = None
        self._new: dict[str, dict[str, Object]] = {}
        self._infos: dict[str, NodeInfo] | None = None

    def put(self, kind: Kind, identity: str, message: Object) -> None:
        """Remember a new or changed object."""
        old = self.cache.get(kind, identity)
        message.meta.updated_at.CopyFrom(timestamp(self.now))
        if old is None:
            message.meta.created_at.CopyFrom(timestamp(self.now))
        self.changed[kind.name, identity] = (kind, old, message)
        if kind is TASK and old is None:
            self._new.setdefault(message.service_id, {})[identity] = message

    def delete(self, kind: Kind, identity: str) -> None:
        """Remember a deletion."""
        self.changed[kind.name, identity] = (kind, self.cache.get(kind, identity), None)
        for group in self._new.values():
            group.pop(identity, None)

    def get(self, kind: Kind, identity: str) -> Object | None:
        """Return an object as it will be."""
        entry = self.changed.get((kind.name, identity))
        return entry[2] if entry else self.cache.get(kind, identity)

    def edit(self, kind: Kind, identity: str) -> Object:
        """Return a copy that may be changed; give it to `put`."""
        copy = kind.message()
        copy.CopyFrom(self.get(kind, identity))
        return copy

    def tasks(self, service_id: str) -> list[task_pb2.Task]:
        """Return the service's tasks as they will be."""
        stored = [self.get(TASK, task.id) for task in self.cache.tasks_of_service(service_id)]
        return [task for task in stored if task is not None] + list(self._new.get(service_id, {}).values())

    def infos(self) -> dict[str, NodeInfo]:
        """Return the nodes with what their tasks take."""
        if self._infos is None:
            self._infos = {node.id: NodeInfo(node) for node in self.cache.all(NODE)}
            for info in self._infos.values():
                for task in self.cache.tasks_of_node(info.node.id):
                    service = self.cache.get(SERVICE, task.service_id)
                    if service is not None and not leaving(task):
                        info.add(service, service.spec.task)
        return self._infos

    def wake(self, at: float | None) -> None:
        """Run again at `at` at the latest."""
        if at is not None:
            self.wake_at = at if self.wake_at is None else min(self.wake_at, at)
