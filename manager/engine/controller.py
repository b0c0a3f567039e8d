"""The engine's core: hears changes, decides, says what to write. No store, no clock, no waiting.

The shell (`loop`) tells it each change of the cache (`hear`), asks it (`decide`) and carries out its writes, each in
one transaction; what a refused write concerns is looked at again (`refused`). The simulator does the same without
the shell.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from pycompose.manager import ids
from pycompose.manager.allocator import ADDRESSED, AllocationError, Allocator, Pools, task_places, virtual_places
from pycompose.manager.cache import Cache, Change, Changes
from pycompose.manager.engine.overlay import Entry, Pass
from pycompose.manager.engine.service import decide
from pycompose.manager.model import NETWORK, NODE, SERVICE, TASK, VOLUME, Codec, Object, object_key, version_of
from pycompose.manager.orchestrator import taskreaper
from pycompose.manager.store import Compare, Delete, Operation

log = logging.getLogger(__name__)


@dataclass(slots=True)
class Write:
    """One transaction, and the services that it concerns ("": networks, volumes)."""

    compares: list[Compare] = field(default_factory=list)
    operations: list[Operation] = field(default_factory=list)
    concerns: set[str] = field(default_factory=set)


class Controller:
    """Decides for all services.

    Args:
        cache: the store's objects as of now.
        codec: makes stored bytes of them.
        pools: where networks' subnets come from.
        most: operations of one transaction.
        new_id: gives ids of new tasks.
    """

    def __init__(
        self, cache: Cache, codec: Codec, pools: Pools, most: int = 128, new_id: Callable[[], str] = ids.task_id
    ) -> None:
        self._cache, self._codec, self._most, self._new_id = cache, codec, most, new_id
        self.allocator = Allocator(pools)
        self.dirty: set[str] = set()
        for network in cache.all(NETWORK):
            self.allocator.hear_network(network.id, network)
        for service in cache.all(SERVICE):
            self.allocator.hear({}, virtual_places(service), 0.0)
        for task in cache.all(TASK):
            self.allocator.hear({}, task_places(task), 0.0)
        self.everything()

    def everything(self) -> None:
        """Look at all services again."""
        self.dirty |= {service.id for service in self._cache.all(SERVICE)} | {""}
        self.dirty |= {task.service_id for task in self._cache.all(TASK)}

    def hear(self, changes: Changes, now: float) -> None:
        """Take note of a change of the cache. `now`: seconds since the epoch."""
        for change in changes.items:
            sample: Object = change.new if change.new is not None else change.old
            if change.kind is SERVICE:
                self.dirty.add(change.id)
                self._dependents(sample.spec.project, sample.spec.name)
                self.allocator.hear(virtual_places(change.old), virtual_places(change.new), now)
            elif change.kind is TASK:
                self.dirty.add(sample.service_id)
                self._dependents(sample.project, sample.service_name)
                self.allocator.hear(task_places(change.old), task_places(change.new), now)
            elif change.kind in (NODE, NETWORK, VOLUME):
                self._resource(change)

    def _resource(self, change: Change) -> None:
        if change.kind is NETWORK:
            self.allocator.hear_network(change.id, change.new)
        self.everything()

    def _dependents(self, project: str, name: str) -> None:
        for service in self._cache.services_of_project(project):
            if any(dependency.service == name for dependency in service.spec.dependencies):
                self.dirty.add(service.id)

    def decide(self, now: float) -> tuple[list[Write], float | None]:
        """Return what to write for all that is dirty, and when to look at everything again."""
        dirty, self.dirty = self.dirty, set()
        self.allocator.begin()
        work = Pass(self._cache, self.allocator, now, self._new_id)
        if "" in dirty:
            self._networks_and_volumes(work)
        for service_id in sorted(dirty - {""}):
            try:
                decide(work, service_id)
            except Exception:  # one service that cannot be decided must not hold up the others
                log.exception("service %s cannot be carried on; trying again in a minute", service_id)
                work.forget(service_id)
                work.wake(now + 60.0)
        return list(self._writes(work)), work.wake_at

    def refused(self, write: Write) -> None:
        """The write's comparisons failed: look again at what it concerns."""
        self.dirty |= write.concerns

    def _networks_and_volumes(self, work: Pass) -> None:
        for network in list(self._cache.all(NETWORK)):
            if not network.vni and network.spec.driver in ADDRESSED:
                try:
                    routes = [route for node in self._cache.all(NODE) for route in node.description.routes]
                    work.put(NETWORK, network.id, self.allocator.network(network, routes))
                except (AllocationError, ValueError) as error:
                    log.warning("network %s: %s", network.spec.name, error)
        for volume in list(self._cache.all(VOLUME)):
            if taskreaper.volume_done(volume):
                work.delete(VOLUME, volume.id)

    def _writes(self, work: Pass) -> Iterator[Write]:
        """Yield the overlay in transactions; what belongs together is never parted."""
        write = Write()
        for entry in work.changed.values():
            if entry.old is None and entry.new is None:
                continue
            if write.operations and len(write.operations) + 1 + len(entry.extra) > self._most:
                yield write
                write = Write()
            self._add(write, entry)
        if write.operations:
            yield write

    def _add(self, write: Write, entry: Entry) -> None:
        key = object_key(entry.kind, entry.id)
        write.compares.append(Compare(key, version_of(entry.kind, entry.old).number if entry.old is not None else 0))
        put = Delete(key) if entry.new is None else self._codec.put(entry.kind, entry.id, entry.new)
        write.operations += [put, *entry.extra]
        write.concerns.add(entry.service_id)
