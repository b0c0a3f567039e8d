"""ClusterService: the cluster is made of a single node, told about, and lets clients in."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import grpc

from pycompose.manager.backend import Backend
from pycompose.manager.ca import Authority, RequestError, Subject
from pycompose.manager.cluster.autolock import Autolock
from pycompose.manager.cluster.door import JoinDoor, TlsDoor
from pycompose.manager.cluster.etcd import check_etcd
from pycompose.manager.cluster.identity import Keeper, authority_of, issue, life_of, trust_of
from pycompose.manager.cluster.listening import ANY, FILE, Listening, check_ports, wrong
from pycompose.manager.cluster.own import OwnNode
from pycompose.manager.cluster.reached import check_reached
from pycompose.manager.cluster.rotation import Rotation, brought, phase
from pycompose.manager.control.api import Api, ServicerContext
from pycompose.manager.control.validate import shape
from pycompose.manager.ids import object_id
from pycompose.manager.locking import new_unlock_key
from pycompose.manager.member import Addresses
from pycompose.manager.model import CLUSTER, CLUSTER_ID, object_key
from pycompose.manager.store import Compare, Put
from pycompose.proto import ports
from pycompose.proto.files import replace
from pycompose.proto.peer import Role
from pycompose.proto.refusal import BlockedError, InvalidError, NotFoundError
from pycompose.proto.renewal import validity
from pycompose.proto.tokens import Token, digest, new_secret
from pycompose.proto.v1 import cluster_pb2, cluster_pb2_grpc, node_pb2

if TYPE_CHECKING:
    from pycompose.manager.backup.calls import Backups

#: How long the worker of a new cluster's manager may take to be back before the call answers all the same.
OWN_SECONDS = 20.0
#: How long a worker may take that is just starting for the first time.
START_SECONDS = 10.0
Recover = Callable[[cluster_pb2.RecoverRequest], Awaitable[cluster_pb2.RecoverResponse]]
#: Arguments: this manager's name, the cluster's id, where its member listens, what is stored with it.
ToEtcd = Callable[[str, str, Addresses, Sequence[Put]], Awaitable[None]]
_CLIENT = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,62}\Z")


class ClusterCalls(cluster_pb2_grpc.ClusterServiceServicer):
    """Serves one manager's.

    Args:
        api: store and cache.
        folder: the manager's.
        node_id: gives this node's id.
        door, joining: where this manager listens for others, and for machines that join.
        keeper: its certificate.
        own: this machine's worker.
        backups: of its store.
        rotation: changes the authority.
        to_etcd: moves the store to an etcd of this manager's own (`Process.use_etcd`).
        autolock: puts keys behind another.
        recover: gives other managers up (`Process.recover`).
    """

    def __init__(
        self,
        api: Api,
        folder: Path,
        node_id: Callable[[], str],
        door: TlsDoor,
        joining: JoinDoor,
        keeper: Keeper,
        own: OwnNode,
        backups: Backups,
        rotation: Rotation,
        to_etcd: ToEtcd,
        autolock: Autolock,
        recover: Recover,
    ) -> None:
        self._api, self._folder, self._node_id, self._to_etcd = api, folder, node_id, to_etcd
        self._door, self._joining, self._keeper, self._own = door, joining, keeper, own
        self._backups, self._rotation, self._autolock = backups, rotation, autolock
        self._recover = recover

    async def InitCluster(
        self, request: cluster_pb2.InitClusterRequest, context: ServicerContext
    ) -> cluster_pb2.InitClusterResponse:
        """Make the authority, this manager's certificate, and the cluster; open the doors, and let the worker join."""
        await self._own.known(START_SECONDS)
        await self._api.fresh()
        async with self._api.checking:
            present = self._api.cache.get(CLUSTER, CLUSTER_ID)
            if present is not None:
                text = (
                    f"this node is a manager of cluster {present.spec.name} already; look at pycompose cluster status"
                )
                raise BlockedError(text, "CLUSTER", present.id)
            listening = _listening(request)
            if found := [*shape(request.spec, "spec"), *wrong(listening)]:
                raise InvalidError(found)
            check_ports(listening)
            await check_reached(listening)
            moves = request.store != cluster_pb2.CLUSTER_STORE_SQLITE
            if moves:
                await check_etcd(listening)
            cluster = self._made(request.spec)
            identity = await asyncio.to_thread(issue, cluster, self._node_id(), listening, datetime.now(UTC))
            # without the object the files mean nothing, and are written anew
            identity.store(self._keeper.files)
            replace(self._folder / FILE, listening.encoded())
            self._api.stamp(cluster, new=True)
            put = self._api.codec.put(CLUSTER, CLUSTER_ID, cluster)
            if moves:
                # the cluster is there as soon as the store has moved, and no cluster when it has not
                await self._to_etcd(self._node_id(), cluster.id, listening.etcd, [put])
            elif await self._api.commit([Compare(object_key(CLUSTER, CLUSTER_ID), 0)], [put]) is not None:
                raise BlockedError("another call made a cluster of this node in between", "CLUSTER")
            else:
                Backend().save(self._folder)
        self._keeper.forget()
        if not moves:  # else the next life opens the doors, and lets the worker join
            for door in (self._door, self._joining):
                await door.begin()
            await self._own.joined(OWN_SECONDS)
        return cluster_pb2.InitClusterResponse(
            cluster=public(cluster), manager=self._manager(listening), worker_token=str(token_of(cluster, Role.WORKER))
        )

    def _manager(self, made: Listening | None = None) -> cluster_pb2.ManagerAddress:
        """Return what there is to say about this manager; `made`: where it will listen, when it does not yet."""
        problems = (self._door.problem, self._joining.problem, self._own.problem)
        manager = cluster_pb2.ManagerAddress(problem="; ".join(filter(None, problems)))
        here = made or self._door.listening
        if here is not None:
            manager.address, manager.listen, manager.join_address = here.reached, here.bound, here.join_reached
        manager.certificate_ends.FromDatetime(validity(self._keeper.current().certificate)[1])
        return manager

    def _made(self, spec: cluster_pb2.ClusterSpec) -> cluster_pb2.Cluster:
        cluster = cluster_pb2.Cluster(id=object_id(), spec=spec)
        cluster.spec.name = spec.name or "cluster"
        authority = Authority.create(cluster.id, datetime.now(UTC))
        cluster.authority.certificate, cluster.authority.key = authority.pem, authority.key_pem
        cluster.join_secrets.worker, cluster.join_secrets.manager = new_secret(), new_secret()
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
        return cluster_pb2.GetClusterResponse(
            cluster=public(cluster), authorities=trust_of(cluster).believed, manager=self._manager()
        )

    async def GetJoinToken(
        self, request: cluster_pb2.GetJoinTokenRequest, context: ServicerContext
    ) -> cluster_pb2.GetJoinTokenResponse:
        """Return a role's token."""
        await self._api.fresh()
        token = token_of(self._cluster(), _role(request.role))
        return cluster_pb2.GetJoinTokenResponse(token=str(token), address=self._manager().join_address)

    async def RotateJoinToken(
        self, request: cluster_pb2.RotateJoinTokenRequest, context: ServicerContext
    ) -> cluster_pb2.RotateJoinTokenResponse:
        """Make a role's token anew."""
        role = _role(request.role)
        await self._api.fresh()
        async with self._api.checking:
            present = self._cluster()
            cluster = cluster_pb2.Cluster()
            cluster.CopyFrom(present)
            setattr(cluster.join_secrets, str(role), new_secret())
            self._api.stamp(cluster, new=False)
            same = Compare(object_key(CLUSTER, CLUSTER_ID), present.meta.version.number)
            if await self._api.commit([same], [self._api.codec.put(CLUSTER, CLUSTER_ID, cluster)]) is not None:
                raise BlockedError("the cluster changed in between; try again", "CHANGED", present.id)
        address = self._manager().join_address
        return cluster_pb2.RotateJoinTokenResponse(token=str(token_of(cluster, role)), address=address)

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
            authorities=trust_of(cluster).believed,
            cluster_id=cluster.id,
            managers=[self._door.listening.reached] if self._door.listening is not None else [],
        )

    async def GetAuthority(
        self, request: cluster_pb2.GetAuthorityRequest, context: ServicerContext
    ) -> cluster_pb2.GetAuthorityResponse:
        """Return the authority, and how far its change is."""
        await self._api.fresh()
        return self._authority()

    def _authority(self) -> cluster_pb2.GetAuthorityResponse:
        cluster = self._cluster()
        return cluster_pb2.GetAuthorityResponse(
            certificate=cluster.authority.certificate,
            phase=phase(cluster),
            waiting=self._rotation.waiting(),
            other_certificate=cluster.next_authority.certificate or cluster.retired_authority,
        )

    async def RotateAuthority(
        self, request: cluster_pb2.RotateAuthorityRequest, context: ServicerContext
    ) -> cluster_pb2.RotateAuthorityResponse:
        """Begin to change the authority, or take the change on that is under way."""
        await self._api.fresh()
        authority = None
        if request.HasField("external"):
            try:
                authority = brought(request.external.certificate, request.external.key, datetime.now(UTC))
            except RequestError as error:
                raise InvalidError([("external", str(error))], str(error)) from None
        async with self._api.checking:
            cluster = self._cluster()
            if request.finish:
                if not phase(cluster):
                    raise BlockedError("the authority is not being changed", "NO_CHANGE", cluster.id)
                done = await self._rotation.advance(cluster)
            elif phase(cluster):
                raise BlockedError(
                    "the authority is being changed already; pycompose cluster ca shows how far it is",
                    "CHANGE",
                    cluster.id,
                )
            else:
                done = await self._rotation.begin(cluster, authority)
            if not done:
                raise BlockedError("the cluster changed in between; try again", "CHANGED", cluster.id)
        return cluster_pb2.RotateAuthorityResponse(authority=self._authority())

    async def Recover(
        self, request: cluster_pb2.RecoverRequest, context: ServicerContext
    ) -> cluster_pb2.RecoverResponse:
        """Give the other managers up."""
        return await self._recover(request)

    async def SetAutolock(
        self, request: cluster_pb2.SetAutolockRequest, context: ServicerContext
    ) -> cluster_pb2.SetAutolockResponse:
        """Turn autolock on or off."""
        await self._api.fresh()
        async with self._api.checking:
            cluster = self._cluster()
            key = (cluster.unlock_key or new_unlock_key()) if request.enabled else ""
            await self._autolock.change(cluster, key)
        return cluster_pb2.SetAutolockResponse(unlock_key=key)

    async def GetUnlockKey(
        self, request: cluster_pb2.GetUnlockKeyRequest, context: ServicerContext
    ) -> cluster_pb2.GetUnlockKeyResponse:
        """Return the unlock key, made anew if that is asked for."""
        await self._api.fresh()
        async with self._api.checking:
            cluster = self._cluster()
            key = cluster.unlock_key
            if not key:
                raise BlockedError("autolock is off; pycompose cluster autolock on makes a key", "AUTOLOCK", cluster.id)
            if request.rotate:
                key = new_unlock_key()
                await self._autolock.change(cluster, key)
        return cluster_pb2.GetUnlockKeyResponse(unlock_key=key)

    async def Unlock(self, request: cluster_pb2.UnlockRequest, context: ServicerContext) -> cluster_pb2.UnlockResponse:
        """Say that there is nothing to unlock: a locked manager has other ears (`manager.locked`)."""
        raise BlockedError("this manager is not locked", "NOT_LOCKED")

    async def Backup(
        self, request: cluster_pb2.BackupRequest, context: ServicerContext
    ) -> AsyncIterator[cluster_pb2.BackupResponse]:
        """Write what is in the store."""
        async for data in self._backups.make(request):
            yield cluster_pb2.BackupResponse(data=data)

    async def Restore(
        self, requests: AsyncIterator[cluster_pb2.RestoreRequest], context: ServicerContext
    ) -> cluster_pb2.RestoreResponse:
        """Put the content of a backup in the store's place."""
        first = await anext(requests, cluster_pb2.RestoreRequest())
        if first.WhichOneof("content") != "start":
            raise InvalidError([("start", "comes first")])

        async def data() -> AsyncIterator[bytes]:
            async for request in requests:
                yield request.data

        return await self._backups.restore(first.start, data())


def public(cluster: cluster_pb2.Cluster) -> cluster_pb2.Cluster:
    """Return a cluster without its keys."""
    copy = cluster_pb2.Cluster()
    copy.CopyFrom(cluster)
    copy.ClearField("authority")
    copy.ClearField("join_secrets")
    copy.ClearField("next_authority")
    copy.ClearField("retired_authority")
    copy.ClearField("unlock_key")
    return copy


def token_of(cluster: cluster_pb2.Cluster, role: Role) -> Token:
    """Return the token by which machines join as a role."""
    return Token(digest(authority_of(cluster).der), getattr(cluster.join_secrets, str(role)))


def _role(role: node_pb2.NodeRole.ValueType) -> Role:
    return Role.MANAGER if role == node_pb2.NODE_ROLE_MANAGER else Role.WORKER


def _listening(request: cluster_pb2.InitClusterRequest) -> Listening:
    return Listening(
        request.advertise_address,
        request.listen_address or ANY,
        request.port or ports.API,
        request.join_port or ports.JOIN,
        request.worker_port or ports.WORKER,
        request.etcd_peer_port or ports.ETCD_PEER,
        request.etcd_client_port or ports.ETCD_CLIENT,
    )


def add_cluster(server: grpc.aio.Server, calls: ClusterCalls) -> None:
    """Serve ClusterService on `server`."""
    cluster_pb2_grpc.add_ClusterServiceServicer_to_server(calls, server)
