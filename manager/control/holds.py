"""The HoldProject call."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import aclosing

from pycompose.manager.control.api import Api, ServicerContext
from pycompose.manager.control.validate import name
from pycompose.proto.refusal import InvalidError
from pycompose.proto.v1 import control_pb2


class HoldCalls:
    """HoldProject."""

    api: Api

    async def HoldProject(
        self, request: control_pb2.HoldProjectRequest, context: ServicerContext
    ) -> AsyncIterator[control_pb2.HoldProjectResponse]:
        """Hold a project until the client leaves, and say who is waited for."""
        if wrong := name(request.project, "project"):
            raise InvalidError(wrong)
        holder = control_pb2.ProjectHolder()
        holder.CopyFrom(request.holder)
        holder.ClearField("since")
        async with aclosing(self.api.holds.take(request.project, holder)) as answers:
            async for other in answers:
                yield control_pb2.HoldProjectResponse(held=other is None, holder=other)
