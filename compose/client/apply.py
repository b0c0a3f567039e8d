"""Carrying out one step of a plan over the control API."""

from __future__ import annotations

from pycompose.compose.client.connection import Client
from pycompose.compose.client.errors import ApiError
from pycompose.compose.plan.steps import Step
from pycompose.proto.v1 import control_pb2


def apply(client: Client, step: Step) -> str:
    """Do what the step says; return the id of the object that it made or changed ("" for none).

    Raises:
        ClientError: the manager refused, or somebody else changed the object at the same moment.
    """
    if step.action == "keep":
        return str(step.current.id)
    if step.action == "start":
        client.control.StartTasks(control_pb2.StartTasksRequest(task_ids=step.task_ids))
        return str(step.current.id)
    if step.action == "remove":
        return _remove(client, step)
    word = step.kind.capitalize()
    if step.action == "create":
        request = getattr(control_pb2, f"Create{word}Request")(spec=step.spec)
        answer = getattr(client.control, f"Create{word}")(request)
    else:
        request = getattr(control_pb2, f"Update{word}Request")(spec=step.spec, version=step.current.meta.version)
        setattr(request, f"{step.kind}_id", step.current.id)
        try:
            answer = getattr(client.control, f"Update{word}")(request)
        except ApiError as error:
            if error.code == "ABORTED":
                raise ApiError(
                    f"{step.kind} {step.name} was changed by somebody else at the same moment; run the command again",
                    error.code,
                ) from None
            raise
    return str(getattr(answer, step.kind).id)


def _remove(client: Client, step: Step) -> str:
    word = step.kind.capitalize()
    request = getattr(control_pb2, f"Remove{word}Request")()
    setattr(request, f"{step.kind}_id", step.current.id)
    getattr(client.control, f"Remove{word}")(request)
    return str(step.current.id)
