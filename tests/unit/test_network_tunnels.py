"""Devices and entries by difference: what is done to a kernel that is a dictionary here."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path
from typing import Any, cast

from pycompose.worker.network import overlay
from pycompose.worker.network.model import Endpoint, NetworkSpec, NetworkView, Peer, Underlay
from pycompose.worker.network.overlay import Entry
from pycompose.worker.network.spanning import Spanning
from pycompose.worker.network.tunnels import Tunnels

NET = NetworkSpec("net", "net", IPv4Network("10.9.0.0/24"), IPv4Address("10.9.0.1"), vni=4096, mtu=1450)
FAR = Endpoint("far", "net", IPv4Address("10.9.0.3"), node_id="n2")
VIEW = NetworkView(
    (NET,),
    (FAR,),
    peers=(Peer("n2", IPv4Address("192.0.2.2"), 4789),),
    underlay=Underlay(IPv4Address("192.0.2.1"), 4789, 1500),
)


class Kernel:
    """Stands for ``Spanning``: one network's namespace."""

    def __init__(self) -> None:
        self.entries: set[Entry] | None = None
        self.done: list[str] = []
        self.bridge = 1450
        self.refuses = False

    def has_device(self, network: Path) -> bool:
        return self.entries is not None

    def make(self, network: Path, spec: NetworkSpec, underlay: Underlay) -> None:
        self.done.append("make")
        self.entries = set()

    def remove(self, network: Path, there: frozenset[Entry]) -> None:
        self.done.append("remove")
        self.entries = None

    def change(self, network: Path, gone: list[Entry], new: list[Entry]) -> None:
        if self.refuses:
            raise OSError("no")
        assert self.entries is not None
        self.done.append(f"-{len(gone)} +{len(new)}")
        self.entries = (self.entries - set(gone)) | set(new)

    def read(self, network: Path) -> frozenset[Entry]:
        return frozenset(self.entries or ())

    def mtu(self, network: Path) -> int:
        return self.bridge

    def fit(self, network: Path, mtu: int, uplink: str, containers: list[tuple[Path, str]]) -> None:
        self.done.append(f"fit {mtu} {uplink}")
        self.bridge = mtu


def tunnels(kernel: Kernel) -> Tunnels:
    async def do(work: Callable[..., Any], *arguments: Any) -> Any:
        return work(*arguments)

    return Tunnels(cast(Spanning, kernel), do, Path, lambda network: f"up-{network}", lambda network: [])


def test_a_life_of_a_network() -> None:
    kernel = Kernel()
    kernel.bridge = 1500

    async def run() -> None:
        mine = tunnels(kernel)
        alone = replace(VIEW, peers=(), endpoints=())
        assert await mine.apply(alone, ["net"]) == {}
        assert kernel.done == ["fit 1450 up-net"], "no device before there is another node"
        await mine.apply(VIEW, ["net"])
        await mine.apply(VIEW, ["net"])
        assert kernel.done[1:] == ["make", "-0 +5"]
        assert kernel.entries == overlay.entries(VIEW)["net"]
        more = replace(VIEW, endpoints=(Endpoint("next", "net", IPv4Address("10.9.0.4"), node_id="n2"),))
        await tunnels(kernel).apply(VIEW, ["net"])
        assert kernel.done[3:] == [], "a new daemon changes nothing"
        await mine.apply(more, ["net"])
        assert kernel.done[3:] == ["-3 +3"]
        await mine.apply(alone, ["net"])
        assert kernel.done[4:] == ["remove"]

    asyncio.run(run())


def test_what_others_change_is_put_right() -> None:
    kernel = Kernel()

    async def run() -> None:
        mine = tunnels(kernel)
        await mine.apply(VIEW, ["net"])
        assert await mine.check() == []
        assert kernel.entries is not None
        kernel.entries.pop()
        assert await mine.check() == ["net"]
        await mine.apply(VIEW, ["net"])
        assert kernel.entries == overlay.entries(VIEW)["net"]
        kernel.entries = None
        assert await mine.check() == ["net"]
        await mine.apply(VIEW, ["net"])
        assert kernel.entries == overlay.entries(VIEW)["net"]

    asyncio.run(run())


def test_what_fails_is_said_and_tried_again() -> None:
    kernel = Kernel()

    async def run() -> None:
        mine = tunnels(kernel)
        kernel.refuses = True
        assert await mine.apply(VIEW, ["net"]) == {"net": "network net cannot reach other nodes: no"}
        kernel.refuses = False
        assert await mine.apply(VIEW, ["net"]) == {}
        assert kernel.entries == overlay.entries(VIEW)["net"]

    asyncio.run(run())
