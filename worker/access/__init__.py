"""Hands on tasks and images, served on the worker's socket.

============  ======================================================================
``base``      what the calls of TaskAccessService share
``streams``   exec and attach: streams both ways, with flow control
``reading``   logs and events
``forwarding`` connections to a container's ports
``files``     copy, stat, export, changes, commit
``tasks``     signals, pause, processes, usage, ports, volumes; all of the above
``images``    ImageService
``build``     BuildService
``pipes``     bytes of a call to a thread that reads a file, and back
``remote``    the server for managers and other nodes
``elsewhere`` api.sock of a machine that has no manager
``refusals``  how clients hear of the worker's own errors
============  ======================================================================
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import grpc

from pycompose.proto.guard import Guard
from pycompose.proto.serving import api_group, listen, new_server
from pycompose.proto.v1 import access_pb2_grpc, build_pb2_grpc, image_pb2_grpc
from pycompose.proto.v1.node_service_pb2_grpc import add_NodeServiceServicer_to_server as add_node
from pycompose.worker.access.build import BuildCalls
from pycompose.worker.access.elsewhere import new_elsewhere
from pycompose.worker.access.images import ImageCalls
from pycompose.worker.access.refusals import translate
from pycompose.worker.access.remote import RemoteDoor, new_remote_server
from pycompose.worker.access.tasks import TaskCalls
from pycompose.worker.agent.membership import folder
from pycompose.worker.agent.node_calls import NodeCalls

if TYPE_CHECKING:
    from pycompose.worker.agent.agent import Agent


class Stoppable(Protocol):
    """What serves until it is stopped."""

    async def stop(self, grace: float) -> None:
        """Stop; calls may end within `grace` seconds."""
        ...


async def serve(path: Path, agent: Agent) -> list[Stoppable]:
    """Start serving on the unix socket `path` (root only), and on a cluster for managers and other nodes."""
    about = NodeCalls(agent)
    local = _with_calls(new_server(Guard("the node's log", translate)), agent)
    add_node(about, local)
    await listen(local, path)
    here = agent.membership
    servers: list[Stoppable] = [local]
    if here.cluster_id:
        host = here.listen or "::"
        address = f"[{host}]:{here.worker_port}" if ":" in host else f"{host}:{here.worker_port}"

        def remote() -> grpc.aio.Server:
            return _with_calls(new_remote_server(folder(agent.state), here.cluster_id, address), agent)

        agent.remote = RemoteDoor(remote, address)
        await agent.remote.open()
        servers.append(agent.remote)
    if here.role == "worker":
        agent.elsewhere = new_elsewhere(here, agent.managers)
        add_node(about, agent.elsewhere)
        await listen(agent.elsewhere, path.with_name("api.sock"), api_group())
        servers.append(agent.elsewhere)
    return servers


def _with_calls(server: grpc.aio.Server, agent: Agent) -> grpc.aio.Server:
    access_pb2_grpc.add_TaskAccessServiceServicer_to_server(TaskCalls(agent), server)
    image_pb2_grpc.add_ImageServiceServicer_to_server(ImageCalls(agent), server)
    build_pb2_grpc.add_BuildServiceServicer_to_server(BuildCalls(agent), server)
    return server
