"""A manager's content moves from SQLite to an etcd of its own and back: nothing is lost, whatever interrupts it."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import grpc
import pytest
from store.members import TIED, free_address

from pycompose.manager import moving
from pycompose.manager.backend import DATABASE, Backend
from pycompose.manager.member import DATA, FILE
from pycompose.manager.moving import Addresses
from pycompose.manager.process import Process
from pycompose.manager.store import StoreError
from pycompose.proto.v1 import control_pb2, control_pb2_grpc, meta_pb2, secret_pb2

CLUSTER = "c" * 25


async def supervise(state: Path) -> None:
    """Do with the member what the node's supervisor does: run it while its file is there."""
    process: asyncio.subprocess.Process | None = None
    try:
        while True:
            there = (state / "manager" / FILE).exists()
            if there and process is None:
                words = [*TIED, sys.executable, "-m", "pycompose.manager.member"]
                with (state / "etcd.log").open("ab") as log:
                    environment = os.environ | {"PYCOMPOSE_STATE_DIR": str(state)}
                    process = await asyncio.create_subprocess_exec(*words, stderr=log, stdout=log, env=environment)
            elif process is not None and (not there or process.returncode is not None):
                with suppress(ProcessLookupError):
                    process.terminate()
                await process.wait()
                process = None
            await asyncio.sleep(0.05)
    finally:
        if process is not None:
            with suppress(ProcessLookupError):
                process.kill()
            await process.wait()


@asynccontextmanager
async def living(folder: Path) -> AsyncIterator[tuple[Process, control_pb2_grpc.ControlServiceStub]]:
    """A manager in this process, and what calls it."""
    process = Process(folder / "state", folder / "run")
    (folder / "state").mkdir(exist_ok=True)
    life = asyncio.create_task(process.run())
    supervisor = asyncio.create_task(supervise(folder / "state"))
    channel = grpc.aio.insecure_channel(f"unix:{folder}/run/api.sock")
    try:
        yield process, control_pb2_grpc.ControlServiceStub(channel)
    finally:
        await channel.close()
        process.stop()
        await asyncio.wait([life], timeout=30)
        supervisor.cancel()
        await asyncio.gather(supervisor, life, return_exceptions=True)


def addresses() -> Addresses:
    return Addresses(free_address(), free_address())


async def create(control: control_pb2_grpc.ControlServiceStub, name: str) -> secret_pb2.Secret:
    request = control_pb2.CreateSecretRequest(spec=secret_pb2.SecretSpec(name=name, data=b"hidden"))
    made: secret_pb2.Secret = (await control.CreateSecret(request, wait_for_ready=True, timeout=30)).secret
    return made


async def secrets(control: control_pb2_grpc.ControlServiceStub) -> dict[str, secret_pb2.Secret]:
    found = await control.ListSecrets(control_pb2.ListSecretsRequest(page_size=1000), wait_for_ready=True, timeout=30)
    return {one.spec.name: one for one in found.secrets}


async def renewed(control: control_pb2_grpc.ControlServiceStub, epoch: str) -> None:
    """Wait until the manager serves another epoch."""
    for _ in range(600):
        with suppress(grpc.aio.AioRpcError):
            request = control_pb2.ListSecretsRequest(page_size=1000)
            found = await control.ListSecrets(request, wait_for_ready=True, timeout=30)
            if all(one.meta.version.epoch != epoch for one in found.secrets):
                return
        await asyncio.sleep(0.05)
    raise AssertionError("the manager still has the old store")


async def test_everything_moves_to_etcd_and_back_while_clients_write(tmp_path: Path) -> None:
    async with living(tmp_path) as (process, control):
        before = await create(control, "before")
        made: list[str] = []
        stop = asyncio.Event()

        async def write() -> None:
            number = 0
            while not stop.is_set():
                number += 1
                await asyncio.sleep(0.02)  # all of them fit into one page of a list
                with suppress(grpc.aio.AioRpcError):  # refused while it moves: not acknowledged
                    made.append((await create(control, f"s{number}")).spec.name)

        writer = asyncio.create_task(write())
        await process.use_etcd("one", CLUSTER, addresses())
        await renewed(control, before.meta.version.epoch)
        assert Backend.load(process.folder).store == "etcd"
        assert not (process.folder / DATABASE).exists()
        while len(made) < 20:
            await asyncio.sleep(0.05)
        stop.set()
        await writer
        found = await secrets(control)
        assert set(found) >= {"before", *made}
        moved = found["before"]
        assert moved.id == before.id
        await old_versions_are_refused(control, before, moved)
        await process.use_sqlite()
        await renewed(control, moved.meta.version.epoch)
        assert set(await secrets(control)) == set(found)
        assert not (process.folder / FILE).exists()
        assert not (process.folder / DATA).exists()


async def old_versions_are_refused(
    control: control_pb2_grpc.ControlServiceStub, before: secret_pb2.Secret, moved: secret_pb2.Secret
) -> None:
    """A watch and an update from before the move are refused by epoch; those from after it are served."""
    with pytest.raises(grpc.aio.AioRpcError) as lost:
        async for _ in control.Watch(control_pb2.WatchRequest(after=before.meta.version), timeout=30):
            pass
    assert lost.value.code() == grpc.StatusCode.OUT_OF_RANGE

    def update(version: meta_pb2.Version) -> control_pb2.UpdateSecretRequest:
        spec = secret_pb2.SecretSpec(name="before", labels={"is": "new"})
        return control_pb2.UpdateSecretRequest(secret_id=moved.id, version=version, spec=spec)

    with pytest.raises(grpc.aio.AioRpcError) as late:
        await control.UpdateSecret(update(before.meta.version))
    assert late.value.code() == grpc.StatusCode.ABORTED
    await control.UpdateSecret(update(moved.meta.version))


async def test_a_move_that_fails_before_its_commit_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with living(tmp_path) as (process, control):
        before = await create(control, "before")
        with monkeypatch.context() as patch:

            def full(*_: object) -> None:
                raise OSError("no space left")

            patch.setattr(Backend, "save", full)
            with pytest.raises(OSError, match="no space left"):
                await process.use_etcd("one", CLUSTER, addresses())
        assert not (process.folder / FILE).exists()
        assert (await create(control, "after")).meta.version.epoch == before.meta.version.epoch
        await process.use_etcd("one", CLUSTER, addresses())
        await renewed(control, before.meta.version.epoch)
        assert set(await secrets(control)) == {"before", "after"}


async def test_what_a_killed_move_left_is_cleared_by_the_next_manager(tmp_path: Path) -> None:
    place = addresses()
    async with living(tmp_path) as (process, control):
        await create(control, "before")
    # Killed before the commit: identity, member and half a copy are there.
    moving.new_identity(process.folder, "one", CLUSTER, place)
    moving.Settings("one", place.client, place.peer, token=CLUSTER).save(process.folder)
    (process.folder / DATA).mkdir(parents=True)
    async with living(tmp_path) as (process, control):
        found = await secrets(control)
        assert set(found) == {"before"}
        assert not (process.folder / FILE).exists()
        # The member may just have been starting, and have left data again: the next try is not harmed by any.
        await process.use_etcd("one", CLUSTER, place)
        await renewed(control, found["before"].meta.version.epoch)
        assert set(await secrets(control)) == {"before"}


async def test_without_etcd_the_move_is_refused_with_the_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with living(tmp_path) as (process, control):
        await create(control, "before")
        monkeypatch.setenv("PATH", str(tmp_path))
        with pytest.raises(StoreError, match="apt-get install etcd-server"):
            await process.use_etcd("one", CLUSTER, addresses())
        assert set(await secrets(control)) == {"before"}
