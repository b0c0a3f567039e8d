"""Networks of a whole node: names, virtual addresses, published ports, isolation. One project, many questions."""

from __future__ import annotations

import contextlib
import json
import socket
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from node import probes
from node.probes import ask, fetch, refused, send, servers
from node.whole import IMAGE, Node, busybox, machine, until

FILE = """
name: net
x-idle: &idle {image: test/busybox, command: sleep 100000, stop_signal: SIGKILL}
services:
  web:
    <<: *idle
    deploy: {replicas: 3}
    networks: {front: {aliases: [www]}, back: {aliases: [inner]}}
  rr:
    <<: *idle
    deploy: {replicas: 2, endpoint_mode: dnsrr}
    networks: [front]
  solo:
    <<: *idle
    container_name: the-solo
    extra_hosts: ["machine:host-gateway"]
    networks: {front: {aliases: [seen-in-front]}, back: {aliases: [seen-in-back]}}
  hidden: {<<: *idle, networks: [back]}
  loner: {<<: *idle, networks: [other]}
  hosty: {<<: *idle, network_mode: host}
  nothing: {<<: *idle, network_mode: none}
  sharer: {<<: *idle, network_mode: "service:solo"}
  own-dns: {<<: *idle, networks: [front], dns: [10.77.0.1], dns_search: [example.test], dns_opt: ["timeout:3"]}
  open:
    <<: *idle
    networks: [front]
    ports: ["18101:80", "18102:80/udp", "127.0.0.1:18103:80", "10.77.0.1:18104:80", "[::1]:18105:80",
      "127.0.0.1:18106:80/udp", "10.77.0.1:18107:80", "10.77.0.2:18107:81"]
  ranged:
    <<: *idle
    deploy: {replicas: 2}
    networks: [front]
    ports: ["18110-18111:80"]
networks:
  front: {ipam: {config: [{subnet: 10.91.0.0/24}]}}
  back: {internal: true}
  other: {}
"""


@dataclass
class Lan:
    """The node's machine, another host on its network, and a name server of the machine."""

    node: Node
    host: subprocess.Popen[bytes]
    upstream: probes.Upstream

    @property
    def machine(self) -> int:
        return self.node.machine.pid

    def pid(self, container: str) -> int:
        """First process of a container, by its name."""
        identity = self.node.containers()[container]["ID"]
        return next(pid for each, pid in self.node.pids().items() if each.startswith(identity))

    def pids(self, *containers: str) -> dict[str, int]:
        """The same of several."""
        ids, running = self.node.containers(), self.node.pids()
        return {
            name: next(pid for each, pid in running.items() if each.startswith(ids[name]["ID"])) for name in containers
        }


FRONT = "10.91.0."


def front(pid: int) -> str:
    """A container's address on the network `front`."""
    return next(address for address in addresses(pid) if address.startswith(FRONT))


def addresses(pid: int) -> list[str]:
    text = subprocess.run(["nsenter", "-t", str(pid), "-n", "ip", "-j", "addr"], capture_output=True, text=True).stdout
    return [
        address["local"]
        for link in json.loads(text)
        for address in link["addr_info"]
        if address["family"] == "inet" and link["ifname"] != "lo"
    ]


@contextlib.contextmanager
def another_host(node: Node) -> Iterator[subprocess.Popen[bytes]]:
    """A host 10.77.0.9 beside the machine, which is 10.77.0.1 and 10.77.0.2 there."""
    host = subprocess.Popen(["unshare", "--net", "sh", "-c", "ip link set lo up; exec sleep 3600"])
    try:
        until(lambda: Path(f"/proc/{host.pid}/comm").read_text().strip() == "sleep")
        script = f"""
            ip link add lan0 type veth peer name lan0 netns {host.pid} && ip link set lan0 up &&
            ip address add 10.77.0.1/24 dev lan0 && ip address add 10.77.0.2/24 dev lan0 &&
            nsenter -t {host.pid} -n ip link set lan0 up &&
            nsenter -t {host.pid} -n ip address add 10.77.0.9/24 dev lan0 &&
            nsenter -t {host.pid} -n ip route add default via 10.77.0.1"""
        done = node.run("sh", "-c", script)
        assert done.returncode == 0, done.stderr
        yield host
    finally:
        host.kill()
        host.wait()


@pytest.fixture(scope="module")
def lan(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lan]:
    folder = tmp_path_factory.mktemp("net") / "node"
    with machine(folder) as node, another_host(node) as host:
        (folder / "resolv.conf").write_text("nameserver 10.77.0.1\nsearch lan.test\n")
        node.run("mount", "--bind", str(folder / "resolv.conf"), "/etc/resolv.conf")
        long = [f"192.0.2.{number}" for number in range(1, 80)]
        upstream = probes.Upstream(node.machine.pid, "10.77.0.1", {"out.test": ["192.0.2.7"], "long.test": long})
        try:
            node.compose("node", "start")
            node.compose("image", "import", str(busybox(folder)), IMAGE)
            node.write(FILE)
            node.compose("up", "-d", "--wait")
            yield Lan(node, host, upstream)
        finally:
            upstream.close()


# Names.


def test_services_containers_and_aliases_have_names(lan: Lan) -> None:
    pid = lan.pid("net-own-dns-1")
    (code, (vip,)) = ask(pid, "web")
    assert code == "NOERROR"
    assert ask(pid, "WEB.") == ("NOERROR", [vip])
    assert ask(pid, "www") == ("NOERROR", [vip])
    assert ask(pid, "web.net_front") == ("NOERROR", [vip])
    replicas = sorted(front(each) for each in lan.pids("net-web-1", "net-web-2", "net-web-3").values())
    assert ask(pid, "tasks.web") == ("NOERROR", replicas)
    assert vip not in replicas
    for name, each in lan.pids("net-web-1", "net-web-2").items():
        assert ask(pid, name)[1] == [front(each)]
    solo = front(lan.pid("the-solo"))
    assert ask(pid, "the-solo")[1] == [solo]
    assert ask(pid, lan.node.containers()["the-solo"]["ID"][:12])[1] == [solo]
    # who is on both networks hears of one of them, always the same
    assert len(ask(lan.pid("net-web-1"), "web")[1]) == 1


def test_names_are_known_on_their_network_alone(lan: Lan) -> None:
    ahead, back, other = lan.pid("net-own-dns-1"), lan.pid("net-hidden-1"), lan.pid("net-loner-1")
    assert ask(back, "inner")[0] == "NOERROR"
    assert ask(back, "seen-in-back")[0] == "NOERROR"
    for pid, name in (
        (ahead, "inner"),
        (ahead, "hidden"),
        (back, "www"),
        (back, "rr"),
        (other, "web"),
        (back, "loner"),
    ):
        assert ask(pid, name) == ("NXDOMAIN", []), name


def test_reverse_names(lan: Lan) -> None:
    pid = lan.pid("net-own-dns-1")
    solo = front(lan.pid("the-solo"))
    backwards = ".".join(reversed(solo.split("."))) + ".in-addr.arpa"
    assert ask(pid, backwards, "PTR") == ("NOERROR", ["the-solo.net_front."])
    vip = ask(pid, "web")[1][0]
    assert ask(pid, ".".join(reversed(vip.split("."))) + ".in-addr.arpa", "PTR")[1] == ["web.net_front."]


def test_questions_that_have_no_answer_do_not_deny_the_name(lan: Lan) -> None:
    """musl takes NXDOMAIN for AAAA as the name's absence; both libraries take an empty NOERROR as "no such record"."""
    pid = lan.pid("net-web-1")
    for kind in ("AAAA", "MX", "TXT", "HTTPS"):
        assert ask(pid, "web", kind) == ("NOERROR", []), kind
    assert "web" in lan.node.exec("solo", "getent", "ahosts", "web")
    assert lan.node.cli("exec", "-T", "solo", "getent", "hosts", "nowhere.invalid").returncode == 2


def test_other_names_are_asked_of_the_machines_servers(lan: Lan) -> None:
    pid = lan.pid("net-web-1")
    assert ask(pid, "out.test") == ("NOERROR", ["192.0.2.7"])
    assert ask(pid, "nowhere.test") == ("NXDOMAIN", [])
    assert len(ask(pid, "long.test", tcp=True)[1]) == 79
    assert ("long.test", "tcp") in lan.upstream.asked
    assert "192.0.2.79" in lan.node.exec("web", "getent", "ahostsv4", "long.test")  # truncated, then by TCP
    assert ask(pid, "web", tcp=True) == ask(pid, "web")


def test_a_changed_resolv_conf_is_heeded(lan: Lan) -> None:
    pid = lan.pid("net-web-1")
    second = probes.Upstream(lan.machine, "10.77.0.2", {"moved.test": ["192.0.2.99"]})
    path = lan.node.folder / "resolv.conf"
    try:
        before = path.read_text()
        path.write_text("nameserver 10.77.0.2\n")
        assert ask(pid, "moved.test") == ("NOERROR", ["192.0.2.99"])
        path.write_text(before)
        assert ask(pid, "moved.test")[0] == "NXDOMAIN"
    finally:
        second.close()


def test_dns_settings_of_a_service(lan: Lan) -> None:
    text = lan.node.exec("own-dns", "cat", "/etc/resolv.conf")
    assert "nameserver 127.0.0.11" in text
    assert "search example.test" in text
    assert "timeout:3" in text
    assert ask(lan.pid("net-own-dns-1"), "out.test")[1] == ["192.0.2.7"]
    assert "search lan.test" in lan.node.exec("web", "cat", "/etc/resolv.conf")


def test_malformed_questions_are_answered_and_harm_nobody(lan: Lan) -> None:
    pid = lan.pid("net-web-1")
    with probes.socket_in(pid, socket.SOCK_DGRAM) as link:
        link.connect((probes.DNS, 53))
        link.send(b"\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x05ab")
        answer = link.recv(100)
        assert answer[:2] == b"\x12\x34"
        assert answer[3] & 0x0F == 1  # FORMERR
        for junk in (b"", b"\0", bytes(11), bytes(range(200)), b"\xff" * 500):
            link.send(junk)
    assert ask(pid, "web")[0] == "NOERROR"


def test_port_53_is_the_applications_own(lan: Lan) -> None:
    pid = lan.pid("net-own-dns-1")
    with servers({"mine": pid}, 53):
        assert send(pid, "127.0.0.1", 53).startswith("mine")
        assert ask(pid, "web")[0] == "NOERROR"
        assert send(lan.pid("net-web-1"), front(pid), 53).startswith("mine")


# Virtual addresses.


def test_a_vip_leads_to_the_replicas_in_turn(lan: Lan) -> None:
    pids = lan.pids("net-web-1", "net-web-2", "net-web-3")
    client = lan.pid("net-own-dns-1")
    vip = ask(client, "web")[1][0]
    with servers(pids) as replicas:
        answers = [fetch(client, vip, 80).split()[0] for _ in range(12)]
        assert {name: answers.count(name) for name in pids} == dict.fromkeys(pids, 4)
        assert {send(client, vip, 80).split()[0] for _ in range(6)} == set(pids)
        assert set(replicas["net-web-1"].peers) == {front(client)}  # the client's own address
        inner = ask(lan.pid("net-hidden-1"), "inner")[1][0]
        assert fetch(lan.pid("net-hidden-1"), inner, 80).split()[0] in pids
        own = pids["net-web-1"]  # a replica reaches its own service, itself included
        assert {fetch(own, ask(own, "web")[1][0], 80).split()[0] for _ in range(6)} == set(pids)


def test_dnsrr_has_no_vip(lan: Lan) -> None:
    pids = lan.pids("net-rr-1", "net-rr-2")
    assert ask(lan.pid("net-own-dns-1"), "rr")[1] == sorted(front(each) for each in pids.values())


def test_a_service_without_tasks_refuses_at_once(lan: Lan) -> None:
    client = lan.pid("net-own-dns-1")
    vip = ask(client, "ranged")[1][0]
    with servers(lan.pids("net-ranged-1", "net-ranged-2")):
        assert fetch(client, vip, 80)
    lan.node.compose("stop", "ranged")
    until(lambda: refused(lambda: fetch(client, vip, 80)) == "refused")
    assert refused(lambda: fetch(lan.host.pid, "10.77.0.1", 18110)) == "refused"
    lan.node.compose("start", "ranged")


# Other modes.


def test_modes_without_a_network_of_their_own(lan: Lan) -> None:
    assert addresses(lan.pid("net-nothing-1")) == []
    assert refused(lambda: fetch(lan.pid("net-nothing-1"), "10.77.0.1", 80)) == "unreachable"
    assert "10.77.0.1" in addresses(lan.pid("net-hosty-1"))
    assert addresses(lan.pid("net-sharer-1")) == addresses(lan.pid("the-solo"))
    assert ask(lan.pid("net-sharer-1"), "web")[0] == "NOERROR"
    hosts = lan.node.exec("solo", "cat", "/etc/hosts")
    assert lan.node.exec("sharer", "cat", "/etc/hosts") == hosts


# Published ports.


def test_published_on_all_addresses(lan: Lan) -> None:
    with servers(lan.pids("net-open-1")) as found:
        assert fetch(lan.host.pid, "10.77.0.1", 18101) == "net-open-1 10.77.0.9"  # the client's address is kept
        assert fetch(lan.host.pid, "10.77.0.2", 18101) == "net-open-1 10.77.0.9"
        assert send(lan.host.pid, "10.77.0.1", 18102) == "net-open-1 10.77.0.9"
        for address in ("127.0.0.1", "::1", "10.77.0.1", "127.3.2.1"):
            assert fetch(lan.machine, address, 18101).startswith("net-open-1"), address
        for address in ("127.0.0.1", "::1", "10.77.0.1"):
            assert send(lan.machine, address, 18102).startswith("net-open-1"), address
        inside = lan.pid("net-loner-1")  # from a container of another network, by the machine's address
        assert fetch(inside, "10.77.0.1", 18101).startswith("net-open-1")
        assert found["net-open-1"].peers


def test_published_on_one_address(lan: Lan) -> None:
    with servers(lan.pids("net-open-1")):
        assert fetch(lan.machine, "127.0.0.1", 18103).startswith("net-open-1")
        assert send(lan.machine, "127.0.0.1", 18106).startswith("net-open-1")
        assert fetch(lan.machine, "::1", 18105).startswith("net-open-1")
        assert fetch(lan.host.pid, "10.77.0.1", 18104) == "net-open-1 10.77.0.9"
        assert refused(lambda: fetch(lan.host.pid, "10.77.0.2", 18104)) == "refused"
        assert refused(lambda: fetch(lan.machine, "127.0.0.1", 18104)) == "refused"
        assert refused(lambda: fetch(lan.host.pid, "10.77.0.1", 18103)) == "refused"
    with servers(lan.pids("net-open-1"), 81):  # the same number on two addresses leads to two ports
        assert fetch(lan.host.pid, "10.77.0.2", 18107).startswith("net-open-1")
        assert refused(lambda: fetch(lan.host.pid, "10.77.0.1", 18107)) == "refused"


def test_a_range_gives_each_replica_one_port(lan: Lan) -> None:
    pids = lan.pids("net-ranged-1", "net-ranged-2")
    with servers(pids):
        until(lambda: {fetch(lan.host.pid, "10.77.0.1", port).split()[0] for port in (18110, 18111)} == set(pids))
        for _ in range(3):
            assert len({fetch(lan.host.pid, "10.77.0.1", 18110) for _ in range(3)}) == 1


# What is kept apart.


def test_the_way_out_hides_containers_behind_the_machine(lan: Lan) -> None:
    with servers({"host": lan.host.pid}, 7778):
        assert fetch(lan.pid("net-web-1"), "10.77.0.9", 7778) == "host 10.77.0.1"
        assert send(lan.pid("net-loner-1"), "10.77.0.9", 7778) == "host 10.77.0.1"


# What other programs do to the machine's rules.


@pytest.mark.parametrize("tool", ["iptables-nft", "iptables-legacy"])
def test_forwarding_dropped_by_another_program(lan: Lan, tool: str) -> None:
    """As dockerd does it: with a chain for exceptions we put ours there, without one we say so."""
    pid = lan.pid("net-web-1")

    def reaches() -> bool:
        with contextlib.suppress(OSError):
            return fetch(pid, "10.77.0.9", 7779, timeout=1).startswith("host")
        return False

    def warnings() -> str:
        return "".join(json.loads(lan.node.compose("node", "status", "--format", "json")).get("warnings") or [])

    def iptables(*words: str) -> None:
        done = lan.node.run(tool, *words)
        assert done.returncode == 0, done.stderr

    with servers({"host": lan.host.pid}, 7779), servers(lan.pids("net-open-1")):
        try:
            iptables("-P", "FORWARD", "DROP")
            until(lambda: "another program drops forwarded traffic" in warnings(), 45)
            assert not reaches()
            remedy = warnings().split("allow it: ")[1]
            for command in remedy.split("; "):  # the remedy that it names is one
                assert lan.node.run("sh", "-c", command).returncode == 0, command
            until(reaches)
            iptables("-F", "FORWARD")
            assert not reaches()

            iptables("-N", "DOCKER-USER")
            iptables("-A", "DOCKER-USER", "-s", "203.0.113.9", "-j", "DROP")
            iptables("-A", "DOCKER-USER", "-j", "RETURN")
            iptables("-I", "FORWARD", "-j", "DOCKER-USER")
            until(reaches, 45)
            assert fetch(lan.host.pid, "10.77.0.1", 18101) == "net-open-1 10.77.0.9"
            rules = lan.node.run(tool, "-S", "DOCKER-USER").stdout.splitlines()
            assert [line.split()[-1] for line in rules[1:]] == ["DROP", "ACCEPT", "ACCEPT", "RETURN"]
            until(lambda: not warnings())
            # what is not published stays closed
            assert refused(lambda: fetch(lan.host.pid, front(pid), 80, timeout=1)) == "no answer"
        finally:
            for words in (("-P", "FORWARD", "ACCEPT"), ("-F", "FORWARD"), ("-F", "DOCKER-USER"), ("-X", "DOCKER-USER")):
                lan.node.run(tool, *words)
