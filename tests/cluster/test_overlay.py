"""Networks over hosts: names, virtual addresses, published ports, and what strangers send."""

from __future__ import annotations

import functools
import socket
import struct
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address

import pytest
from node.probes import Server, ask, fetch, refused, send, servers, socket_in
from node.whole import IMAGE, until

from cluster.bed import SUBNET, Bed, Host, laid
from cluster.forming import form, give_image

FILE = f"""
name: wide
x-idle: &idle {{image: {IMAGE}, command: sleep 100000, stop_signal: SIGKILL, pull_policy: never}}
services:
  web:
    <<: *idle
    deploy: {{replicas: 2, placement: {{max_replicas_per_node: 1, constraints: ["node.hostname != m1"]}}}}
    ports: ["18080:80", "18080:80/udp"]
    networks: [front]
  hidden:
    <<: *idle
    deploy: {{placement: {{constraints: ["node.hostname == w2"]}}}}
    ports: ["18081:80"]
    x-publish: {{source: masquerade}}
    networks: [front]
  client:
    <<: *idle
    deploy: {{placement: {{constraints: ["node.hostname == m1"]}}}}
    networks: [front]
  loner:
    <<: *idle
    deploy: {{placement: {{constraints: ["node.hostname == m1"]}}}}
    networks: [other]
networks: {{front: {{}}, other: {{}}}}
"""
BEFORE = f"""
name: before
services: {{old: {{image: {IMAGE}, command: sleep 100000, stop_signal: SIGKILL, pull_policy: never}}}}
"""
VXLAN = 4789


@dataclass
class Wide:
    """The hosts, and the project's containers by name: process ids and addresses on the network `front`."""

    bed: Bed
    pids: dict[str, int]
    addresses: dict[str, str]

    @property
    def hosts(self) -> list[Host]:
        """m1, w1, w2."""
        return list(self.bed.hosts.values())

    @functools.cached_property
    def vni(self) -> int:
        """The number of the network `front` in frames."""
        devices = (text for host in self.hosts for text in device(host) if self.addresses["wide-web-1"] in text)
        return int(next(devices).split("vxlan id ")[1].split()[0])


def pids_of(hosts: list[Host]) -> dict[str, int]:
    """First processes of all running containers, by container's name."""
    names = {item["ID"]: name for name, item in hosts[0].containers().items()}
    running = {container_id: pid for host in hosts for container_id, pid in host.pids().items()}
    return {name: pid for short, name in names.items() for full, pid in running.items() if full.startswith(short)}


@pytest.fixture(scope="module")
def wide(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Wide]:
    """Three hosts of a cluster, with the project's services on them."""
    tmp_path = tmp_path_factory.mktemp("wide")
    with laid(tmp_path / "bed", ("m1", "w1", "w2")) as bed:
        hosts = list(bed.hosts.values())
        give_image(hosts, tmp_path)
        hosts[0].write(BEFORE, "before.yaml")
        hosts[0].compose("-f", "before.yaml", "up", "-d")
        form(hosts[0], hosts[1:])
        hosts[0].write(FILE)
        hosts[0].compose("up", "-d")
        pids = pids_of(hosts)
        found = Wide(bed, pids, {name: ask(pids["wide-client-1"], name)[1][0] for name in pids if "loner" not in name})
        assert len(found.addresses) == 4, found
        yield found


def until_answers(work: Callable[[], str], expected: set[str]) -> None:
    """Wait until an answer of each kind came, and no other."""
    found: set[str] = set()

    def once() -> bool:
        found.add(work())
        assert found <= expected, found
        return found == expected

    until(once, 30, what=lambda: found)


def open_connection(wide: Wide, server: Server) -> socket.socket:
    """A connection from the client to a server that goes on."""
    server.keep = True
    link = socket_in(wide.pids["wide-client-1"])
    link.settimeout(20)
    link.connect((wide.addresses[server.name], 80))
    link.recv(100)
    return link


def networks(host: Host) -> list[str]:
    """The namespaces of networks on a host."""
    names = host.run("ls", str(host.folder / "run" / "netns")).stdout.split()
    return sorted(name for name in names if name.startswith("n-"))


def device(host: Host) -> list[str]:
    """The VXLAN devices of a host's networks, and their entries."""
    paths = [host.folder / "run" / "netns" / name for name in networks(host)]
    # what follows "bridge_slave" are timers
    link = "ip -d -o link show vx0 | sed s/bridge_slave.*//"
    show = f"{link}; bridge fdb show dev vx0 | sort; ip neigh show nud permanent | sort; ip rule"
    return [host.inside(path, "sh", "-c", show).stdout for path in paths]


def frame(wide: Wide, text: bytes) -> bytes:
    """A VXLAN packet with a datagram from the client to port 80 of the first web container, made by hand."""
    source, target = (IPv4Address(wide.addresses[name]) for name in ("wide-client-1", "wide-web-1"))
    datagram = struct.pack(">HHHH", 5000, 80, 8 + len(text), 0) + text
    header = struct.pack(">BBHHHBBH", 0x45, 0, 20 + len(datagram), 1, 0, 64, 17, 0) + source.packed + target.packed
    words = struct.unpack(">10H", header)
    checked = header[:10] + struct.pack(">H", ~(sum(words) % 0xFFFF) & 0xFFFF) + header[12:]
    inner = b"\x02\x42" + target.packed + b"\x02\x42" + source.packed + b"\x08\x00" + checked + datagram
    return struct.pack(">II", 0x08000000, wide.vni << 8) + inner


def test_frames_of_strangers_go_nowhere(wide: Wide) -> None:
    _, w1, w2 = wide.hosts
    target = next(host for host in (w1, w2) if wide.pids["wide-web-1"] in host.pids().values())
    other = w2 if target is w1 else w1
    listening = socket_in(wide.pids["wide-web-1"], socket.SOCK_DGRAM)
    listening.bind(("0.0.0.0", 80))
    with listening:

        def strike(pid: int, text: bytes) -> None:
            with socket_in(pid, socket.SOCK_DGRAM) as link:
                for _ in range(3):
                    link.sendto(frame(wide, text), (target.address, VXLAN))

        assert SUBNET not in wide.addresses["wide-client-1"]
        strike(wide.bed.bridge.pid, b"from a machine that is no node")
        strike(wide.pids["wide-client-1"], b"from a container on another node")
        strike(wide.pids["wide-web-1"], b"from a container on the node")
        time.sleep(0.3)
        strike(other.machine.pid, b"from a node")
        assert listening.recv(100) == b"from a node"


def test_a_network_from_before_the_cluster_fits(wide: Wide) -> None:
    m1 = wide.hosts[0]
    (pid,) = set(m1.pids().values()) - set(wide.pids.values())
    shown = m1.run("nsenter", f"--net=/proc/{pid}/ns/net", "ip", "-o", "link", "show", "eth0").stdout
    assert "mtu 1450" in shown
    links = [text for text in device_links(m1) if "mtu 1450" in text]
    assert len(links) == len(networks(m1)) == 3
    m1.compose("-f", "before.yaml", "down")


def device_links(host: Host) -> list[str]:
    """The bridges of a host's networks."""
    return [
        host.inside(host.folder / "run" / "netns" / name, "ip", "-o", "link", "show", "br0").stdout
        for name in networks(host)
    ]


def test_a_network_reaches_over_hosts(wide: Wide) -> None:
    m1, w1, w2 = wide.hosts
    client, loner = wide.pids["wide-client-1"], wide.pids["wide-loner-1"]
    own = wide.addresses["wide-client-1"]
    with servers({name: pid for name, pid in wide.pids.items() if name != "wide-loner-1"}) as serving:
        # names and virtual addresses
        webs = {name for name in wide.pids if "-web-" in name}
        assert ask(client, "tasks.web")[1] == sorted(wide.addresses[name] for name in webs)
        vip = ask(client, "web")[1][0]
        until_answers(lambda: fetch(client, vip, 80), {f"{name} {own}" for name in webs})
        until_answers(lambda: send(client, vip, 80), {f"{name} {own}" for name in webs})
        assert ask(loner, "web")[1] == []
        assert refused(lambda: fetch(loner, wide.addresses["wide-web-1"], 80, timeout=0.5)) != "refused"

        # the longest packets pass, over a network whose frames fit into the underlay's
        assert "mtu 1450" in m1.exec("client", "ip", "link", "show", "eth0")
        m1.exec("client", "ping", "-c", "1", "-W", "5", "-s", "1422", wide.addresses["wide-web-2"])

        # published ports: at every host, with the client's address
        for client_host in (m1, w1):
            for host in wide.hosts:
                machine = client_host.machine.pid
                seen = {f"{name} {client_host.address}" for name in webs}
                if client_host is not host:
                    until_answers(lambda h=host, m=machine: fetch(m, h.address, 18080), seen)  # type: ignore[misc]
                    until_answers(lambda h=host, m=machine: send(m, h.address, 18080), seen)  # type: ignore[misc]
        assert fetch(w2.machine.pid, m1.address, 18081) == f"wide-hidden-1 {m1.address}"
        assert {f"wide-web-{n}" for n in (1, 2)} == {fetch(m1.machine.pid, "127.0.0.1", 18080).split()[0] for _ in "12"}

        # a connection outlives the daemons on both its ends, and what was made stays as it is
        with open_connection(wide, serving["wide-web-1"]) as kept:
            before = [device(host) for host in wide.hosts]
            for host in (m1, w1, w2):
                host.kill("agent")
            for host in wide.hosts:
                until(lambda h=host: h.cli("node", "status").returncode == 0, what=host.log)  # type: ignore[misc]
            until(lambda: m1.cli("node", "ls").stdout.count("Ready") == 3, what=m1.log)
            # (unless the machine is so slow that a node was called down, and its tasks run elsewhere)
            if "is down" not in (m1.folder / "state" / "log" / "node.log").read_text():
                kept.sendall(b"still there")
                assert kept.recv(100) == b"still there"
                assert [device(host) for host in wide.hosts] == before
    m1.compose("down")
    for host in wide.hosts:
        until(lambda h=host: not networks(h), what=lambda h=host: networks(h))  # type: ignore[misc]
