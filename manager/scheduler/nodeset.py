"""A node as the scheduler sees it."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from pycompose.proto.v1 import node_pb2, service_pb2


@dataclass(slots=True)
class NodeInfo:
    """A node and what its tasks take from it."""

    node: node_pb2.Node
    tasks: int = 0
    by_service: Counter[str] = field(default_factory=Counter)
    nano_cpus: int = 0
    memory_bytes: int = 0
    host_ports: dict[tuple[str, int], str] = field(default_factory=dict)

    def add(self, service: service_pb2.Service, task_spec: service_pb2.TaskSpec) -> None:
        """Count one more task."""
        reserved = task_spec.container.resources.reservations
        self.tasks += 1
        self.by_service[service.id] += 1
        self.nano_cpus += reserved.nano_cpus
        self.memory_bytes += reserved.memory_bytes
