"""Attacks by a neighbour on published ports, and by containers on what their networks do not have."""

from __future__ import annotations

import subprocess

import pytest
from node.probes import ask, fetch, refused, send, servers
from node.test_network import Lan, addresses, front, lan
from node.whole import until

__all__ = ["lan"]


@pytest.mark.attack("H01")
def test_a_port_on_loopback_and_a_neighbour(lan: Lan) -> None:
    """A neighbour that routes 127.0.0.0/8 to the machine, also where somebody has set route_localnet."""
    route = ["nsenter", "-t", str(lan.host.pid), "-n", "sh", "-c"]
    script = """ip route add 127.0.0.0/8 via 10.77.0.1 table 5; ip rule add to 127.0.0.0/8 table 5 pref 1;
        ip rule del pref 0; ip rule add table local pref 100; echo 1 > /proc/sys/net/ipv4/conf/all/route_localnet"""
    back = """ip rule add table local pref 0; ip rule del pref 100; ip rule del pref 1;
        echo 0 > /proc/sys/net/ipv4/conf/all/route_localnet"""
    setting = "/proc/sys/net/ipv4/conf/all/route_localnet"
    try:
        subprocess.run([*route, script], check=True)
        for value in ("0", "1"):
            lan.node.run("sh", "-c", f"echo {value} > {setting}")
            with servers(lan.pids("net-open-1")):
                assert refused(lambda: fetch(lan.host.pid, "127.0.0.1", 18103, "10.77.0.9", 1)) == "no answer"
                assert fetch(lan.machine, "127.0.0.1", 18103).startswith("net-open-1")
        assert lan.node.run("cat", setting).stdout.strip() == "1"  # ours to leave alone
    finally:
        lan.node.run("sh", "-c", f"echo 0 > {setting}")
        subprocess.run([*route, back], check=True)


@pytest.mark.attack("H01")
def test_a_loopback_port_by_other_addresses(lan: Lan) -> None:
    """By the machine's own addresses, over TCP and UDP, and from its containers."""
    inside = lan.pid("net-loner-1")
    with servers(lan.pids("net-open-1")):
        for port in (18103, 18105):
            assert refused(lambda port=port: fetch(lan.host.pid, "10.77.0.1", port, timeout=1)) == "refused"
            assert refused(lambda port=port: fetch(inside, "10.77.0.1", port, timeout=1)) != ""
        assert refused(lambda: send(lan.host.pid, "10.77.0.1", 18106, timeout=1)) != ""


@pytest.mark.twin("H01")
def test_ports_where_they_are_published(lan: Lan) -> None:
    """The machine reaches its loopback ports, neighbours those on its addresses."""
    with servers(lan.pids("net-open-1")):
        assert fetch(lan.machine, "127.0.0.1", 18103).startswith("net-open-1")
        assert send(lan.machine, "127.0.0.1", 18106).startswith("net-open-1")
        assert fetch(lan.host.pid, "10.77.0.1", 18104) == "net-open-1 10.77.0.9"


@pytest.mark.attack("H03")
def test_an_internal_network(lan: Lan) -> None:
    """No way to the machine, the neighbour, the Internet and 169.254.169.254; no question to the machine's DNS."""
    hidden = lan.pid("net-hidden-1")
    with servers({"machine": lan.machine}, 7777):
        solo = lan.pid("the-solo")  # it declares that it knows the machine
        gateway = lan.node.exec("solo", "getent", "hosts", "machine").split()[0]
        assert fetch(solo, "10.77.0.1", 7777).startswith("machine")
        assert fetch(solo, gateway, 7777).startswith("machine")
        assert refused(lambda: fetch(lan.pid("net-web-1"), gateway, 7777)) == "refused"
        for address in ("10.77.0.1", "10.77.0.9", "192.0.2.1", "169.254.169.254", "100.64.0.1"):
            assert refused(lambda address=address: fetch(hidden, address, 7777, timeout=1)) == "unreachable"
    lan.upstream.asked.clear()
    assert ask(hidden, "out.test") == ("NXDOMAIN", [])
    assert ask(hidden, "secrets.in.a.name.out.test", tcp=True) == ("NXDOMAIN", [])
    assert lan.upstream.asked == []


@pytest.mark.attack("H03")
def test_networks_and_neighbours(lan: Lan) -> None:
    """One network's containers by address, VIP and gateway from another's, and from a neighbour that routes."""
    loner = lan.pid("net-loner-1")
    web = addresses(lan.pid("net-web-1"))
    with servers(lan.pids("net-web-1", "net-hidden-1")):
        for address in [*web, addresses(lan.pid("net-hidden-1"))[0], ask(lan.pid("the-solo"), "web")[1][0]]:
            assert refused(lambda address=address: fetch(loner, address, 80, timeout=1)) in ("no answer", "unreachable")
        for address in web:  # a neighbour that routes to containers does not reach them either
            assert refused(lambda address=address: fetch(lan.host.pid, address, 80, timeout=1)) in (
                "no answer",
                "unreachable",
            )
        assert fetch(lan.pid("the-solo"), web[0], 80)
        assert fetch(lan.pid("the-solo"), web[1], 80)


def flushed(lan: Lan) -> None:
    """Another program takes our rules away: they come back."""
    with servers(lan.pids("net-open-1")):
        for words in (("flush", "ruleset"), ("delete", "table", "ip", "pycomposet")):
            lan.node.run("nft", *words)
            until(lambda: "pycomposet" in lan.node.run("nft", "list", "tables").stdout, 5)
        assert fetch(lan.host.pid, "10.77.0.1", 18101) == "net-open-1 10.77.0.9"
        assert refused(lambda: fetch(lan.host.pid, front(lan.pid("net-open-1")), 80, timeout=1)) != "refused"
    assert "changed the table" in lan.node.log()


@pytest.mark.attack("H03")
def test_a_flushed_ruleset(lan: Lan) -> None:
    """nft flush ruleset, and our table deleted: the rules are back within 5 s, and said; all of it again."""
    flushed(lan)
    test_an_internal_network(lan)
    test_networks_and_neighbours(lan)


@pytest.mark.twin("H03")
def test_ways_that_there_are(lan: Lan) -> None:
    """Out through the machine, and names of the machine's DNS."""
    with servers({"host": lan.host.pid}, 7778):
        assert fetch(lan.pid("net-web-1"), "10.77.0.9", 7778) == "host 10.77.0.1"
    assert ask(lan.pid("net-web-1"), "out.test") == ("NOERROR", ["192.0.2.7"])
