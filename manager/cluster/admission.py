"""Who comes into the cluster, and stays in it: the services of `manager.ca` over this manager's store."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import grpc

from pycompose.manager.ca import RequestError
from pycompose.manager.ca.joining import CaCalls, JoinCalls, Roll
from pycompose.manager.ca.trust import Trust
from pycompose.manager.cache import Cache
from pycompose.manager.cluster.identity import trust_of
from pycompose.manager.members.managing import Managing
from pycompose.manager.model import CLUSTER, CLUSTER_ID
from pycompose.proto.refusal import BlockedError
from pycompose.proto.v1 import ca_pb2_grpc


class Admission:
    """Args: cache: has the cluster; roll: its nodes; managers: where managers are, "HOST:PORT" each; managing: lets
    further ones be some, None where there can be one alone.
    """

    def __init__(
        self, cache: Cache, roll: Roll, managers: Callable[[], Sequence[str]], managing: Managing | None = None
    ) -> None:
        self._cache, self._roll, self._managers, self._managing = cache, roll, managers, managing

    def _trust(self) -> Trust:
        cluster = self._cache.get(CLUSTER, CLUSTER_ID)
        if cluster is None:
            raise BlockedError("this manager is of no cluster", "CLUSTER")
        try:
            return trust_of(cluster)
        except RequestError as error:
            raise BlockedError(f"the cluster's authority cannot sign: {error}", "AUTHORITY", cluster.id) from None

    def add_joining(self, server: grpc.aio.Server) -> None:
        """Serve JoinService on `server`."""
        calls = JoinCalls(self._trust, self._roll, self._managers, several=self._managing is not None)
        ca_pb2_grpc.add_JoinServiceServicer_to_server(calls, server)

    def add_renewal(self, server: grpc.aio.Server) -> None:
        """Serve CaService on `server`."""
        ca_pb2_grpc.add_CaServiceServicer_to_server(CaCalls(self._trust, self._roll, managing=self._managing), server)
