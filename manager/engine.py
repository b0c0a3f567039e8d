"""The control loops' shell: looks at what changed, asks the pure cores, writes what they decide.

One pass takes all services that changed since the last one, lets the orchestrators decide, places and addresses
tasks, and writes creation and assignment together, each object under a comparison with the version that was
read. A conflict (a worker's status came in between) makes the pass start again from the newer cache. Nothing is
kept only in memory: a manager killed at any moment goes on from the store.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence

from google.protobuf.timestamp_pb2 import Timestamp

from pycompose.manager import allocator as alloc
from pycompose.manager import ids, reaper, scheduler
from pycompose.manager.allocator import AllocationError, Allocator, Pools
from pycompose.manager.cache import Cache, Changes
from pycompose.manager.leadership import Leadership
from pycompose.manager.model import (
    NETWORK,
    NODE,
    REVISION,
    SERVICE,
    TASK,
    VOLUME,
    Codec,
    Kind,
    Object,
    name_key,
    object_key,
    revision_id,
)
from pycompose.manager.orchestrator import dependencies, global_, jobs, replicated, restart
from pycompose.manager.orchestrator.actions import Create, Decision, Orphan, Remove, leaving, task_name
from pycompose.manager.store import Compare, Delete, Operation, Store
from pycompose.proto.v1 import node_pb2, service_pb2, task_pb2

log = logging.getLogger(__name__)


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
        self._infos: dict[str, scheduler.NodeInfo] | None = None

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

    def infos(self) -> dict[str, scheduler.NodeInfo]:
        """Return the nodes with what their tasks take."""
        if self._infos is None:
            self._infos = {node.id: scheduler.NodeInfo(node) for node in self.cache.all(NODE)}
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


def decide(work: Pass, service_id: str) -> None:
    """Carry one service on: everything that the cores say, into the overlay."""
    service = work.get(SERVICE, service_id)
    tasks = work.tasks(service_id)
    for task in tasks:
        if reaper.task_done(task):
            work.delete(TASK, task.id)
    tasks = work.tasks(service_id)
    if service is None:
        for task in tasks:
            _remove(work, task.id)
        return
    _supervise(work, tasks)
    service = _endpoint(work, service)
    decision = _orchestrate(work, service, work.tasks(service_id))
    for action in decision.actions:
        if isinstance(action, Create):
            _create(work, service, action)
        elif isinstance(action, Remove):
            _remove(work, action.task_id)
        elif isinstance(action, Orphan):
            _orphan(work, action)
    work.wake(decision.wake_at)
    _update_status(work, service, decision)
    _place(work, service)
    if reaper.service_done(service, work.tasks(service_id)):
        work.delete(SERVICE, service_id)
        work.extra.append((service_id, Delete(name_key(SERVICE, f"{service.spec.project}/{service.spec.name}"))))
        for revision in work.cache.revisions(service_id):
            work.extra.append((service_id, Delete(object_key(REVISION, revision))))
        for virtual in service.endpoint.virtual_addresses:
            work.allocator.release(virtual.network_id, virtual.address, work.now)


def _orchestrate(work: Pass, service: service_pb2.Service, tasks: Sequence[task_pb2.Task]) -> Decision:
    mode = service.spec.WhichOneof("mode")
    if mode == "global":
        eligible = []
        for info in work.infos().values():
            blank = scheduler.NodeInfo(node_pb2.Node())
            blank.node.CopyFrom(info.node)
            blank.node.status.state = node_pb2.NODE_STATE_READY
            paused = blank.node.spec.availability == node_pb2.NODE_AVAILABILITY_PAUSE
            if paused or not scheduler.why_not(blank, service, service.spec.task, {}):
                eligible.append(info.node.id)
        return global_.decide(service, tasks, eligible, work.now)
    if mode == "replicated_job":
        return jobs.decide(service, tasks)
    return replicated.decide(service, tasks, work.now)


def _supervise(work: Pass, tasks: Sequence[task_pb2.Task]) -> None:
    nodes = [info.node for info in work.infos().values()]
    down = {node.id for node in nodes if node.status.state == node_pb2.NODE_STATE_DOWN}
    usable = {n.id for n in nodes if n.id not in down and n.spec.availability in (0, 1)}
    for action in restart.decide(tasks, {node.id for node in nodes}, down, usable):
        if isinstance(action, Orphan):
            _orphan(work, action)
        elif isinstance(action, Remove):
            _remove(work, action.task_id)


def _orphan(work: Pass, action: Orphan) -> None:
    log.info("task %s given up: %s", action.task_id[:12], action.reason)
    work.delete(TASK, action.task_id)


def _remove(work: Pass, task_id: str) -> None:
    task = work.edit(TASK, task_id)
    task.desired_state = task_pb2.DESIRED_STATE_REMOVED
    if reaper.task_done(task):
        work.delete(TASK, task_id)
    elif not leaving(work.edit(TASK, task_id)):
        work.put(TASK, task_id, task)


def _create(work: Pass, service: service_pb2.Service, action: Create) -> None:
    stopped = service.spec.create_stopped
    task = task_pb2.Task(
        id=ids.task_id(),
        service_id=service.id,
        revision=service.revision,
        name=task_name(service.spec, action.slot),
        slot=action.slot,
        project=service.spec.project,
        service_name=service.spec.name,
        node_id=action.node_id,
        desired_state=task_pb2.DESIRED_STATE_CREATED if stopped else task_pb2.DESIRED_STATE_RUNNING,
    )
    task.status.state = task_pb2.TASK_STATE_PENDING
    task.status.since.CopyFrom(timestamp(work.now))
    task.status.message = action.reason
    work.put(TASK, task.id, task)


def _update_status(work: Pass, service: service_pb2.Service, decision: Decision) -> None:
    if decision.update_state is None:
        return
    status = service.update_status
    if status.state == decision.update_state and status.message == decision.update_message:
        return
    copy = work.edit(SERVICE, service.id)
    if decision.update_state != service_pb2.UPDATE_STATE_UPDATING:
        copy.update_status.completed_at.CopyFrom(timestamp(work.now))
    elif status.state != service_pb2.UPDATE_STATE_UPDATING:
        copy.update_status.started_at.CopyFrom(timestamp(work.now))
    copy.update_status.state = decision.update_state
    copy.update_status.message = decision.update_message
    work.put(SERVICE, service.id, copy)


def _endpoint(work: Pass, service: service_pb2.Service) -> service_pb2.Service:
    """Give the service its virtual addresses and ports."""
    if service.removing:
        return service
    endpoint = service_pb2.ServiceEndpoint()
    have = {virtual.network_id: virtual.address for virtual in service.endpoint.virtual_addresses}
    if service.spec.endpoint.mode != service_pb2.ENDPOINT_MODE_DNSRR:
        for attachment in service.spec.task.networks:
            network = work.cache.by_name(NETWORK, attachment.network)
            if network is None or not work.allocator.has_addresses(network.id):
                continue
            try:
                address = have.get(network.id) or work.allocator.address(
                    network.id, f"virtual address of {service.spec.name}", work.now
                )
            except AllocationError as error:
                log.warning("service %s: %s", service.spec.name, error)
                continue
            endpoint.virtual_addresses.add(network_id=network.id, address=address.split("/")[0])
    kept = {virtual.network_id for virtual in endpoint.virtual_addresses}
    for network_id, address in have.items():
        if network_id not in kept:
            work.allocator.release(network_id, address, work.now)
    used = {
        number
        for other in work.cache.all(SERVICE)
        if other.id != service.id
        for _, _, first, last in alloc.port_ranges(other)
        for number in range(first, last + 1)
    }
    endpoint.ports.extend(alloc.fill_ports(service.spec, service.endpoint, used))
    if endpoint == service.endpoint:
        return service
    copy: service_pb2.Service = work.edit(SERVICE, service.id)
    copy.endpoint.CopyFrom(endpoint)
    work.put(SERVICE, service.id, copy)
    return copy


def _place(work: Pass, service: service_pb2.Service) -> None:
    """Assign the service's waiting tasks, or write down why they wait."""
    waiting = [
        task
        for task in work.tasks(service.id)
        if task.status.state == task_pb2.TASK_STATE_PENDING
        and task.desired_state in (task_pb2.DESIRED_STATE_RUNNING, task_pb2.DESIRED_STATE_CREATED)
    ]
    if not waiting:
        return

    def lookup(name: str) -> tuple[service_pb2.Service, list[task_pb2.Task]] | None:
        other = work.cache.by_name(SERVICE, f"{service.spec.project}/{name}")
        return None if other is None else (other, work.tasks(other.id))

    gate = "" if service.spec.create_stopped else dependencies.waits_for(service.spec, lookup)
    volumes = {v.id: [place.node_id for place in v.locations] for v in work.cache.all(VOLUME)}
    spec = service.spec.task
    for task in waiting:
        if gate:
            _say(work, task, gate)
            continue
        infos = work.infos()
        nodes = [infos[task.node_id]] if task.node_id in infos else list(infos.values())
        answers = scheduler.verdicts(nodes, service, spec, volumes)
        if not answers or not answers[0].suitable:
            _say(work, task, scheduler.summary(answers))
            continue
        placed = task_pb2.Task()
        placed.CopyFrom(task)
        placed.node_id = answers[0].node_id
        try:
            _attach(work, service, placed)
        except AllocationError as error:
            _say(work, task, f"waiting for an address or port: {error}")
            continue
        placed.status.state = task_pb2.TASK_STATE_ASSIGNED
        placed.status.since.CopyFrom(timestamp(work.now))
        placed.status.message = f"assigned to {answers[0].hostname or answers[0].node_id}"
        infos[placed.node_id].add(service, spec)
        work.put(TASK, placed.id, placed)


def _say(work: Pass, task: task_pb2.Task, message: str) -> None:
    if task.status.message != message:
        copy = task_pb2.Task()
        copy.CopyFrom(task)
        copy.status.message = message
        work.put(TASK, task.id, copy)


def _attach(work: Pass, service: service_pb2.Service, task: task_pb2.Task) -> None:
    """Give the task its addresses and own ports. Raises AllocationError; then nothing is kept."""
    taken: list[tuple[str, str]] = []
    del task.attachments[:]
    try:
        for spec in sorted(service.spec.task.networks, key=lambda n: (-n.priority, n.network)):
            network = work.cache.by_name(NETWORK, spec.network)
            if network is None:
                raise AllocationError(f"network {spec.network} does not exist")
            address = ""
            if work.allocator.has_addresses(network.id):
                address = work.allocator.address(network.id, task.name, work.now, spec.ipv4_address)
                taken.append((network.id, address))
            elif network.spec.driver in ("", "bridge", "overlay"):
                raise AllocationError(f"network {spec.network} has no subnet yet")
            task.attachments.add(
                network_id=network.id,
                address=address,
                mac_address=spec.mac_address or (alloc.mac_of(address) if address else ""),
                aliases=spec.aliases,
                gateway_priority=spec.gateway_priority,
                interface_name=spec.interface_name,
            )
        others = [other for other in work.tasks(service.id) if other.id != task.id]
        used = {
            port.published_port
            for other in work.cache.tasks_of_node(task.node_id)
            if other.service_id != service.id
            for port in other.ports
        }
        task.ports.extend(alloc.task_ports(service, task.node_id, others, used))
    except AllocationError:
        for network_id, address in taken:
            work.allocator.release(network_id, address, work.now)
        raise


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
            if reaper.volume_done(volume):
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


__all__ = ["Engine", "Pass", "decide", "revision_id", "timestamp"]
