"""What all calls of TaskAccessService share: finding the container, and reading a stream's first message."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any

import grpc

from pycompose.proto.refusal import BlockedError, InvalidError, NotFoundError
from pycompose.proto.v1 import access_pb2_grpc
from pycompose.worker.agent.runner import Runner

if TYPE_CHECKING:
    from pycompose.worker.agent.agent import Agent

Context = grpc.aio.ServicerContext[Any, Any]


class Calls(access_pb2_grpc.TaskAccessServiceServicer):
    """Serves one node's containers."""

    def __init__(self, agent: Agent) -> None:
        self._agent = agent

    async def _runner(self, task_id: str) -> Runner:
        """Return what owns a task here. Raises NotFoundError."""
        # a node that has just started does not know its containers yet
        await self._agent.recovered.wait()
        runner = self._agent.runners.get(task_id)
        if runner is None:
            name = task_id[:12] or "(no id given)"
            raise NotFoundError("container", name, message=f"no such container here: {name}")
        return runner

    async def _running(self, task_id: str) -> Runner:
        """Return what owns a task whose container runs. Raises NotFoundError, BlockedError."""
        runner = await self._runner(task_id)
        if not runner.running:
            raise BlockedError(f"container {runner.task.name} does not run", "NOT_RUNNING", runner.task.name)
        return runner


async def begin(requests: AsyncIterator[Any]) -> tuple[Any, AsyncIterator[Any]]:
    """Return a stream's start, and the rest of it. Raises InvalidError."""
    stream = aiter(requests)
    first = await anext(stream, None)
    if first is None or first.WhichOneof("message") != "start":
        raise InvalidError([("start", "the first message must be a start")])
    return first.start, stream
