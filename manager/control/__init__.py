"""The control API: ControlService over the store and its cache.

======================  =======================================================================
``api``                 what all calls share: finding objects, committing, turning refusals into gRPC status
``validate``            pure: what is wrong with a spec, field by field
``services``            services and their revisions
``objects``             networks, volumes, secrets, configs, projects
``tasks``               tasks: start, stop, restart, remove, explain
``nodes``               nodes and the manager itself
``holding``, ``holds``  who changes a project now, one at a time
``watch``               objects as they are, then each change
======================  =======================================================================
"""

from __future__ import annotations

import grpc

from pycompose.manager.control.api import Api
from pycompose.manager.control.holds import HoldCalls
from pycompose.manager.control.nodes import NodeCalls
from pycompose.manager.control.objects import ObjectCalls
from pycompose.manager.control.services import ServiceCalls
from pycompose.manager.control.tasks import TaskCalls
from pycompose.manager.control.watch import WatchCalls
from pycompose.proto.v1 import control_pb2_grpc


class ControlServicer(
    ServiceCalls, ObjectCalls, TaskCalls, NodeCalls, WatchCalls, HoldCalls, control_pb2_grpc.ControlServiceServicer
):
    """All calls of ControlService."""


def add_control(server: grpc.aio.Server, api: Api) -> None:
    """Serve ControlService on `server`."""
    control_pb2_grpc.add_ControlServiceServicer_to_server(ControlServicer(api), server)


__all__ = ["Api", "ControlServicer", "add_control"]
