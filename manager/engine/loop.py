"""The loop: hears what changed, runs passes, writes what they decide."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence

from pycompose.manager.allocator import AllocationError, Allocator, Pools
from pycompose.manager.cache import Cache, Changes
from pycompose.manager.engine.overlay import Pass
from pycompose.manager.engine.service import decide
from pycompose.manager.leadership import Leadership
from pycompose.manager.model import NETWORK, NODE, SERVICE, TASK, VOLUME, Codec, Kind, Object, object_key
from pycompose.manager.orchestrator import taskreaper
from pycompose.manager.store import Compare, Delete, Operation, Store

log = logging.getLogger(__name__)


class Engine:
    """Runs passes while this manager leads."""

    def __init__(
        self,
        store: Store,
        cache: Cache,
        codec: Codec,
        leadership: Leadership,
        pools: Pools,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._store, self._cache, self._codec, self._leadership = store, cache, codec, leadership
        self._pools, self._clock = pools, clock
        self._dirty: set[str] = set()
        self._event = asyncio.Event()
        self._allocator = Allocator(pools)

    async def run(self) -> None:
        """Lead for ever."""
        await self._leadership.acquire()
        self._fill()
        stop = self._cache.listen(self._changed)
        self._dirty |= {service.id for service in self._cache.all(SERVICE)}
        self._dirty |= {task.service_id for task in self._cache.all(TASK)}
        wake_at: float | None = None
        try:
            while True:
                if not self._dirty:
                    await self._sleep(wake_at)
                try:
                    wake_at = await self._pass()
                except Exception:
                    log.exception("a pass of the control loop failed; trying again in a second")
                    self._dirty |= {service.id for service in self._cache.all(SERVICE)}
                    await asyncio.sleep(1)
        finally:
            stop()

    async def _sleep(self, wake_at: float | None) -> None:
        self._event.clear()
        try:
            timeout = None if wake_at is None else max(0.01, wake_at - self._clock())
            await asyncio.wait_for(self._event.wait(), timeout)
        except TimeoutError:
            self._dirty |= {service.id for service in self._cache.all(SERVICE)}

    def _fill(self) -> None:
        self._allocator = Allocator(self._pools)
        for network in self._cache.all(NETWORK):
            self._allocator.know(network)
        for service in self._cache.all(SERVICE):
            for virtual in service.endpoint.virtual_addresses:
                holder = f"virtual address of {service.spec.name}"
                self._allocator.know_address(virtual.network_id, virtual.address, holder)
        for task in self._cache.all(TASK):
            for attachment in task.attachments:
                self._allocator.know_address(attachment.network_id, attachment.address, task.name)

    def _changed(self, changes: Changes) -> None:
        """Note which services a change concerns."""
        everything = False
        for change in changes.items:
            sample: Object = change.new or change.old
            if change.kind is SERVICE:
                self._dirty.add(change.id)
                self._dependents(sample.spec.project, sample.spec.name)
            elif change.kind is TASK:
                self._dirty.add(sample.service_id)
                self._dependents(sample.project, sample.service_name)
                if change.new is None:
                    for attachment in sample.attachments:
                        self._allocator.release(attachment.network_id, attachment.address, self._clock())
            elif change.kind in (NODE, NETWORK, VOLUME):
                everything = True
                if change.kind is NETWORK and change.new is None:
                    self._allocator.forget_network(change.id)
        if everything:
            self._dirty |= {service.id for service in self._cache.all(SERVICE)} | {""}
        if self._dirty:
            self._event.set()

    def _dependents(self, project: str, name: str) -> None:
        for service in self._cache.services_of_project(project):
            if any(dependency.service == name for dependency in service.spec.dependencies):
                self._dirty.add(service.id)

    async def _pass(self) -> float | None:
        """Decide on what is dirty and write it; returns when to look again."""
        dirty, self._dirty = self._dirty, set()
        work = Pass(self._cache, self._allocator, self._clock())
        self._networks_and_volumes(work)
        for service_id in sorted(dirty - {""}):
            decide(work, service_id)
        await self._write(work)
        return work.wake_at

    def _networks_and_volumes(self, work: Pass) -> None:
        for network in list(self._cache.all(NETWORK)):
            if not network.vni and network.spec.driver in ("", "bridge", "overlay"):
                try:
                    work.put(NETWORK, network.id, self._allocator.network(network))
                except AllocationError as error:
                    log.warning("network %s: %s", network.spec.name, error)
        for volume in list(self._cache.all(VOLUME)):
            if taskreaper.volume_done(volume):
                work.delete(VOLUME, volume.id)

    async def _write(self, work: Pass) -> None:
        """Write the overlay in transactions; on conflict the services concerned are looked at again."""
        fence = self._leadership.fence()
        entries = list(work.changed.items())
        size = self._store.max_operations - len(fence)
        last = 0
        redo: set[str] = set()
        for start in range(0, len(entries), size):
            compares, operations = list(fence), list[Operation]()
            concerned = set()
            for (_, identity), (kind, old, new) in entries[start : start + size]:
                if old is None and new is None:
                    continue
                compares.append(Compare(object_key(kind, identity), old.meta.version.number if old else 0))
                operations.append(
                    Delete(object_key(kind, identity)) if new is None else self._codec.put(kind, identity, new)
                )
                sample: Object = new or old
                concerned.add(sample.service_id if kind is TASK else identity)
            if not operations:
                continue
            result = await self._store.transact(compares, operations)
            last = max(last, result.revision.number)
            if not result.succeeded:
                redo |= concerned
                self._undo(entries[start : start + size], work.now)
        extra = [op for service_id, op in work.extra if service_id not in redo]
        for start in range(0, len(extra), size):
            result = await self._store.transact(list(fence), extra[start : start + size])
            last = max(last, result.revision.number)
        await self._cache.wait(last)
        self._dirty |= redo

    def _undo(self, entries: Sequence[tuple[tuple[str, str], tuple[Kind, Object, Object]]], now: float) -> None:
        """Give back addresses of tasks that were not written."""
        for _, (kind, old, new) in entries:
            if kind is TASK and new is not None and (old is None or not old.attachments):
                for attachment in new.attachments:
                    self._allocator.release(attachment.network_id, attachment.address, now)
