"""api.sock of a machine without a manager: what its node is, and for every other call, where managers are."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from pycompose.proto.guard import Guard
from pycompose.proto.refusal import BlockedError
from pycompose.proto.serving import new_server
from pycompose.worker.access.refusals import translate
from pycompose.worker.agent.membership import Managers, Membership


def sentence(cluster: str, managers: Sequence[str]) -> str:
    """Return what whoever asks here for a manager hears."""
    hosts = ", ".join(address.rpartition(":")[0] for address in sorted(managers)) or "none is known"
    return f"this node is a worker of cluster {cluster}; use a manager ({hosts}) or a context (pycompose context ls)"


class Elsewhere(grpc.GenericRpcHandler):
    """Answers all calls that no service before it takes."""

    def __init__(self, here: Membership, managers: Managers) -> None:
        self._here, self._managers = here, managers

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> Any:
        """Return what refuses the call, of whatever shape it is."""
        return grpc.stream_stream_rpc_method_handler(self._refuse)

    async def _refuse(self, requests: Any, context: grpc.aio.ServicerContext[Any, Any]) -> None:
        refusal = BlockedError(sentence(self._here.cluster_name, self._managers.addresses()), "WORKER")
        await context.abort(refusal.code, refusal.message, refusal.trailer())


def new_elsewhere(here: Membership, managers: Managers) -> grpc.aio.Server:
    """Return a server that is not started; services that are added to it come before the refusal."""
    server = new_server(Guard("the node's log", translate))
    health_pb2_grpc.add_HealthServicer_to_server(_Serving(), server)
    server.add_generic_rpc_handlers((Elsewhere(here, managers),))
    return server


class _Serving(health_pb2_grpc.HealthServicer):
    """The node is up: what starts it waits for that."""

    async def Check(self, request: health_pb2.HealthCheckRequest, context: Any) -> health_pb2.HealthCheckResponse:
        """Say so."""
        return health_pb2.HealthCheckResponse(status=health_pb2.HealthCheckResponse.SERVING)
