"""Three members of a real etcd, two of them killed for good: the third manager goes on alone, under another epoch."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import grpc
import pytest
from store.members import RunningMember, free_address
from store.test_moving import CLUSTER, addresses, create, living, old_versions_are_refused, renewed, secrets

from pycompose.manager.backend import Backend
from pycompose.manager.ca import Authority, Subject
from pycompose.manager.member import Settings
from pycompose.manager.members import fellows
from pycompose.manager.model import NODE, object_key
from pycompose.manager.moving import AUTHORITY
from pycompose.manager.process import Process
from pycompose.manager.store import StoreError
from pycompose.manager.store.etcd import EtcdStore
from pycompose.manager.store.etcd.cluster import Cluster
from pycompose.manager.store.etcd.member import Member, Tls
from pycompose.proto.peer import Role
from pycompose.proto.tls import AUTHORITIES, CERTIFICATE, KEY, Identity, new_request
from pycompose.proto.v1 import cluster_pb2, cluster_pb2_grpc, node_pb2

OWN, OTHERS = "a" * 25, ("b" * 25, "c" * 25)


@asynccontextmanager
async def opened(process: Process) -> AsyncIterator[EtcdStore]:
    store = await Backend.load(process.folder).open(process.folder)
    assert isinstance(store, EtcdStore)
    try:
        yield store
    finally:
        await store.close()


async def more_members(process: Process, folder: Path) -> list[RunningMember]:
    """Let two further members into a manager's etcd; their managers' nodes have rows."""
    from ipaddress import ip_address

    own = Settings.load(process.folder)
    peers, running = dict(own.members), []
    async with opened(process) as store:
        found = await store.get(AUTHORITY)
        assert found is not None
        pem = process._codec.opened(found)
        end = pem.index(b"-----BEGIN PRIVATE KEY")
        authority = Authority.load(pem[:end], pem[end:])
        cluster = Cluster(store.client)
        for name in OTHERS:
            key, request = new_request()
            subject = Subject(Role.MANAGER, name, CLUSTER, [ip_address("127.0.0.1")])
            Identity(authority.sign(request, subject, datetime.now(UTC)), key, authority.pem).store(folder / name)
            tls = Tls(*(folder / name / file for file in (AUTHORITIES, CERTIFICATE, KEY)))
            peers[name] = free_address()
            learner = await cluster.add_learner(peers[name])
            data = folder / f"{name}.data"
            places = {"client": free_address(), "peer": peers[name]}
            member = Member(name, data, **places, members=dict(peers), joins=True, token=CLUSTER, tls=tls)
            running.append(await asyncio.to_thread(RunningMember, member))
            for _ in range(600):
                with suppress(StoreError):
                    await cluster.promote(learner.id)
                    break
                await asyncio.sleep(0.1)
            node = node_pb2.Node(id=name)
            node.description.hostname = f"host-{name[0]}"
            await store.transact([], [process._codec.put(NODE, name, node)])
    for _ in range(600):
        if len(fellows.load(process.folder)) == 3:
            return running
        await asyncio.sleep(0.05)
    raise AssertionError("the managers were not written down")


async def served(control: Any) -> Any:
    """The secrets, as soon as the manager has its store."""
    for _ in range(600):
        with suppress(grpc.aio.AioRpcError):
            return await secrets(control)
        await asyncio.sleep(0.1)
    raise AssertionError("the manager does not serve")


async def lost(control: Any) -> str:
    """Wait until calls are refused for want of a majority; returns the sentence."""
    for _ in range(600):
        try:
            await secrets(control)
        except grpc.aio.AioRpcError as error:
            if "has lost its majority" in (error.details() or ""):
                return error.details() or ""
        await asyncio.sleep(0.1)
    raise AssertionError("nobody said that the majority is lost")


@pytest.mark.parametrize("restarts", [False, True], ids=["running", "restarted"])
async def test_two_of_three_are_killed_for_good(tmp_path: Path, restarts: bool) -> None:
    running: list[RunningMember] = []
    try:
        async with living(tmp_path) as (process, control):
            await create(control, "before")
            await process.use_etcd(OWN, CLUSTER, addresses())
            running = await more_members(process, tmp_path)
            before = (await secrets(control))["before"]
            async with grpc.aio.insecure_channel(f"unix:{tmp_path}/run/api.sock") as channel:
                stub: Any = cluster_pb2_grpc.ClusterServiceStub(channel)
                with pytest.raises(grpc.aio.AioRpcError, match="a majority of the managers answers"):
                    await stub.Recover(cluster_pb2.RecoverRequest(check_only=True), wait_for_ready=True, timeout=60)
            for member in running:
                member.kill()
            assert "pycompose cluster recover" in await lost(control)
            if not restarts:
                await recovered(tmp_path, process, control, before)
        if restarts:
            async with living(tmp_path) as (process, control):
                await lost(control)
                await recovered(tmp_path, process, control, before)
        # Its next start is an ordinary one, and has everything.
        async with living(tmp_path) as (process, control):
            assert set(await served(control)) == {"before", "after"}
    finally:
        for member in running:
            member.kill()


async def recovered(folder: Path, process: Process, control: Any, before: Any) -> None:
    async with grpc.aio.insecure_channel(f"unix:{folder}/run/api.sock") as channel:
        stub: Any = cluster_pb2_grpc.ClusterServiceStub(channel)
        asked = await stub.Recover(cluster_pb2.RecoverRequest(check_only=True), wait_for_ready=True, timeout=60)
        assert list(asked.given_up) == ["host-b", "host-c"]
        assert not Settings.load(process.folder).alone
        await stub.Recover(cluster_pb2.RecoverRequest(), wait_for_ready=True, timeout=60)
    await renewed(control, before.meta.version.epoch)
    found = await secrets(control)
    assert set(found) == {"before"}
    await old_versions_are_refused(control, before, found["before"])
    await create(control, "after")
    async with opened(process) as store:
        assert [one.name for one in await Cluster(store.client).members()] == [OWN]
        assert [await store.get(object_key(NODE, name)) for name in OTHERS] == [None, None]
    assert not Settings.load(process.folder).alone
    assert [one.name for one in fellows.load(process.folder)] == [OWN]
