"""How a manager comes and goes: what a new one is given, and what is asked before one is removed."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence
from datetime import datetime
from ipaddress import ip_address
from pathlib import Path
from typing import TYPE_CHECKING

from pycompose.manager.cache import Cache
from pycompose.manager.members.deciding import Voter, why_not
from pycompose.manager.members.fellows import Fellow
from pycompose.manager.members.quorum import Probe
from pycompose.manager.model import NODE, Codec
from pycompose.manager.store import Store, StoreError
from pycompose.manager.store.etcd import wire_pb2 as wire
from pycompose.manager.store.etcd.cluster import Cluster, peer_of
from pycompose.proto import PROTOCOL
from pycompose.proto.peer import Role
from pycompose.proto.refusal import BlockedError, ForbiddenError, InvalidError
from pycompose.proto.v1 import ca_pb2, node_pb2

if TYPE_CHECKING:
    from pycompose.manager.ca.trust import Trust


class Managing:
    """The managers of a cluster whose state is in an etcd of theirs.

    Args:
        folder: this manager's.
        cluster: its member's calls.
        store, cache, codec: where nodes and the members' authority are.
        probe: asks whether a manager's etcd answers.
    """

    def __init__(self, folder: Path, cluster: Cluster, store: Store, cache: Cache, codec: Codec, probe: Probe) -> None:
        self._folder, self._cluster, self._store, self._cache = folder, cluster, store, cache
        self._codec, self._probe = codec, probe
        self._adding = asyncio.Lock()

    async def admit(
        self, node_id: str, request: ca_pb2.BecomeManagerRequest, trust: Trust, now: datetime
    ) -> ca_pb2.BecomeManagerResponse:
        """Add a node's etcd to the members, and return what it needs to run it. Raises BlockedError, ForbiddenError."""
        from pycompose.manager.ca.authority import Subject
        from pycompose.manager.ca.trust import address_name, parse_address
        from pycompose.manager.moving import MEMBER_LIFE, members_authority

        await self._cache.synchronize()
        node = self._cache.get(NODE, node_id)
        if node is None or node.spec.role != node_pb2.NODE_ROLE_MANAGER:
            raise ForbiddenError(
                f"node {node_id} is not to be a manager; on one: pycompose node promote {node_id}", "NOT_PROMOTED"
            )
        if request.protocol != PROTOCOL:
            side = "this machine" if request.protocol < PROTOCOL else "the managers"
            raise BlockedError(
                f"it speaks protocol {request.protocol}, the managers {PROTOCOL}; upgrade {side}", "VERSION"
            )
        host, _ = parse_address(request.etcd_peer)
        subject = Subject(Role.MANAGER, node_id, trust.cluster, [address_name(host)])
        certificate = trust.sign(request.certificate_request, subject, now)
        authority = await members_authority(self._store, self._codec)
        subject = Subject(Role.MANAGER, node_id, trust.cluster, [address_name(host), ip_address("127.0.0.1")])
        try:
            of_member = authority.sign(request.etcd_certificate_request, subject, now, MEMBER_LIFE)
        except ValueError as error:
            raise InvalidError([("etcd_certificate_request", str(error))], str(error)) from None
        async with self._adding:
            members = await self._added(node_id, request.etcd_peer)
        return ca_pb2.BecomeManagerResponse(
            certificate=certificate,
            authorities=trust.believed,
            etcd_certificate=of_member,
            etcd_authorities=authority.pem,
            data_key=self._codec.data_key,
            members=members,
            etcd_token=trust.cluster,
        )

    async def _added(self, node_id: str, peer: str) -> dict[str, str]:
        """Add a learner; one that the node had before is of no use to it any more, for it has nothing of it."""
        members = await self._cluster.members()
        for member in members:
            if member.name == node_id or peer_of(member) == peer:
                await self._cluster.remove(member.id)
            elif member.is_learner:
                raise BlockedError(
                    f"another manager is just being added ({self._label(member)}), and one comes at a time; try again",
                    "LEARNER",
                )
        await self._cluster.add_learner(peer)
        found = {member.name: peer_of(member) for member in await self._cluster.members() if member.name}
        return {**found, node_id: peer}

    def _label(self, member: wire.Member) -> str:
        node = self._cache.get(NODE, member.name)
        return str(node.description.hostname) if node is not None else peer_of(member)

    async def voters(self) -> list[Voter]:
        """Return the members with a vote, each asked whether it answers."""
        members = [each for each in await self._cluster.members() if each.name and not each.is_learner]
        asked = [Fellow(each.name, self._label(each), peer_of(each)) for each in members]
        answers: Sequence[bool] = await asyncio.gather(*(self._probe(each) for each in asked))
        return [Voter(each.name, each.label, there) for each, there in zip(asked, answers, strict=True)]

    async def check_removal(self, node_id: str, force: bool) -> None:
        """Raise BlockedError when a manager cannot go."""
        if reason := why_not(node_id, await self.voters(), force):
            raise BlockedError(reason, "QUORUM", node_id)

    async def remove(self, node_id: str) -> None:
        """Remove a node's etcd from the members; nothing happens when it is none. Raises StoreError."""
        own = (await self._cluster.status()).header.member_id
        members = await self._cluster.members()
        for member in (each for each in members if each.name == node_id):
            if member.id == own:
                await self.hand_over(own)
            await self._cluster.remove(member.id)

    async def hand_over(self, own: int) -> None:
        """Let another member lead before this one goes, or is busy. Raises StoreError."""
        members = await self._cluster.members()
        others = [each.id for each in members if each.id != own and not each.is_learner]
        while others and (await self._cluster.status()).leader == own:
            with contextlib.suppress(StoreError):  # it may just be away
                await self._cluster.move_leader(others.pop())
