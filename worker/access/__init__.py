"""Hands on tasks and images, served on the worker's socket: logs, exec, attach, signals; list, load, import, remove."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import grpc

from pycompose.proto.guard import Guard
from pycompose.proto.serving import listen, new_server
from pycompose.proto.v1 import access_pb2_grpc, image_pb2_grpc
from pycompose.worker.access.images import ImageCalls
from pycompose.worker.access.tasks import TaskCalls

if TYPE_CHECKING:
    from pycompose.worker.agent.agent import Agent


async def serve(path: Path, agent: Agent) -> grpc.aio.Server:
    """Start serving on the unix socket `path` (root only)."""
    server = new_server(Guard("the node's log"))
    access_pb2_grpc.add_TaskAccessServiceServicer_to_server(TaskCalls(agent), server)
    image_pb2_grpc.add_ImageServiceServicer_to_server(ImageCalls(agent), server)
    await listen(server, path)
    return server
