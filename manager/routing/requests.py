"""What a call's first message is about. Pure; everything comes from the services' descriptors.

A call is about the tasks that its `task_id` or `task_ids` name (also inside a `start`), about the node that its
`node_id` names, or about the manager's own node. Some calls are about the cluster: they go to all nodes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from google.protobuf import message_factory
from google.protobuf.message import DecodeError

from pycompose.proto.refusal import InvalidError
from pycompose.proto.v1 import access_pb2, build_pb2, image_pb2

PACKAGE = "pycompose.v1"
SERVICES = (
    access_pb2.DESCRIPTOR.services_by_name["TaskAccessService"],
    image_pb2.DESCRIPTOR.services_by_name["ImageService"],
    build_pb2.DESCRIPTOR.services_by_name["BuildService"],
)
METHODS = {f"/{service.full_name}/{method.name}": method for service in SERVICES for method in service.methods}
_ACCESS = f"/{PACKAGE}.TaskAccessService/"
#: Calls about all nodes, when they name no tasks.
EVERYWHERE = frozenset(_ACCESS + name for name in ("ProbePorts", "MeasureVolumes", "WatchEvents"))


@dataclass(frozen=True, slots=True)
class About:
    """`tasks`: ids; `node_id`: "" for the manager's own; `everywhere`: all nodes. The first that is set counts."""

    tasks: tuple[str, ...] = ()
    everywhere: bool = False
    node_id: str = ""


def parse(method: str, data: bytes) -> Any:
    """Return a call's first message. Raises InvalidError."""
    try:
        return message_factory.GetMessageClass(METHODS[method].input_type).FromString(data)
    except DecodeError as error:
        raise InvalidError([("", f"the message cannot be read: {error}")]) from None


def about(method: str, message: Any) -> About:
    """Return what a call is about, from its first message."""
    fields = message.DESCRIPTOR.fields_by_name
    if "start" in fields:
        message = message.start
        fields = message.DESCRIPTOR.fields_by_name
    if method in EVERYWHERE:
        # events of some tasks: their node may be another by the next event
        return About(everywhere=True)
    if "task_ids" in fields and message.task_ids:
        return About(tuple(dict.fromkeys(message.task_ids)))
    if "task_id" in fields:
        return About((message.task_id,))
    return About(node_id=message.node_id if "node_id" in fields else "")
