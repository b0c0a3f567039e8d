"""Hands on tasks and images, served on the worker's socket: logs, exec, attach, signals; list, load, import, remove."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import grpc

from pycompose.proto.v1 import access_pb2_grpc, image_pb2_grpc
from pycompose.worker.access.images import ImageCalls
from pycompose.worker.access.tasks import TaskCalls

if TYPE_CHECKING:
    from pycompose.worker.agent.agent import Agent


async def serve(path: Path, agent: Agent) -> grpc.aio.Server:
    """Start serving on the unix socket `path` (root only)."""
    unlimited = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
    server = grpc.aio.server(options=[*unlimited, ("grpc.so_reuseport", 0)])
    access_pb2_grpc.add_TaskAccessServiceServicer_to_server(TaskCalls(agent), server)
    image_pb2_grpc.add_ImageServiceServicer_to_server(ImageCalls(agent), server)
    path.unlink(missing_ok=True)
    before = os.umask(0o177)
    try:
        server.add_insecure_port(f"unix:{path}")
        await server.start()
    finally:
        os.umask(before)
    return server
