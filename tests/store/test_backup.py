"""Backups of a store that is being written, on both backends; restoring puts one back whole, or nothing of it."""

from __future__ import annotations

import asyncio
import random
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from store.conftest import Opener
from store.members import free_address
from store.test_moving import addresses, create, living, renewed, secrets

from pycompose.manager import moving
from pycompose.manager.backend import DATABASE, Backend
from pycompose.manager.backup.restoring import UNFINISHED
from pycompose.manager.backup.snapshot import snapshot
from pycompose.manager.cluster import calls
from pycompose.manager.moving import RESTORED_DATABASE
from pycompose.manager.store import Delete, Put, Store
from pycompose.manager.store.sqlite import SqliteStore
from pycompose.proto.files import replace
from pycompose.proto.tls import Identity
from pycompose.proto.v1 import cluster_pb2, cluster_pb2_grpc, control_pb2, control_pb2_grpc, meta_pb2, secret_pb2

KEY = b"p" * 32
SEALED, PLAIN = b"hidden-in-a-secret", "plain-to-see"
START = cluster_pb2.RestoreStart(key=KEY)


async def content(store: Store) -> dict[str, bytes]:
    """What of a store a backup is to have."""
    items = [*(await store.range("/object/")).items, *(await store.range("/name/")).items]
    return {item.key: item.value for item in items if not item.lease}


async def test_a_snapshot_is_what_was_at_one_revision_while_others_write(open_store: Opener, tmp_path: Path) -> None:
    """Each transaction keeps a sum: a snapshot that mixes moments has another."""
    store = await open_store(tmp_path)
    keys = [f"/object/account/{number:04d}" for number in range(250)]
    for first in range(0, len(keys), 100):
        await store.transact([], [Put(key, b"100") for key in keys[first : first + 100]])
    lease = await store.grant(60)
    await store.transact([], [Put("/leader", b"me", lease), Put("/session/x", b"1"), Put("/object/leased", b"", lease)])
    chance, held = random.Random(7), dict.fromkeys(keys, 100)

    async def write() -> None:
        while True:
            one, two = chance.sample(keys, 2)
            amount = chance.randrange(5)
            held[one], held[two] = held[one] - amount, held[two] + amount
            operations: list[Put | Delete] = [Put(one, b"%d" % held[one]), Put(two, b"%d" % held[two])]
            passing = f"/object/account/{chance.randrange(250):04d}-passing"
            operations.append(chance.choice([Put(passing, b"0"), Delete(passing)]))
            await store.transact([], operations)

    writer = asyncio.create_task(write())
    try:
        for _ in range(2):
            found: dict[str, bytes] = {}
            async for part in snapshot(store):
                for entry in part.entries:
                    if entry.deleted:
                        found.pop(entry.key, None)
                    else:
                        found[entry.key] = entry.value
                await asyncio.sleep(0)
            assert sum(map(int, found.values())) == 25_000
            assert set(found) >= set(keys)
            assert all(key.startswith("/object/account/") for key in found)
    finally:
        writer.cancel()
        await asyncio.gather(writer, return_exceptions=True)
    exact: dict[str, bytes] = {e.key: e.value async for part in snapshot(store) for e in part.entries}
    assert exact == await content(store)
    await store.close()


async def backup(channel: grpc.aio.Channel, key: bytes = KEY) -> bytes:
    stub = cluster_pb2_grpc.ClusterServiceStub(channel)
    return b"".join([answer.data async for answer in stub.Backup(cluster_pb2.BackupRequest(key=key))])


async def restore(
    channel: grpc.aio.Channel, data: bytes, start: cluster_pb2.RestoreStart = START
) -> cluster_pb2.RestoreResponse:
    async def requests() -> AsyncIterator[cluster_pb2.RestoreRequest]:
        yield cluster_pb2.RestoreRequest(start=start)
        for at in range(0, len(data), 10_000):
            yield cluster_pb2.RestoreRequest(data=data[at : at + 10_000])

    stub: Any = cluster_pb2_grpc.ClusterServiceStub(channel)
    answer: cluster_pb2.RestoreResponse = await stub.Restore(requests(), wait_for_ready=True, timeout=60)
    return answer


def as_node(folder: Path, letter: str) -> Path:
    """A folder for a manager whose node's worker has started before."""
    (folder / "state" / "agent").mkdir(parents=True)
    (folder / "state" / "agent" / "node-id").write_text(letter * 25)
    return folder


async def project(control: control_pb2_grpc.ControlServiceStub, name: str) -> None:
    request = control_pb2.CreateProjectRequest()
    request.spec.name = name
    await control.CreateProject(request, wait_for_ready=True, timeout=30)


@pytest.mark.parametrize("on_etcd", [False, True], ids=["sqlite", "etcd"])
async def test_a_backup_comes_back_on_another_machine(tmp_path: Path, on_etcd: bool) -> None:
    first, second = as_node(tmp_path / "a", "a"), as_node(tmp_path / "b", "b")
    async with living(first) as (process, control):
        await project(control, "shop")
        before = await create(control, "word")
        if on_etcd:
            await process.use_etcd("a" * 25, "c" * 25, addresses())
            await renewed(control, before.meta.version.epoch)
        async with grpc.aio.insecure_channel(f"unix:{first}/run/api.sock") as channel:
            data = await backup(channel)
        moved = (await secrets(control))["word"]
    assert b"hidden" not in data
    async with living(second) as (process, control):
        own = await create(control, "gone-afterwards")
        async with grpc.aio.insecure_channel(f"unix:{second}/run/api.sock") as channel:
            answer = await restore(channel, data)
        assert list(answer.projects) == ["shop"]
        await renewed(control, own.meta.version.epoch)
        found = await secrets(control)
        assert set(found) == {"word"}
        assert found["word"].id == moved.id
        assert found["word"].meta.version.epoch not in (moved.meta.version.epoch, own.meta.version.epoch)
        # Its secret lies under this node's key now, and can be read.
        store_bytes = b"".join(path.read_bytes() for path in process.folder.glob("store.db*"))
        assert b"hidden" not in store_bytes
        for version in (moved.meta.version, own.meta.version):
            await refused_by_epoch(control, found["word"].id, version)
    async with living(second) as (process, control):
        assert set(await secrets(control)) == {"word"}


async def refused_by_epoch(
    control: control_pb2_grpc.ControlServiceStub, identity: str, version: meta_pb2.Version
) -> None:
    """A watch and an update from before are refused, whatever their numbers."""
    with pytest.raises(grpc.aio.AioRpcError) as lost:
        async for _ in control.Watch(control_pb2.WatchRequest(after=version), timeout=30):
            pass
    assert lost.value.code() == grpc.StatusCode.OUT_OF_RANGE
    spec = secret_pb2.SecretSpec(name="word", labels={"is": "new"})
    with pytest.raises(grpc.aio.AioRpcError) as late:
        await control.UpdateSecret(control_pb2.UpdateSecretRequest(secret_id=identity, version=version, spec=spec))
    assert late.value.code() == grpc.StatusCode.ABORTED


async def test_restoring_leaves_etcd_for_a_file_of_this_machine(tmp_path: Path) -> None:
    folder = as_node(tmp_path / "a", "a")
    async with living(folder) as (process, control):
        before = await create(control, "word")
        await process.use_etcd("a" * 25, "c" * 25, addresses())
        await renewed(control, before.meta.version.epoch)
        async with grpc.aio.insecure_channel(f"unix:{folder}/run/api.sock") as channel:
            data = await backup(channel)
            present = await create(control, "later")
            await restore(channel, data)
        await renewed(control, present.meta.version.epoch)
        assert set(await secrets(control)) == {"word"}
        assert Backend.load(process.folder).store == "sqlite"
        assert not (process.folder / moving.FILE).exists()


async def test_a_backup_that_is_damaged_or_of_another_key_changes_nothing(tmp_path: Path) -> None:
    folder = as_node(tmp_path / "a", "a")
    async with living(folder) as (process, control):
        word = await create(control, "word")
        async with grpc.aio.insecure_channel(f"unix:{folder}/run/api.sock") as channel:
            data = await backup(channel)
            half = len(data) // 2
            for wrong, reason in (
                (data[:-1], "was cut off"),
                (data[:half], "was cut off"),
                (b"", "was cut off"),
                (data[:half] + bytes([data[half] ^ 16]) + data[half + 1 :], "is damaged"),
                (data + b"\n", "behind its end"),
                (b"#!/bin/sh", "is none"),
            ):
                with pytest.raises(grpc.aio.AioRpcError, match=f"{reason}.*nothing was changed") as error:
                    await restore(channel, wrong)
                assert error.value.code() == grpc.StatusCode.INVALID_ARGUMENT
            with pytest.raises(grpc.aio.AioRpcError, match="cannot be opened with this passphrase"):
                await restore(channel, data, cluster_pb2.RestoreStart(key=b"x" * 32))
            with pytest.raises(grpc.aio.AioRpcError, match="was made with a passphrase"):
                await restore(channel, data, cluster_pb2.RestoreStart())
        assert (await secrets(control))["word"].meta.version == word.meta.version
        assert not list(process.folder.glob(f"{UNFINISHED}*"))
        assert not list(process.folder.glob(f"{RESTORED_DATABASE}*"))


async def test_projects_are_lost_only_by_force(tmp_path: Path) -> None:
    folder = as_node(tmp_path / "a", "a")
    async with living(folder) as (_, control):
        async with grpc.aio.insecure_channel(f"unix:{folder}/run/api.sock") as channel:
            before = await create(control, "word")
            data = await backup(channel)
            await project(control, "shop")
            with pytest.raises(grpc.aio.AioRpcError, match=r"has projects \(shop\).*--force does it"):
                await restore(channel, data)
            await restore(channel, data, cluster_pb2.RestoreStart(key=KEY, force=True))
        await renewed(control, before.meta.version.epoch)
        found = await control.ListProjects(control_pb2.ListProjectsRequest(), wait_for_ready=True, timeout=30)
        assert not found.projects


async def test_without_keys_a_backup_is_this_nodes_alone(tmp_path: Path) -> None:
    first, second = as_node(tmp_path / "a", "a"), as_node(tmp_path / "b", "b")
    none = cluster_pb2.RestoreStart()
    async with living(first) as (process, control):
        before = await create(control, "word")
        async with grpc.aio.insecure_channel(f"unix:{first}/run/api.sock") as channel:
            data = await backup(channel, b"")
            assert (process.folder / "key").read_bytes() not in data
            await create(control, "later")
            await restore(channel, data, none)
        await renewed(control, before.meta.version.epoch)
        assert set(await secrets(control)) == {"word"}
    async with living(second):
        async with grpc.aio.insecure_channel(f"unix:{second}/run/api.sock") as channel:
            with pytest.raises(grpc.aio.AioRpcError, match="by a node with another data key"):
                await restore(channel, data, none)


async def test_a_cluster_comes_back_with_its_authority_and_a_certificate_for_the_new_address(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = as_node(tmp_path / "a", "a"), as_node(tmp_path / "b", "b")
    monkeypatch.setattr(calls, "OWN_SECONDS", 0.1)  # no worker is there to join
    port, join_port, worker_port = (int(free_address().rpartition(":")[2]) for _ in range(3))
    places = {"port": port, "join_port": join_port, "worker_port": worker_port}
    async with living(first) as (process, control):
        await create(control, "word")
        async with grpc.aio.insecure_channel(f"unix:{first}/run/api.sock") as channel:
            stub: Any = cluster_pb2_grpc.ClusterServiceStub(channel)
            request = cluster_pb2.InitClusterRequest(
                advertise_address="127.0.0.1", store=cluster_pb2.CLUSTER_STORE_SQLITE, **places
            )
            request.spec.name = "lab"
            cluster = (await stub.InitCluster(request)).cluster
            authority = (await stub.GetCluster(cluster_pb2.GetClusterRequest())).authorities
            data = await backup(channel)
    async with living(second) as (process, control):
        own = await create(control, "own")
        # What another cluster left here is no reason to show its certificate.
        Identity(b"old", b"old", b"old").store(process.folder / "tls")
        async with grpc.aio.insecure_channel(f"unix:{second}/run/api.sock") as channel:
            with pytest.raises(grpc.aio.AioRpcError, match="is of cluster lab: say with --advertise-addr"):
                await restore(channel, data)
            start = cluster_pb2.RestoreStart(key=KEY, advertise_address="127.0.0.2", **places)
            assert (await restore(channel, data, start)).cluster_name == "lab"
            await renewed(control, own.meta.version.epoch)
            stub = cluster_pb2_grpc.ClusterServiceStub(channel)
            found = await stub.GetCluster(cluster_pb2.GetClusterRequest(), wait_for_ready=True, timeout=30)
        assert (found.cluster.id, found.authorities) == (cluster.id, authority)
        assert found.manager.address == f"127.0.0.2:{port}"
        shown = Identity.load(process.folder / "tls")
        assert shown.authorities == authority


KILLED = """
import asyncio, os, signal, sys
from pathlib import Path
from pycompose.manager import moving
done = 0
def kill(*_):
    os.kill(os.getpid(), signal.SIGKILL)
real = {name: getattr(Path, name) for name in ("rename", "unlink")}
def counted(name):
    def call(self, *words, **more):
        global done
        if done == int(sys.argv[2]):
            kill()
        done += 1
        return real[name](self, *words, **more)
    return call
for name in real:
    setattr(Path, name, counted(name))
moving.adopt(Path(sys.argv[1]))
"""


async def test_a_manager_killed_at_any_step_of_the_exchange_does_it_again(tmp_path: Path) -> None:
    for step in range(10):
        folder = tmp_path / str(step)
        folder.mkdir()
        for name, value in ((DATABASE, b"old"), (RESTORED_DATABASE, b"new")):
            store = await SqliteStore.open(folder / name)
            await store.transact([], [Put("/object/is", value)])
            await store.close()
        replace(folder / f"{DATABASE}-wal", b"of the old one")
        Backend("etcd", ("127.0.0.1:1",), name="a").save(folder)
        words = [sys.executable, "-c", KILLED, str(folder), str(step)]
        ended = await asyncio.to_thread(subprocess.run, words, check=False)
        assert ended.returncode in (0, -signal.SIGKILL)
        moving.adopt(folder)
        assert Backend.load(folder).store == "sqlite"
        store = await SqliteStore.open(folder / DATABASE)
        found = await store.get("/object/is")
        await store.close()
        assert found is not None
        assert found.value == b"new"
        assert not (folder / RESTORED_DATABASE).exists()
    assert ended.returncode == 0, "the last step was not reached: raise the range"
