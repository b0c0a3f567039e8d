"""Workers' words into the store: coalesced, in batches, each under the state table.

A newer status of a task replaces a waiting one, unless that one is an event of its own: `remove` deletes the row.
A conflict (the engine wrote the row in between) reads the newer row and tries again. Each write compares the session
records of the nodes that it is about: when another manager has a node's session by now, what was said here is
dropped, since the worker has told that manager everything.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping

from pycompose.manager import states
from pycompose.manager.cache import Cache
from pycompose.manager.dispatcher.nodes import Nodes
from pycompose.manager.dispatcher.sessions import SESSIONS
from pycompose.manager.model import TASK, VOLUME, Codec, Object, object_key
from pycompose.manager.store import Compare, Delete, Operation, Store
from pycompose.proto.v1 import dispatcher_pb2, task_pb2, volume_pb2

log = logging.getLogger(__name__)
Write = tuple[Compare, Operation]


def task_write(cache: Cache, codec: Codec, node_id: str, task_id: str, status: task_pb2.TaskStatus) -> Write | None:
    """Return how the store takes over a task's status; None when it has nothing to take over."""
    current: task_pb2.Task | None = cache.get(TASK, task_id)
    if current is None or current.node_id != node_id or current.status == status:
        return None
    compare = Compare(object_key(TASK, task_id), current.meta.version.number)
    if status.state == task_pb2.TASK_STATE_REMOVE:
        return compare, Delete(object_key(TASK, task_id))
    if not states.may_follow(current.status, status):
        log.debug("task %s: %s may not follow %s", task_id[:12], status.state, current.status.state)
        return None
    copy = task_pb2.Task()
    copy.CopyFrom(current)
    copy.status.CopyFrom(status)
    return compare, codec.put(TASK, task_id, copy)


def volume_write(cache: Cache, codec: Codec, node_id: str, update: dispatcher_pb2.VolumeStatusUpdate) -> Write | None:
    """Return how the store takes over where a volume's data is; None when it knows."""
    current: volume_pb2.Volume | None = cache.get(VOLUME, update.volume)
    if current is None:
        return None
    places = {place.node_id: place.mountpoint for place in current.locations}
    if places.get(node_id, "") == update.mountpoint:
        return None
    places.pop(node_id, None)
    if update.mountpoint:
        places[node_id] = update.mountpoint
    copy = volume_pb2.Volume()
    copy.CopyFrom(current)
    del copy.locations[:]
    for node, mountpoint in sorted(places.items()):
        copy.locations.add(node_id=node, mountpoint=mountpoint)
    return Compare(object_key(VOLUME, current.id), current.meta.version.number), codec.put(VOLUME, current.id, copy)


class StatusWriter:
    """One per manager; `add` never waits, `run` writes."""

    def __init__(self, store: Store, cache: Cache, codec: Codec, nodes: Nodes) -> None:
        self._store, self._cache, self._codec, self._nodes = store, cache, codec, nodes
        self._tasks: dict[str, tuple[str, task_pb2.TaskStatus]] = {}
        self._volumes: dict[tuple[str, str], dispatcher_pb2.VolumeStatusUpdate] = {}
        self._wake = asyncio.Event()

    def add(self, node_id: str, batch: dispatcher_pb2.StatusBatch) -> None:
        """Take a worker's batch."""
        for update in batch.tasks:
            self._tasks[update.task_id] = (node_id, update.status)
        for volume in batch.volumes:
            self._volumes[node_id, volume.volume] = volume
        if self._tasks or self._volumes:
            self._wake.set()

    async def run(self) -> None:
        """Write for ever."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            tasks, self._tasks = self._tasks, {}
            volumes, self._volumes = self._volumes, {}
            try:
                await self._write(tasks, volumes)
            except Exception:
                log.exception("workers' statuses could not be stored; trying again in a second")
                self._tasks = tasks | self._tasks
                self._volumes = volumes | self._volumes
                await asyncio.sleep(1)
                self._wake.set()

    async def _write(
        self,
        tasks: Mapping[str, tuple[str, task_pb2.TaskStatus]],
        volumes: Mapping[tuple[str, str], dispatcher_pb2.VolumeStatusUpdate],
    ) -> None:
        names: list[Object] = [("task", key) for key in tasks] + [("volume", key) for key in volumes]
        while names:
            writes: dict[Object, Write] = {}
            fences: dict[str, Compare] = {}
            while names and len(writes) + len(fences) + 2 <= self._store.max_operations:
                kind, key = name = names.pop(0)
                node_id = tasks[key][0] if kind == "task" else key[0]
                fence = self._nodes.fence(node_id)
                if fence is None:
                    continue
                if kind == "task":
                    write = task_write(self._cache, self._codec, node_id, key, tasks[key][1])
                else:
                    write = volume_write(self._cache, self._codec, node_id, volumes[key])
                if write is not None and write[0].key not in {known[0].key for known in writes.values()}:
                    writes[name], fences[node_id] = write, fence
                elif write is not None:  # two nodes tell of one volume
                    names.insert(0, name)
                    break
            if not writes:
                continue
            compares = [*fences.values(), *(write[0] for write in writes.values())]
            result = await self._store.transact(compares, [write[1] for write in writes.values()])
            await self._cache.wait(result.revision.number)
            if not result.succeeded:
                for key in result.failed:
                    if key.startswith(SESSIONS):
                        self._nodes.lost(key[len(SESSIONS) :])
                names = [*writes, *names]
