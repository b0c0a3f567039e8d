"""Why a node may not run a task: one filter a subject, each giving its reasons in plain words."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from pycompose.manager.allocator import PROTOCOLS, Held
from pycompose.manager.scheduler.constraints import holds, same_platform
from pycompose.manager.scheduler.nodeset import Demand, NodeInfo
from pycompose.proto.v1 import container_pb2, node_pb2, service_pb2

Filter = Callable[[Demand, NodeInfo], Iterator[str]]


def ready(demand: Demand, info: NodeInfo) -> Iterator[str]:
    """A node that does not answer takes nothing."""
    if info.node.status.state == node_pb2.NODE_STATE_DISCONNECTED:
        yield "node is disconnected"
    elif info.node.status.state != node_pb2.NODE_STATE_READY:
        yield "node is down"


def availability(demand: Demand, info: NodeInfo) -> Iterator[str]:
    """The operator may have taken the node out."""
    if info.node.spec.availability == node_pb2.NODE_AVAILABILITY_PAUSE:
        yield "node is paused: it takes no new tasks"
    if info.node.spec.availability == node_pb2.NODE_AVAILABILITY_DRAIN:
        yield "node is drained"


def constraints(demand: Demand, info: NodeInfo) -> Iterator[str]:
    """All placement constraints must hold."""
    for text in demand.service.spec.task.placement.constraints:
        fine, actual = holds(info.node, text)
        if not fine:
            yield f"constraint {text} does not hold (it has {actual or 'nothing'})"


def platform(demand: Demand, info: NodeInfo) -> Iterator[str]:
    """The image's platform must be the node's."""
    platforms = [p for p in demand.service.spec.task.placement.platforms if p]
    have = info.node.description.platform
    if platforms and not any(same_platform(have, wanted) for wanted in platforms):
        yield f"platform is {have or 'not known'}, not {' or '.join(platforms)}"


def resources(demand: Demand, info: NodeInfo) -> Iterator[str]:
    """What the task reserves must be free."""
    wanted, total = demand.service.spec.task.container.resources.reservations, info.node.description.resources
    cpus = wanted.nano_cpus - (total.nano_cpus - info.nano_cpus)
    if wanted.nano_cpus and cpus > 0:
        yield f"{cpus / 1e9:.2f} CPU short"
    memory = wanted.memory_bytes - (total.memory_bytes - info.memory_bytes)
    if wanted.memory_bytes and memory > 0:
        yield f"{-(-memory // 2**20)} MiB memory short"
    for kind, count in sorted(wanted.generic.items()):
        missing = count - (total.generic.get(kind, 0) - info.generic[kind])
        if missing > 0:
            yield f"{missing} {kind} short"


def replicas(demand: Demand, info: NodeInfo) -> Iterator[str]:
    """A service may limit its tasks on one node."""
    most = demand.service.spec.task.placement.max_replicas_per_node
    if most and info.by_service[demand.service.id] >= most:
        yield f"already runs {most} tasks of the service (max_replicas_per_node)"


def volumes(demand: Demand, info: NodeInfo) -> Iterator[str]:
    """A volume's data stays where it is."""
    for mount in demand.service.spec.task.container.mounts:
        homes = demand.volumes.get(mount.source, {}) if mount.type == container_pb2.MOUNT_TYPE_VOLUME else {}
        if homes and info.node.id not in homes:
            yield f"volume {mount.source} has its data on {', '.join(sorted(homes.values()))}"


def ports(demand: Demand, info: NodeInfo) -> Iterator[str]:
    """A fixed port in host mode must be free on the node."""
    for port in demand.service.endpoint.ports or demand.service.spec.endpoint.ports:
        alone = port.published_port and port.published_port_end <= port.published_port
        if port.publish_mode == service_pb2.PUBLISH_MODE_HOST and alone:
            wanted = Held(PROTOCOLS[port.protocol], port.published_port, port.host_ip, info.node.id, "", "")
            if holder := demand.ports.conflict(wanted):
                yield f"port {port.published_port} is held by {holder}"


FILTERS: tuple[Filter, ...] = (
    ready,
    availability,
    constraints,
    platform,
    resources,
    replicas,
    volumes,
    ports,
)
#: What decides whether a global service has a task on a node at all; what is short for now only delays it.
LASTING: tuple[Filter, ...] = (constraints, platform)
#: What says whether a node is there for a task that lost its own, or will be once room is made.
TAKERS: tuple[Filter, ...] = (ready, availability, constraints, platform, volumes)
