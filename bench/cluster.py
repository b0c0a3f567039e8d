"""Managers as such: writes through the control API, failover, tasks to simulated workers; Swarm's raft beside."""

from __future__ import annotations

import asyncio
import itertools
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import grpc.aio

from bench.daemons import Docker, until
from bench.managers import Manager, Managers
from bench.report import Row
from bench.simulate import Simulation
from pycompose.manager.backend import Backend
from pycompose.manager.member import IDENTITY
from pycompose.manager.store.etcd.client import Client
from pycompose.proto.tls import Identity, channel_credentials
from pycompose.proto.v1 import control_pb2, control_pb2_grpc, secret_pb2

#: Writers at once.
WRITERS, PEER_WRITERS = 32, 8
_numbers = itertools.count()


def _create() -> control_pb2.CreateConfigRequest:
    spec = secret_pb2.ConfigSpec(name=f"c{next(_numbers)}", data=bytes(100))
    return control_pb2.CreateConfigRequest(spec=spec)


async def _write(targets: list[str], seconds: float) -> float:
    """Writes a second of many clients at once, each at one manager."""
    channels = [grpc.aio.insecure_channel(target) for target in targets]
    stubs: list[Any] = [control_pb2_grpc.ControlServiceStub(channel) for channel in channels]
    count, end = 0, time.monotonic() + seconds

    async def client(stub: Any) -> None:
        nonlocal count
        while time.monotonic() < end:
            await stub.CreateConfig(_create())
            count += 1

    begin = time.monotonic()
    await asyncio.gather(*(client(stubs[number % len(stubs)]) for number in range(WRITERS)))
    took = time.monotonic() - begin
    for channel in channels:
        await channel.close()
    return count / took


def _one_by_one(target: str, count: int) -> list[float]:
    """Milliseconds of one write after another."""
    found = []
    with grpc.insecure_channel(target) as channel:
        control = control_pb2_grpc.ControlServiceStub(channel)
        for _ in range(count):
            begin = time.perf_counter()
            control.CreateConfig(_create())
            found.append(1000 * (time.perf_counter() - begin))
    return found


def _peers_rate(docker: Docker, seconds: float) -> float:
    """Swarm's configs a second, of some clients at once."""
    counts, end = [0] * PEER_WRITERS, time.monotonic() + seconds

    def client(number: int) -> None:
        while time.monotonic() < end:
            docker.ask("POST", "/configs/create", {"Name": f"c{next(_numbers)}", "Data": "AAAA" * 33})
            counts[number] += 1

    begin = time.monotonic()
    threads = [threading.Thread(target=client, args=(number,)) for number in range(PEER_WRITERS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sum(counts) / (time.monotonic() - begin)


def _peers_updates(docker: Docker, count: int) -> list[float]:
    """Milliseconds of what `docker service update --label-add` asks the manager for."""
    spec: dict[str, Any] = {
        "Name": "written",
        "TaskTemplate": {"ContainerSpec": {"Image": "bench/busybox"}},
        "Mode": {"Replicated": {"Replicas": 0}},
    }
    service = docker.ask("POST", "/services/create", spec)["ID"]
    found = []
    for number in range(count):
        version = docker.ask("GET", f"/services/{service}")["Version"]["Index"]
        spec["Labels"] = {"number": str(number)}
        begin = time.perf_counter()
        docker.ask("POST", f"/services/{service}/update", spec, version=version)
        found.append(1000 * (time.perf_counter() - begin))
    docker.ask("DELETE", f"/services/{service}")
    return found


def _leads(manager: Manager) -> bool:
    """Whether the manager's etcd member leads."""
    folder = manager.folder / "state" / "manager"
    endpoints = Backend.load(folder).endpoints

    async def ask() -> bool:
        client = Client(endpoints, channel_credentials(Identity.load(folder / IDENTITY)))
        try:
            status = await client.status()
            return bool(status.leader == status.header.member_id)
        finally:
            await client.close()

    return asyncio.run(ask())


async def _accepted(targets: list[str], hurt: Callable[[], None]) -> float:
    """Seconds from `hurt` until a write that began after it is acknowledged; one begins each 50 ms at each manager."""
    channels = [grpc.aio.insecure_channel(target) for target in targets]
    stubs: list[Any] = [control_pb2_grpc.ControlServiceStub(channel) for channel in channels]
    for stub in stubs:
        await stub.CreateConfig(_create())
    hurt()
    begin, done = time.monotonic(), asyncio.Event()
    at = 0.0

    async def write(stub: Any) -> None:
        nonlocal at
        try:
            await stub.CreateConfig(_create(), timeout=10)
        except grpc.aio.AioRpcError:
            return
        at = at or time.monotonic()
        done.set()

    async with asyncio.TaskGroup() as group:
        writes = []
        while not done.is_set():
            writes += [group.create_task(write(stub)) for stub in stubs]
            await asyncio.sleep(0.05)
        for each in writes:
            each.cancel()
    for channel in channels:
        await channel.close()
    return at - begin


def rows(docker: Docker, folder: Path, quick: bool) -> list[Row]:
    """Measure; `folder` for the managers' files."""
    seconds = 2.0 if quick else 10.0
    found = [
        Row("writes a second, 32 clients, one manager on SQLite", "/s", peer="Swarm, 8 clients"),
        Row("the same, one manager on etcd", "/s", peer="Swarm, 8 clients"),
        Row("the same, three managers", "/s"),
        Row("the same, five managers", "/s"),
    ]
    alone = Row("one write, one manager on SQLite", "ms", peer="Swarm, a label of a service")
    three = Row("one write, three managers", "ms", peer="Swarm, a label of a service, one manager")
    failover = Row("leader killed -9, three managers: next write", "s", 2.0)
    rate, updates = _peers_rate(docker, seconds), _peers_updates(docker, 20 if quick else 100)
    found[0].theirs = found[1].theirs = [rate]
    alone.theirs = three.theirs = updates
    for row, members in zip(found, (0, 1, 3, 5), strict=True):
        with Managers(folder / f"managers-{members}", members) as managers:
            targets = [each.target for each in managers.all]
            row.ours = [asyncio.run(_write(targets, seconds))]
            if members in (0, 3):
                (three if members else alone).ours = _one_by_one(targets[0], 20 if quick else 100)
            if members == 3:
                failover.ours = [_killed(managers.all) for _ in range(2 if quick else 10)]
    return [*found, alone, three, failover, *_simulated(folder, quick)]


def _killed(managers: list[Manager]) -> float:
    leader = next(each for each in managers if _leads(each))
    others = [each.target for each in managers if each is not leader]
    took = asyncio.run(_accepted(others, leader.kill))
    leader.start()
    until(leader.answers, 60, 0.1, "a killed manager answers again")
    return took


def _simulated(folder: Path, quick: bool) -> list[Row]:
    workers, tasks = (200, 1000) if quick else (1000, 4000)
    row = Row(f"tasks a second, three managers, {workers} simulated workers", "/s")
    with Simulation(folder / "simulated", workers, tasks) as simulation:
        simulation.join(600)
        row.ours = [tasks / simulation.run(600).seconds]
    return [row]
