"""A node as the scheduler sees it, and what a task asks of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from pycompose.manager.allocator import PortBook
from pycompose.manager.orchestrator.actions import leaving
from pycompose.proto.v1 import node_pb2, service_pb2, task_pb2


@dataclass(slots=True)
class NodeInfo:
    """A node and what its tasks take from it."""

    node: node_pb2.Node
    tasks: int = 0
    by_service: Counter[str] = field(default_factory=Counter)
    nano_cpus: int = 0
    memory_bytes: int = 0
    generic: Counter[str] = field(default_factory=Counter)

    def add(self, service: service_pb2.Service) -> None:
        """Count one more task of a service."""
        reserved = service.spec.task.container.resources.reservations
        self.tasks += 1
        self.by_service[service.id] += 1
        self.nano_cpus += reserved.nano_cpus
        self.memory_bytes += reserved.memory_bytes
        self.generic.update(reserved.generic)


@dataclass(frozen=True, slots=True)
class Demand:
    """What a task of `service` asks of a node.

    `volumes`: the nodes (id -> host name) that have each volume's data; `ports`: those that are held.
    """

    service: service_pb2.Service
    volumes: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    ports: PortBook = field(default_factory=PortBook)


def node_infos(
    nodes: Iterable[node_pb2.Node],
    tasks_of: Callable[[str], Iterable[task_pb2.Task]],
    service_of: Callable[[str], service_pb2.Service | None],
) -> dict[str, NodeInfo]:
    """Return the nodes by id with what their tasks take; tasks on their way out take nothing."""
    infos = {node.id: NodeInfo(node) for node in nodes}
    for info in infos.values():
        for task in tasks_of(info.node.id):
            service = service_of(task.service_id)
            if service is not None and not leaving(task):
                info.add(service)
    return infos
