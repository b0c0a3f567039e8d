"""This machine's own worker joins the cluster that its manager is of, as any other machine does, by a token.

It is a loop and no part of the call that makes a cluster: whatever is cut short in between is done by the next life.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import grpc

from pycompose.manager.cache import Cache
from pycompose.manager.cluster.listening import Listening
from pycompose.manager.model import CLUSTER, CLUSTER_ID, NODE
from pycompose.proto.refusal import BlockedError
from pycompose.proto.tokens import Token
from pycompose.proto.v1 import cluster_pb2, node_service_pb2, node_service_pb2_grpc

log = logging.getLogger(__name__)
LOOK_SECONDS, AGAIN_SECONDS, JOIN_SECONDS = 1.0, 5.0, 60.0
STEP_SECONDS = 0.05


class OwnNode:
    """The worker of this machine.

    Args:
        worker: gRPC target of its local socket.
        place: what the node is in a cluster (its node.json); {} for a single node.
        folder: the manager's; says where it listens.
        cache: has the cluster and the nodes.
        node_id: gives this node's id.
        token: makes the managers' token of a cluster.
    """

    def __init__(
        self,
        worker: str,
        place: Callable[[], Mapping[str, Any]],
        folder: Path,
        cache: Cache,
        node_id: Callable[[], str],
        token: Callable[[cluster_pb2.Cluster], Token],
    ) -> None:
        self._worker, self._place, self._folder, self._cache = worker, place, folder, cache
        self._node_id, self._token = node_id, token
        self._made = asyncio.Event()
        #: Why the worker is not of the cluster; "" while nothing went wrong.
        self.problem = ""

    def unbound(self) -> str:
        """Return this node's id while its manager is of a cluster and its worker is not yet; else ""."""
        return "" if self._place().get("cluster_id") else self._node_id()

    async def known(self, seconds: float) -> None:
        """Wait until the node has an id: its worker has started once; whoever needs the id hears if it has not."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while not self._has_id():
                    await asyncio.sleep(STEP_SECONDS)

    def _has_id(self) -> bool:
        try:
            return bool(self._node_id())
        except BlockedError:
            return False

    def joins(self) -> None:
        """Begin: the cluster is made."""
        self._made.set()

    async def joined(self, seconds: float) -> str:
        """Wait until the worker is back as one of the cluster; returns why it is not, "" when it is, or may be soon."""
        self.joins()
        try:
            async with asyncio.timeout(seconds):
                while not self._is_back():
                    if self.problem:
                        return self.problem
                    await asyncio.sleep(STEP_SECONDS)
        except TimeoutError:
            return ""
        return ""

    def _is_back(self) -> bool:
        node = self._cache.get(NODE, self._node_id())
        return node is not None and not self.unbound() and not node.description.access_address.startswith("unix:")

    async def run(self) -> None:
        """Let the worker join whenever it has not, for ever."""
        while True:
            cluster, listening = self._cache.get(CLUSTER, CLUSTER_ID), Listening.load(self._folder)
            wait = LOOK_SECONDS
            if cluster is not None and listening is not None and not self._place().get("cluster_id"):
                self.problem = await self._join(cluster, listening)
                if self.problem:
                    log.error("this machine's own worker is not of the cluster yet: %s; trying again", self.problem)
                    wait = AGAIN_SECONDS
            self._made.clear()
            try:
                await asyncio.wait_for(self._made.wait(), wait)
            except TimeoutError:
                continue

    async def _join(self, cluster: cluster_pb2.Cluster, listening: Listening) -> str:
        """Return why the worker cannot join, "" when it has."""
        request = node_service_pb2.JoinClusterRequest(
            invitation=f"{self._token(cluster)}@{listening.join_here}",
            advertise_address=listening.advertise,
            listen_address=listening.address,
            port=listening.worker_port,
        )
        async with grpc.aio.insecure_channel(self._worker) as channel:
            stub = node_service_pb2_grpc.NodeServiceStub(channel)
            try:
                await stub.JoinCluster(request, timeout=JOIN_SECONDS, wait_for_ready=True)
            except grpc.aio.AioRpcError as error:
                return error.details() or error.code().name
        return ""
