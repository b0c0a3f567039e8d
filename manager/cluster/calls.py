"""ClusterService: the cluster is made of a single node, told about, and lets clients in."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import grpc

from pycompose.manager.ca import Authority, RequestError, Subject
from pycompose.manager.cluster.door import TlsDoor
from pycompose.manager.cluster.identity import Keeper, authority_of, issue, life_of, validity
from pycompose.manager.cluster.listening import ANY, FILE, Listening, why_not, wrong
from pycompose.manager.control.api import Api, ServicerContext
from pycompose.manager.control.validate import shape
from pycompose.manager.ids import object_id
from pycompose.manager.model import CLUSTER, CLUSTER_ID, object_key
from pycompose.manager.store import Compare
from pycompose.proto import ports
from pycompose.proto.files import replace
from pycompose.proto.peer import Role
from pycompose.proto.refusal import BlockedError, InvalidError, NotFoundError
from pycompose.proto.v1 import cluster_pb2, cluster_pb2_grpc

_CLIENT = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,62}\Z")


class ClusterCalls(cluster_pb2_grpc.ClusterServiceServicer):
    """Serves one manager's.

    Args:
        api: store and cache.
        folder: the manager's.
        node_id: gives this node's id.
        door: where this manager listens for others.
        keeper: its certificate.
    """

    def __init__(
        self,
        api: Api,
        folder: Path,
        node_id: Callable[[], str],
        door: TlsDoor,
        keeper: Keeper,
    ) -> None:
        self._api, self._folder, self._node_id = api, folder, node_id
        self._door, self._keeper = door, keeper

    async def InitCluster(
        self, request: cluster_pb2.InitClusterRequest, context: ServicerContext
    ) -> cluster_pb2.InitClusterResponse:
        """Make the authority, this manager's certificate, and the cluster; then open the door."""
        await self._api.fresh()
        async with self._api.checking:
            present = self._api.cache.get(CLUSTER, CLUSTER_ID)
            if present is not None:
                text = (
                    f"this node is a manager of cluster {present.spec.name} already; look at pycompose cluster status"
                )
                raise BlockedError(text, "CLUSTER", present.id)
            listening = Listening(request.advertise_address, request.listen_address or ANY, request.port or ports.API)
            if found := [*shape(request.spec, "spec"), *wrong(listening)]:
                raise InvalidError(found)
            if reason := why_not(listening):
                raise BlockedError(f"{reason}; choose another with --port, or stop what listens there", "PORT_TAKEN")
            cluster = self._made(request.spec)
            identity = await asyncio.to_thread(issue, cluster, self._node_id(), listening, datetime.now(UTC))
            # without the object the files mean nothing, and are written anew
            identity.store(self._keeper.files)
            self._keeper.forget()
            replace(self._folder / FILE, listening.encoded())
            self._api.stamp(cluster, new=True)
            put = self._api.codec.put(CLUSTER, CLUSTER_ID, cluster)
            if await self._api.commit([Compare(object_key(CLUSTER, CLUSTER_ID), 0)], [put]) is not None:
                raise BlockedError("another call made a cluster of this node in between", "CLUSTER")
        await self._door.begin()
        manager = cluster_pb2.ManagerAddress(address=listening.reached, listen=listening.bound)
        manager.problem = self._door.problem
        manager.certificate_ends.FromDatetime(validity(identity)[1])
        return cluster_pb2.InitClusterResponse(cluster=public(cluster), manager=manager)

    def _made(self, spec: cluster_pb2.ClusterSpec) -> cluster_pb2.Cluster:
        cluster = cluster_pb2.Cluster(id=object_id(), spec=spec)
        cluster.spec.name = spec.name or "cluster"
        authority = Authority.create(cluster.id, datetime.now(UTC))
        cluster.authority.certificate, cluster.authority.key = authority.pem, authority.key_pem
        return cluster

    def _cluster(self) -> cluster_pb2.Cluster:
        found: cluster_pb2.Cluster | None = self._api.cache.get(CLUSTER, CLUSTER_ID)
        if found is None:
            raise NotFoundError(
                "cluster", "this", message="this node is of no cluster; pycompose cluster init makes one of it"
            )
        return found

    async def GetCluster(
        self, request: cluster_pb2.GetClusterRequest, context: ServicerContext
    ) -> cluster_pb2.GetClusterResponse:
        """Return the cluster, and this manager."""
        await self._api.fresh()
        cluster = self._cluster()
        manager = cluster_pb2.ManagerAddress(problem=self._door.problem)
        if self._door.listening is not None:
            manager.address, manager.listen = self._door.listening.reached, self._door.listening.bound
        manager.certificate_ends.FromDatetime(validity(self._keeper.current())[1])
        return cluster_pb2.GetClusterResponse(
            cluster=public(cluster), authorities=cluster.authority.certificate, manager=manager
        )

    async def IssueClientCertificate(
        self, request: cluster_pb2.IssueClientCertificateRequest, context: ServicerContext
    ) -> cluster_pb2.IssueClientCertificateResponse:
        """Sign a client's certificate."""
        await self._api.fresh()
        cluster = self._cluster()
        if not _CLIENT.match(request.name):
            raise InvalidError([("name", f"{request.name!r}: use letters, digits and _.-, 63 at most")])
        subject = Subject(Role.CLIENT, request.name, cluster.id)
        try:
            certificate = authority_of(cluster).sign(request.request, subject, datetime.now(UTC), life_of(cluster))
        except RequestError as error:
            raise InvalidError([("request", str(error))]) from None
        return cluster_pb2.IssueClientCertificateResponse(
            certificate=certificate,
            authorities=cluster.authority.certificate,
            cluster_id=cluster.id,
            managers=[self._door.listening.reached] if self._door.listening is not None else [],
        )


def public(cluster: cluster_pb2.Cluster) -> cluster_pb2.Cluster:
    """Return a cluster without its keys."""
    copy = cluster_pb2.Cluster()
    copy.CopyFrom(cluster)
    copy.ClearField("authority")
    return copy


def add_cluster(server: grpc.aio.Server, calls: ClusterCalls) -> None:
    """Serve ClusterService on `server`."""
    cluster_pb2_grpc.add_ClusterServiceServicer_to_server(calls, server)
