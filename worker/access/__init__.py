"""Hands on tasks and images, served on the worker's socket.

============  ======================================================================
``base``      what the calls of TaskAccessService share
``streams``   exec and attach: streams both ways, with flow control
``reading``   logs and events
``files``     copy, stat, export, changes, commit
``tasks``     signals, pause, processes, usage, ports, volumes; all of the above
``images``    ImageService
``pipes``     bytes of a call to a thread that reads a file, and back
``refusals``  how clients hear of the worker's own errors
============  ======================================================================
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import grpc

from pycompose.proto.guard import Guard
from pycompose.proto.serving import listen, new_server
from pycompose.proto.v1 import access_pb2_grpc, image_pb2_grpc
from pycompose.worker.access.images import ImageCalls
from pycompose.worker.access.refusals import translate
from pycompose.worker.access.tasks import TaskCalls

if TYPE_CHECKING:
    from pycompose.worker.agent.agent import Agent


async def serve(path: Path, agent: Agent) -> grpc.aio.Server:
    """Start serving on the unix socket `path` (root only)."""
    server = new_server(Guard("the node's log", translate))
    access_pb2_grpc.add_TaskAccessServiceServicer_to_server(TaskCalls(agent), server)
    image_pb2_grpc.add_ImageServiceServicer_to_server(ImageCalls(agent), server)
    await listen(server, path)
    return server
