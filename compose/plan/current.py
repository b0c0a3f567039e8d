"""What there is, as the control API lists it."""

from __future__ import annotations

from dataclasses import dataclass, field

from pycompose.compose.labels import ONEOFF
from pycompose.proto.v1 import network_pb2, project_pb2, secret_pb2, service_pb2, task_pb2, volume_pb2


def is_oneoff(service: service_pb2.Service) -> bool:
    """Return whether `pycompose run` made the service."""
    return service.spec.task.container.labels.get(ONEOFF) == "True"


@dataclass
class Current:
    """A project's services by name and tasks; networks, volumes, secrets and configs of all, by name."""

    project: project_pb2.Project | None = None
    services: dict[str, service_pb2.Service] = field(default_factory=dict)
    tasks: list[task_pb2.Task] = field(default_factory=list)
    networks: dict[str, network_pb2.Network] = field(default_factory=dict)
    volumes: dict[str, volume_pb2.Volume] = field(default_factory=dict)
    secrets: dict[str, secret_pb2.Secret] = field(default_factory=dict)
    configs: dict[str, secret_pb2.Config] = field(default_factory=dict)

    def tasks_of(self, service_id: str) -> list[task_pb2.Task]:
        """Return a service's tasks by slot."""
        return sorted((task for task in self.tasks if task.service_id == service_id), key=lambda task: task.slot)
