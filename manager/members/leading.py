"""What the leader does for the managers: gives learners their vote, removes who is to be a worker, and writes it down.

A learner is promoted as soon as its copy is complete, which etcd itself judges. What each node is as a manager stands
in its row; whoever is no member any more has nothing there, and only then its worker hears that it is one.
"""

from __future__ import annotations

import asyncio
import logging

from pycompose.manager.cache import Cache
from pycompose.manager.dispatcher.sessions import MANAGERS
from pycompose.manager.leadership import Leadership
from pycompose.manager.members.deciding import Step, step
from pycompose.manager.members.managing import Managing
from pycompose.manager.members.roster import Roster
from pycompose.manager.model import NODE, Codec, object_key
from pycompose.manager.store import Compare, Store, StoreError
from pycompose.manager.store.etcd import wire_pb2 as wire
from pycompose.manager.store.etcd.cluster import Cluster
from pycompose.proto.v1 import node_pb2

log = logging.getLogger(__name__)
LOOK_SECONDS = 0.5
#: A machine that was added and whose etcd never came keeps others from being added.
UNSTARTED_SECONDS = 120.0


class Leading:
    """Args: own: this manager's name; the others as elsewhere. It acts only while this manager leads."""

    def __init__(
        self,
        own: str,
        cluster: Cluster,
        managing: Managing,
        roster: Roster,
        store: Store,
        cache: Cache,
        codec: Codec,
        leadership: Leadership,
    ) -> None:
        self._own, self._cluster, self._managing, self._roster = own, cluster, managing, roster
        self._store, self._cache, self._codec, self._leadership = store, cache, codec, leadership
        self._unstarted: dict[int, float] = {}

    async def run(self) -> None:
        """Look for ever."""
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            if not self._leadership.leads():
                continue
            try:
                await self._look()
            except StoreError as error:
                log.info("the managers cannot be looked after: %s", error)
                await asyncio.sleep(LOOK_SECONDS)

    async def _look(self) -> None:
        members = await self._cluster.members()
        for member in members:
            node = self._cache.get(NODE, member.name) if member.name else None
            if node is not None:
                await self._treat(member, node)
        await self._forget_unstarted(members)
        await self._write_down({each.name: each for each in members if each.name})

    async def _treat(self, member: wire.Member, node: node_pb2.Node) -> None:
        todo = step(node.spec.role, member.is_learner, bool(member.name))
        if todo is Step.PROMOTE:
            try:
                await self._cluster.promote(member.id)
            except StoreError as error:
                log.debug("%s has no vote yet: %s", node.description.hostname, error)
            else:
                log.info("%s has a vote now", node.description.hostname)
        elif todo is Step.REMOVE:
            log.info("%s is a manager no longer", node.description.hostname)
            await self._managing.remove(member.name)
        elif todo is Step.ADOPT:
            copy = _copied(node)
            copy.spec.role = node_pb2.NODE_ROLE_MANAGER
            copy.meta.spec_after = node.meta.version.number
            await self._put(node, copy)

    async def _forget_unstarted(self, members: list[wire.Member]) -> None:
        now = asyncio.get_running_loop().time()
        waiting = {each.id for each in members if not each.name}
        self._unstarted = {each: self._unstarted.get(each, now) for each in waiting}
        for identity, since in self._unstarted.items():
            if now - since > UNSTARTED_SECONDS:
                log.warning("a machine was to be a manager and its etcd never came; it is forgotten")
                await self._cluster.remove(identity)

    async def _write_down(self, members: dict[str, wire.Member]) -> None:
        there = {item.key[len(MANAGERS) :] for item in (await self._store.range(MANAGERS)).items}
        addresses = {each.name: each.address for each in self._roster.fellows()}
        for node in list(self._cache.all(NODE)):
            member = members.get(node.id)
            copy = _copied(node)
            if member is None:
                copy.status.ClearField("manager")
            else:
                copy.status.manager.CopyFrom(self._status(member, node.id in there, addresses.get(node.id, "")))
            if copy != node:
                await self._put(node, copy)

    def _status(self, member: wire.Member, reachable: bool, address: str) -> node_pb2.ManagerStatus:
        leader = member.name == self._own
        return node_pb2.ManagerStatus(
            address=address, leader=leader, reachable=reachable or leader, learner=member.is_learner
        )

    async def _put(self, before: node_pb2.Node, after: node_pb2.Node) -> None:
        compares = [*self._leadership.fence(), Compare(object_key(NODE, before.id), before.meta.version.number)]
        result = await self._store.transact(compares, [self._codec.put(NODE, before.id, after)])
        await self._cache.wait(result.revision.number)


def _copied(node: node_pb2.Node) -> node_pb2.Node:
    copy = node_pb2.Node()
    copy.CopyFrom(node)
    return copy
