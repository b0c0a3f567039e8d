"""JoinService and CaService of a manager."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from pycompose.manager.ca.authority import Subject
from pycompose.manager.ca.reaching import dial_back
from pycompose.manager.ca.trust import Trust, address_name, address_of, check_machine, renewed, role_of_token
from pycompose.manager.cache import Cache
from pycompose.manager.model import NODE, Codec, object_key
from pycompose.manager.store import Compare, Store
from pycompose.proto.peer import Role, peer_of
from pycompose.proto.refusal import BlockedError, InvalidError, removed
from pycompose.proto.v1 import ca_pb2, ca_pb2_grpc, node_pb2

if TYPE_CHECKING:
    from pycompose.manager.members.managing import Managing

Now = Callable[[], datetime]
#: Machines whose addresses are tried at once: what has no token never comes so far.
AT_ONCE = 16


def utc_now() -> datetime:
    """Return the time."""
    return datetime.now(UTC)


class Roll:
    """The cluster's nodes: a machine is written down when it joins; a node that left or was removed is none any more.

    Args:
        store, cache, codec: where nodes' rows are.
        unbound: the id of a node that has a row and no certificate yet: this manager's own, while a cluster is made
            of a single node; "" when there is none.
    """

    def __init__(self, store: Store, cache: Cache, codec: Codec, unbound: Callable[[], str] = lambda: "") -> None:
        self._store, self._cache, self._codec, self._unbound = store, cache, codec, unbound

    async def others(self) -> list[node_pb2.Node]:
        """Return the nodes whose ids and names are taken."""
        await self._cache.synchronize()
        unbound = self._unbound()
        return [node for node in self._cache.all(NODE) if node.id != unbound and not node.status.left]

    async def has(self, node_id: str) -> bool:
        """Whether a node is of the cluster."""
        await self._cache.synchronize()
        node = self._cache.get(NODE, node_id)
        return node is not None and not node.status.left

    def is_own(self, node_id: str) -> bool:
        """Whether it is the machine of which the cluster is being made."""
        return node_id == self._unbound()

    async def enter(self, request: ca_pb2.JoinRequest, role: Role, now: datetime) -> None:
        """Write a machine down as a node. Raises BlockedError: another with this id came first."""
        current = self._cache.get(NODE, request.node_id)
        if current is not None and not current.status.left:
            return
        node = node_pb2.Node(id=request.node_id, description=request.description)
        for time in (node.meta.created_at, node.meta.updated_at, node.status.since):
            time.FromDatetime(now)
        node.spec.role = node_pb2.NODE_ROLE_MANAGER if role is Role.MANAGER else node_pb2.NODE_ROLE_WORKER
        node.status.message = "has joined, and has not connected yet"
        absent = Compare(object_key(NODE, node.id), 0 if current is None else current.meta.version.number)
        result = await self._store.transact([absent], [self._codec.put(NODE, node.id, node)])
        await self._cache.wait(result.revision.number)
        if not result.succeeded:
            raise BlockedError(f"another machine joined with this one's id ({node.id}); join again", "IN_USE", node.id)


class JoinCalls(ca_pb2_grpc.JoinServiceServicer):
    """Lets machines in.

    Args:
        trust: the cluster's authority now.
        roll: its nodes.
        managers: where managers are, "HOST:PORT" each.
        now: the time, UTC.
        several: there can be further managers.
    """

    def __init__(
        self,
        trust: Callable[[], Trust],
        roll: Roll,
        managers: Callable[[], Sequence[str]],
        now: Now = utc_now,
        several: bool = False,
    ):
        self._several = several
        self._trust, self._roll, self._managers, self._now = trust, roll, managers, now
        self._dialling = asyncio.Semaphore(AT_ONCE)
        self._entering = asyncio.Lock()

    async def Join(self, request: ca_pb2.JoinRequest, context: Any) -> ca_pb2.JoinResponse:
        """Check token, machine and address, in this order; then sign, and only then write the node down."""
        trust = self._trust()
        role = role_of_token(trust, request.token)
        check_machine(request, await self._roll.others(), self._now())
        if role is Role.MANAGER and not self._several and not self._roll.is_own(request.node_id):
            raise BlockedError(
                "this cluster's state is in a file of its only manager, and it takes no further one; join as a worker, "
                "by the token that pycompose cluster token worker prints on a manager",
                "MANAGER",
                request.node_id,
            )
        host, port = address_of(request)
        subject = Subject(Role.WORKER, request.node_id, trust.cluster, [address_name(host)])
        certificate = trust.sign(request.certificate_request, subject, self._now())
        async with self._dialling:
            await dial_back(host, port, request.certificate_request)
        async with self._entering:
            check_machine(request, await self._roll.others(), self._now())
            await self._roll.enter(request, role, self._now())
        return ca_pb2.JoinResponse(
            certificate=certificate,
            authorities=trust.believed,
            cluster_id=trust.cluster,
            cluster_name=trust.name,
            role=str(role),
            managers=sorted(self._managers()),
        )


class CaCalls(ca_pb2_grpc.CaServiceServicer):
    """Renews certificates, and lets nodes be managers. Args as of `JoinCalls`; managing: None: there can be one."""

    def __init__(
        self, trust: Callable[[], Trust], roll: Roll, now: Now = utc_now, managing: Managing | None = None
    ) -> None:
        self._trust, self._roll, self._now, self._managing = trust, roll, now, managing

    async def BecomeManager(self, request: ca_pb2.BecomeManagerRequest, context: Any) -> ca_pb2.BecomeManagerResponse:
        """Give the caller's node what a manager needs, when it is to be one."""
        peer = peer_of(context)
        if peer.role is not Role.WORKER:
            raise InvalidError([("certificate_request", "only a node's worker can ask for it")])
        if self._managing is None:
            raise BlockedError("this cluster's state is in a file of its only manager", "STORE")
        return await self._managing.admit(peer.name, request, self._trust(), self._now())

    async def Renew(self, request: ca_pb2.RenewRequest, context: Any) -> ca_pb2.RenewResponse:
        """Give the caller a certificate with what its present one says, and the new key."""
        peer = peer_of(context)
        if peer.role not in (Role.MANAGER, Role.WORKER):
            raise InvalidError([("certificate_request", "only the holder of a node's certificate can renew it")])
        if not await self._roll.has(peer.name):
            raise removed(peer.name)
        shown = bytes(context.auth_context()["x509_pem_cert"][0])
        trust = self._trust()
        certificate = trust.sign(request.certificate_request, renewed(peer, shown), self._now())
        return ca_pb2.RenewResponse(certificate=certificate, authorities=trust.believed)
