"""Attacks from one container on its neighbours and on the machine, by raw frames (H03, H04), each with its twin.

The attackers have what every container has by default, CAP_NET_RAW: they can build any frame. A forged frame is
followed by an honest one, which the victim must hear: what it has heard before that is all that the attack achieved.
"""

from __future__ import annotations

import asyncio
import ctypes
import json
import os
import socket
import struct
import subprocess
import threading
from collections.abc import Callable, Collection, Coroutine, Iterator
from concurrent.futures import Future
from contextlib import closing, contextmanager
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Interface, IPv4Network, IPv6Address, IPv6Interface, IPv6Network
from pathlib import Path
from typing import Any, TypeVar

import pytest
from node.probes import Server, fetch, refused, send, socket_in

from pycompose.worker.network.manager import NodeNetwork
from pycompose.worker.network.model import Attachment, NetworkSpec, NetworkView
from pycompose.worker.network.names import link_local, mac_of

T = TypeVar("T")
NAMES = ("evil", "victim", "third", "guest")
FLOOD = 100_000 if os.environ.get("PYCOMPOSE_ATTACKS") == "full" else 2_000
MARK = b"the honest frame"
EVERYONE = "ff:ff:ff:ff:ff:ff"
NETWORKS = (
    NetworkSpec("four", "four", IPv4Network("10.9.0.0/24"), IPv4Address("10.9.0.1")),
    NetworkSpec(
        *("both", "both", IPv4Network("10.10.0.0/24"), IPv4Address("10.10.0.1")),
        subnet6=IPv6Network("fd00:9::/64"),
        gateway6=IPv6Address("fd00:9::1"),
    ),
    NetworkSpec("other", "other", IPv4Network("10.11.0.0/24"), IPv4Address("10.11.0.1")),
)


@dataclass(frozen=True)
class Station:
    """A container's end on one network; `pid` keeps its namespace."""

    pid: int
    mac: str
    four: str
    six: str

    def link(self) -> socket.socket:
        """A raw socket on its interface (packet(7))."""
        opened = socket_in(self.pid, socket.SOCK_RAW, socket.AF_PACKET)
        opened.bind(("eth0", 3))
        return opened

    def run(self, *words: str) -> str:
        command = ["nsenter", "-t", str(self.pid), "-n", *words]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout

    def neighbour(self, address: str) -> str:
        """The MAC that the kernel has for an address."""
        found = json.loads(self.run("ip", "-j", "neigh", "show", "to", address) or "[]")
        return str(found[0].get("lladdr", "")) if found else ""


class Lan:
    """Two networks on a machine of the tests' own; `four` has no IPv6."""

    def __init__(self, folder: Path) -> None:
        self.loop = asyncio.new_event_loop()
        self.stations: dict[tuple[str, str], Station] = {}
        self.keepers: list[subprocess.Popen[bytes]] = []
        self._thread = threading.Thread(target=self._live, daemon=True)
        self._thread.start()
        self.machine = self._keep([])  # a process in the machine's namespace
        self.folder = folder
        self.do(self.begin())

    def _live(self) -> None:
        assert ctypes.CDLL(None, use_errno=True).unshare(0x40000000) == 0
        subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
        self.loop.run_forever()

    def do(self, work: Coroutine[Any, Any, T]) -> T:
        """Run something in the node's loop."""
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(60)

    def _keep(self, entering: list[str]) -> int:
        ready: Future[subprocess.Popen[bytes]] = Future()
        command = [*entering, "sleep", "3600"]
        self.loop.call_soon_threadsafe(lambda: ready.set_result(subprocess.Popen(command)))
        keeper = ready.result(60)
        self.keepers.append(keeper)
        while Path(f"/proc/{keeper.pid}/comm").read_text().strip() != "sleep":
            os.sched_yield()
        return keeper.pid

    async def begin(self, known: Collection[str] = ()) -> None:
        """Start a node, in the thread that is in the machine's namespace."""
        self.network = NodeNetwork(self.folder, f"a{os.getpid() % 90 + 10}")
        await self.network.start(known)
        await self.network.apply(NetworkView(networks=NETWORKS))

    def plug(self, name: str, spec: NetworkSpec, number: int) -> Station:
        """Attach a container."""
        four = IPv4Interface(f"{spec.subnet[number]}/24")
        six = IPv6Interface(f"{spec.subnet6[number]}/64") if spec.subnet6 else None
        attachment = Attachment(spec.id, four, address6=six)
        identity = f"{spec.id}-{name}".ljust(64, "0")
        path = self.do(self.network.attach(identity, [attachment], guest=name == "guest"))
        pid = self._keep(["nsenter", f"--net={path}", "--"])
        mac = mac_of(four.ip)
        return Station(pid, mac, str(four.ip), str(six.ip if six else link_local(mac)))

    def close(self) -> None:
        for keeper in self.keepers:
            keeper.kill()
            keeper.wait()
        self.do(self.network.close(remove_all=True))
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join()


@pytest.fixture(scope="module")
def lan(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lan]:
    with closing(Lan(tmp_path_factory.mktemp("bridge"))) as made:
        for spec in NETWORKS:
            for number, name in enumerate(NAMES, start=2):
                made.stations[spec.id, name] = made.plug(name, spec, number)
        yield made


@contextmanager
def serving(name: str, pid: int, port: int, address: str = "0.0.0.0") -> Iterator[None]:
    """A server in a namespace."""
    server = Server(name)
    try:
        server.listen(pid, port, address)
        yield
    finally:
        server.close()


# Frames.


def raw(mac: str) -> bytes:
    return bytes.fromhex(mac.replace(":", ""))


def frame(target: str, source: str, kind: int, body: bytes) -> bytes:
    return raw(target) + raw(source) + struct.pack(">H", kind) + body


def total(data: bytes) -> int:
    """The Internet checksum (RFC 1071)."""
    data += b"\0" * (len(data) % 2)
    number = sum(struct.unpack(f">{len(data) // 2}H", data))
    number = (number >> 16) + (number & 0xFFFF)
    return ~(number + (number >> 16)) & 0xFFFF


def arp(operation: int, mac: str, address: str, target: str, target_mac: str = "00:00:00:00:00:00") -> bytes:
    head = struct.pack(">HHBBH", 1, 0x0800, 6, 4, operation)
    return head + raw(mac) + socket.inet_aton(address) + raw(target_mac) + socket.inet_aton(target)


def udp4(source: str, target: str, data: bytes, ports: tuple[int, int] = (4000, 4001)) -> bytes:
    datagram = struct.pack(">HHHH", *ports, 8 + len(data), 0) + data
    head = struct.pack(">BBHHHBBH", 0x45, 0, 20 + len(datagram), 1, 0, 64, 17, 0)
    addresses = socket.inet_aton(source) + socket.inet_aton(target)
    return head[:10] + struct.pack(">H", total(head + addresses)) + addresses + datagram


def version6(source: str, target: str, following: int, body: bytes) -> bytes:
    addresses = socket.inet_pton(socket.AF_INET6, source) + socket.inet_pton(socket.AF_INET6, target)
    place = 6 if following == 17 else 2
    pseudo = addresses + struct.pack(">II", len(body), following)
    body = body[:place] + struct.pack(">H", total(pseudo + body)) + body[place + 2 :]
    return struct.pack(">IHBB", 6 << 28, len(body), following, 255) + addresses + body


def udp6(source: str, target: str, data: bytes, ports: tuple[int, int] = (4000, 4001)) -> bytes:
    return version6(source, target, 17, struct.pack(">HHHH", *ports, 8 + len(data), 0) + data)


def advertisement(source: str, target: str, about: str, mac: str) -> bytes:
    """A neighbour advertisement that overrides (RFC 4861, 4.4)."""
    body = struct.pack(">BBHI", 136, 0, 0, 0x20000000) + socket.inet_pton(socket.AF_INET6, about)
    return version6(source, target, 58, body + b"\2\1" + raw(mac))


def router(source: str) -> bytes:
    """A router advertisement with a prefix (RFC 4861, 4.2)."""
    prefix = struct.pack(">BBBBIII", 3, 4, 64, 0xC0, 3600, 3600, 0) + socket.inet_pton(socket.AF_INET6, "2001:db8::")
    return version6(source, "ff02::1", 58, struct.pack(">BBHBBHII", 134, 0, 0, 64, 0, 1800, 0, 0) + prefix)


def redirect(source: str, target: str, about: str) -> bytes:
    places = socket.inet_pton(socket.AF_INET6, source) + socket.inet_pton(socket.AF_INET6, about)
    return version6(source, target, 58, struct.pack(">BBHI", 137, 0, 0, 0) + places)


# Each attack: its name, the network, and the frame from (attacker, victim, third).

Forge = Callable[[Station, Station, Station], bytes]
GATEWAY, GATEWAY6, GATEWAY_MAC = "10.9.0.1", "fd00:9::1", mac_of(IPv4Address("10.10.0.1"))
FORGED: dict[str, tuple[str, Forge]] = {
    "foreign MAC": ("four", lambda e, v, t: frame(v.mac, t.mac, 0x0800, udp4(e.four, v.four, b"x"))),
    "foreign address": ("four", lambda e, v, t: frame(v.mac, e.mac, 0x0800, udp4(t.four, v.four, b"x"))),
    "gateway's address": ("four", lambda e, v, t: frame(v.mac, e.mac, 0x0800, udp4(GATEWAY, v.four, b"x"))),
    "foreign MAC and address": ("four", lambda e, v, t: frame(v.mac, t.mac, 0x0800, udp4(t.four, v.four, b"x"))),
    "ARP answer for the gateway": (
        "four",
        lambda e, v, t: frame(v.mac, e.mac, 0x0806, arp(2, e.mac, GATEWAY, v.four, v.mac)),
    ),
    "gratuitous ARP for the gateway": (
        "four",
        lambda e, v, t: frame(EVERYONE, e.mac, 0x0806, arp(1, e.mac, GATEWAY, GATEWAY)),
    ),
    "ARP answer for a sibling": (
        "four",
        lambda e, v, t: frame(v.mac, e.mac, 0x0806, arp(2, e.mac, t.four, v.four, v.mac)),
    ),
    "own address at a sibling's MAC": (
        "four",
        lambda e, v, t: frame(v.mac, e.mac, 0x0806, arp(2, t.mac, e.four, v.four, v.mac)),
    ),
    "DHCP offer": (
        "four",
        lambda e, v, t: frame(EVERYONE, e.mac, 0x0800, udp4(e.four, "255.255.255.255", b"\2", (67, 68))),
    ),
    "VLAN tag": (
        "four",
        lambda e, v, t: frame(v.mac, e.mac, 0x8100, b"\0\5\x08\0" + udp4(e.four, v.four, b"x")),
    ),
    "IPv6 where there is none": (
        "four",
        lambda e, v, t: frame("33:33:00:00:00:01", e.mac, 0x86DD, udp6(e.six, "ff02::1", b"x")),
    ),
    "router advertisement where there is no IPv6": (
        "four",
        lambda e, v, t: frame("33:33:00:00:00:01", e.mac, 0x86DD, router(e.six)),
    ),
    "foreign IPv6 address": ("both", lambda e, v, t: frame(v.mac, e.mac, 0x86DD, udp6(t.six, v.six, b"x"))),
    "foreign link-local address": (
        "both",
        lambda e, v, t: frame(v.mac, e.mac, 0x86DD, udp6(str(link_local(t.mac)), v.six, b"x")),
    ),
    "router advertisement": (
        "both",
        lambda e, v, t: frame("33:33:00:00:00:01", e.mac, 0x86DD, router(str(link_local(e.mac)))),
    ),
    "redirect": ("both", lambda e, v, t: frame(v.mac, e.mac, 0x86DD, redirect(e.six, v.six, "2001:db8::1"))),
    "neighbour advertisement for a sibling": (
        "both",
        lambda e, v, t: frame(v.mac, e.mac, 0x86DD, advertisement(e.six, v.six, t.six, e.mac)),
    ),
    "neighbour advertisement for the gateway": (
        "both",
        lambda e, v, t: frame(v.mac, e.mac, 0x86DD, advertisement(e.six, v.six, GATEWAY6, e.mac)),
    ),
    "DHCPv6 answer": ("both", lambda e, v, t: frame(v.mac, e.mac, 0x86DD, udp6(e.six, v.six, b"\7", (547, 546)))),
}
HONEST: dict[str, tuple[str, Forge]] = {
    "datagram": ("four", lambda e, v, t: frame(v.mac, e.mac, 0x0800, udp4(e.four, v.four, b"x"))),
    "broadcast": ("four", lambda e, v, t: frame(EVERYONE, e.mac, 0x0800, udp4(e.four, "10.9.0.255", b"x"))),
    "ARP answer": ("four", lambda e, v, t: frame(v.mac, e.mac, 0x0806, arp(2, e.mac, e.four, v.four, v.mac))),
    "ARP probe": ("four", lambda e, v, t: frame(EVERYONE, e.mac, 0x0806, arp(1, e.mac, "0.0.0.0", e.four))),
    "IPv6 datagram": ("both", lambda e, v, t: frame(v.mac, e.mac, 0x86DD, udp6(e.six, v.six, b"x"))),
    "IPv6 datagram from its link-local address": (
        "both",
        lambda e, v, t: frame(v.mac, e.mac, 0x86DD, udp6(str(link_local(e.mac)), v.six, b"x")),
    ),
    "neighbour advertisement": (
        "both",
        lambda e, v, t: frame(v.mac, e.mac, 0x86DD, advertisement(e.six, v.six, e.six, e.mac)),
    ),
}


def three(lan: Lan, network: str) -> tuple[Station, Station, Station]:
    evil, victim, third = (lan.stations[network, name] for name in NAMES[:3])
    return evil, victim, third


def heard(lan: Lan, network: str, forge: Forge) -> bool:
    """Whether the victim hears the frame, which is followed by an honest one that it hears for sure."""
    evil, victim, third = three(lan, network)
    forged = forge(evil, victim, third)
    with victim.link() as listener, evil.link() as sender:
        sender.send(forged)
        sender.send(frame(EVERYONE, evil.mac, 0x0800, udp4(evil.four, "255.255.255.255", MARK)))
        body = forged[14:] if forged[12:14] != b"\x81\0" else forged[18:]
        found = False
        while MARK not in (got := listener.recv(2000)):
            found = found or body in got
        return found


@pytest.mark.parametrize("name", FORGED)
@pytest.mark.attack("H04")
def test_forged_frames_do_not_arrive(lan: Lan, name: str) -> None:
    """ARP, foreign MACs and addresses, DHCP, router advertisements, redirects, VLAN tags."""
    network, forge = FORGED[name]
    _, victim, third = three(lan, network)
    before = [victim.neighbour(address) for address in (GATEWAY, GATEWAY6, third.four, third.six)]
    assert not heard(lan, network, forge)
    assert [victim.neighbour(address) for address in (GATEWAY, GATEWAY6, third.four, third.six)] == before
    assert "2001:db8" not in victim.run("ip", "-6", "route")


@pytest.mark.parametrize("name", HONEST)
@pytest.mark.twin("H04")
def test_honest_frames_arrive(lan: Lan, name: str) -> None:
    """Frames from its own address."""
    network, forge = HONEST[name]
    assert heard(lan, network, forge)


@pytest.mark.twin("H04")
def test_neighbours_find_one_another(lan: Lan) -> None:
    """By the kernel's own ARP and neighbour discovery."""
    evil, victim, third = three(lan, "both")
    for station in (victim, third):
        for address in (evil.four, evil.six):
            with serving("evil", evil.pid, 7001, address):
                assert fetch(station.pid, address, 7001).startswith("evil")
                assert send(station.pid, address, 7001).startswith("evil")
            assert station.neighbour(address) == evil.mac


@pytest.mark.attack("H04")
def test_a_flood_of_macs_makes_no_hub_of_the_bridge(lan: Lan) -> None:
    """The bridge learns nothing, and nobody hears what others tell one another."""
    evil, victim, third = three(lan, "four")
    bridge = ["nsenter", f"--net={lan.network._links.path('n-four')}", "bridge", "-j", "fdb", "show", "br", "br0"]
    known = json.loads(subprocess.run(bridge, capture_output=True, text=True, check=True).stdout)
    with evil.link() as sender:
        for number in range(FLOOD):
            source = ":".join(f"{byte:02x}" for byte in b"\x02\x99" + number.to_bytes(4, "big"))
            sender.send(frame(EVERYONE, source, 0x0800, udp4(evil.four, "10.9.0.255", b"x")))
    assert json.loads(subprocess.run(bridge, capture_output=True, text=True, check=True).stdout) == known
    with evil.link() as listener, third.link() as control, victim.link() as sender:
        evil.run("ip", "link", "set", "eth0", "promisc", "on")
        sender.send(frame(third.mac, victim.mac, 0x0800, udp4(victim.four, third.four, b"a secret")))
        sender.send(frame("02:99:99:99:99:99", victim.mac, 0x0800, udp4(victim.four, third.four, b"a secret")))
        sender.send(frame(EVERYONE, victim.mac, 0x0800, udp4(victim.four, "255.255.255.255", MARK)))
        evil.run("ip", "link", "set", "eth0", "promisc", "off")
        for link, expected in ((listener, 0), (control, 1)):
            secrets = 0
            while MARK not in (got := link.recv(2000)):
                secrets += b"a secret" in got and got.startswith((raw(third.mac), b"\x02\x99"))
            assert secrets == expected


@pytest.mark.attack("H03")
def test_the_machines_services_are_for_those_that_were_declared(lan: Lan) -> None:
    """By the transfer address and by any other of the machine's; extra_hosts: host-gateway may."""
    evil, guest = lan.stations["four", "evil"], lan.stations["four", "guest"]
    subprocess.run(
        ["nsenter", "-t", str(lan.machine), "-n", "ip", "address", "add", "10.250.0.1/32", "dev", "lo"], check=True
    )
    gateway = lan.network.machine_address(["four"])
    with serving("machine", lan.machine, 7002):
        for ask, address in ((fetch, gateway), (send, gateway), (fetch, "10.250.0.1")):
            assert ask(guest.pid, address, 7002).startswith("machine")
            assert refused(lambda ask=ask, address=address: ask(evil.pid, address, 7002)) == "refused"
    with serving("neighbour", guest.pid, 7003):
        other = lan.stations["other", "evil"]
        for address in (guest.four, gateway.rpartition(".")[0] + ".2"):
            assert refused(lambda address=address: fetch(other.pid, address, 7003, timeout=1)) != ""
        assert fetch(evil.pid, guest.four, 7003).startswith("neighbour")


@pytest.mark.attack("H04")
def test_filters_come_back_with_the_node(tmp_path: Path) -> None:
    """A node that starts again finds its containers' ports; one that left meanwhile speaks no more."""
    with closing(Lan(tmp_path)) as made:
        spec = NETWORKS[0]
        for number, name in enumerate(NAMES[:3], start=2):
            made.stations["four", name] = made.plug(name, spec, number)
        made.do(made.network.close())
        made.do(made.begin([f"four-{name}".ljust(64, "0") for name in NAMES[:3]]))
        assert heard(made, "four", HONEST["datagram"][1])
        assert not heard(made, "four", FORGED["foreign address"][1])
