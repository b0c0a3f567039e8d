"""What the commands of the `container` group share."""

from __future__ import annotations

from pycompose.compose.client import Client, NotThereError
from pycompose.compose.labels import SINGLE
from pycompose.compose.plan.current import is_oneoff
from pycompose.proto.v1 import control_pb2, service_pb2, task_pb2


def get(client: Client, name: str) -> task_pb2.Task:
    """Return a task by id, unique prefix, or name."""
    try:
        return client.control.GetTask(control_pb2.GetTaskRequest(task=name)).task
    except NotThereError as error:
        raise NotThereError(error.message.replace("no such task", "no such container"), error.code) from None


def service_of(client: Client, task: task_pb2.Task) -> service_pb2.Service | None:
    """Return the task's service, None when it is gone."""
    try:
        return client.control.GetService(control_pb2.GetServiceRequest(service=task.service_id)).service
    except NotThereError:
        return None


def is_single(service: service_pb2.Service) -> bool:
    """Return whether the service is one container that a person made: by `container run` or `run`."""
    return is_oneoff(service) or service.spec.task.container.labels.get(SINGLE) == "True"
