"""Assign waiting tasks to nodes, with their addresses and ports, or write down why they wait."""

from __future__ import annotations

from pycompose.manager import allocator as alloc
from pycompose.manager import scheduler
from pycompose.manager.allocator import AllocationError
from pycompose.manager.cache import Cache
from pycompose.manager.engine.overlay import Pass, timestamp
from pycompose.manager.model import NETWORK, NODE, SERVICE, TASK, VOLUME
from pycompose.manager.orchestrator import dependencies
from pycompose.proto.v1 import service_pb2, task_pb2


def volume_homes(cache: Cache) -> dict[str, dict[str, str]]:
    """Return volume -> the nodes (id -> host name) that have its data."""

    def hostname(node_id: str) -> str:
        node = cache.get(NODE, node_id)
        return str(node.description.hostname) if node is not None else node_id

    return {v.id: {place.node_id: hostname(place.node_id) for place in v.locations} for v in cache.all(VOLUME)}


def place(work: Pass, service: service_pb2.Service) -> None:
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

    gate = ""
    if not service.spec.create_stopped:
        gate = dependencies.waits_for(service.spec, lookup) or _port_gate(work, service)
    demand = scheduler.Demand(service, volume_homes(work.cache), work.ports())
    if gate:
        for task in waiting:
            _say(work, task, gate)
        return
    infos = work.infos()
    ranking = scheduler.Ranking(demand, infos)
    nowhere = ""
    for task in waiting:
        own = infos.get(task.node_id)
        best = _if_suitable(demand, own) if own is not None else ranking.best()
        if best is None:
            if own is not None:
                text = scheduler.summary(scheduler.verdicts(demand, [own]))
            else:
                text = nowhere = nowhere or scheduler.summary(scheduler.verdicts(demand, infos.values()))
            _say(work, task, text)
            continue
        placed = task_pb2.Task()
        placed.CopyFrom(task)
        placed.node_id = best.node.id
        try:
            _attach(work, service, placed)
        except AllocationError as error:
            _say(work, task, f"waiting for an address or port: {error}")
            continue
        placed.status.state = task_pb2.TASK_STATE_ASSIGNED
        placed.status.since.CopyFrom(timestamp(work.now))
        placed.status.message = f"assigned to {best.node.description.hostname or best.node.id}"
        best.add(service)
        work.put(TASK, placed.id, placed)


def _if_suitable(demand: scheduler.Demand, info: scheduler.NodeInfo) -> scheduler.NodeInfo | None:
    return None if scheduler.why_not(demand, info) else info


def _port_gate(work: Pass, service: service_pb2.Service) -> str:
    """Return which port a service waits for that begins to run again after it had given its ports back.

    Of two that both wait the older one goes first.
    """
    if alloc.serving(service, work.tasks(service.id)):
        return ""
    for held in alloc.start_conflicts(service, work.ports()):
        other = work.get(SERVICE, held.owner)
        ours = service.meta.created_at.ToNanoseconds(), service.id
        first = other is not None and (other.meta.created_at.ToNanoseconds(), other.id) < ours
        if other is None or first or alloc.serving(other, work.tasks(other.id)):
            work.wake(work.now + 1.0)
            return f"waiting for port {held.port}, which {held.holder} publishes"
    return ""


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
    del task.ports[:]
    try:
        for spec in sorted(service.spec.task.networks, key=lambda n: (-n.priority, n.network)):
            network = work.cache.by_name(NETWORK, spec.network)
            if network is None:
                raise AllocationError(f"network {spec.network} does not exist")
            address = address6 = ""
            if work.allocator.has_addresses(network.id):
                holder = alloc.holder_of(task)
                address = work.allocator.address(network.id, holder, work.now, spec.ipv4_address)
                taken.append((network.id, address))
                address6 = work.allocator.address6(network.id, holder, address, spec.ipv6_address)
                taken += [(network.id, address6)] if address6 else []
            elif network.spec.driver in alloc.ADDRESSED:
                raise AllocationError(f"network {spec.network} has no subnet yet")
            task.attachments.add(
                network_id=network.id,
                address=address,
                ipv6_address=address6,
                mac_address=spec.mac_address or (alloc.mac_of(address) if address else ""),
                aliases=spec.aliases,
                gateway_priority=spec.gateway_priority,
                interface_name=spec.interface_name,
            )
        task.ports.extend(alloc.task_ports(service, task, work.ports()))
    except AllocationError:
        work.allocator.give_back(taken)
        raise
