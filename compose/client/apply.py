"""Carrying out one step of a plan over the control API."""

from __future__ import annotations

from pycompose.compose.client.connection import Client
from pycompose.compose.client.errors import ApiError, LostError, NotThereError
from pycompose.compose.plan.steps import Step
from pycompose.proto.v1 import control_pb2


def apply(client: Client, step: Step) -> str:
    """Do what the step says; return the id of the object that it made or changed ("" for none).

    A manager that goes away in the middle may have done it: then what is there is looked at, and the step is done again
    only when nothing came of it.

    Raises:
        ClientError: the manager refused, or somebody else changed the object at the same moment.
    """
    try:
        return _apply(client, step)
    except LostError as error:
        if not error.sent:
            raise
        done = _outcome(client, step, error)
        return _apply(client, step) if done is None else done


def _outcome(client: Client, step: Step, error: LostError) -> str | None:
    """Return the object's id when a step was done before its manager went away, None when it was not.

    Raises:
        LostError: the object is neither as before nor as wanted.
    """
    word = step.kind.capitalize()
    if step.action == "create":
        request = getattr(control_pb2, f"List{word}sRequest")()
        if step.kind != "project" and step.spec.project:
            request.filter.project = step.spec.project
        found = getattr(getattr(client.control, f"List{word}s")(request), f"{step.kind}s")
        return next((str(one.id) for one in found if one.spec.name == step.spec.name), None)
    if step.action == "start":
        return None
    request = getattr(control_pb2, f"Get{word}Request")()
    setattr(request, step.kind, step.current.id)
    try:
        now = getattr(getattr(client.control, f"Get{word}")(request), step.kind)
    except NotThereError:
        return str(step.current.id)
    if step.action == "remove" or now.meta.version == step.current.meta.version:
        return None
    if now.spec == step.spec:
        return str(now.id)
    raise error


def _apply(client: Client, step: Step) -> str:
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
