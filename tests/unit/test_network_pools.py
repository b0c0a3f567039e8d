"""Subnets for networks: hundreds of them, and never where the machine already has somebody."""

from __future__ import annotations

import ipaddress

import pytest

from pycompose.manager.allocator.pools import AllocationError, Pools
from pycompose.worker.network import routes

TABLE = """Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT
eth0\t00000000\t0101A8C0\t0003\t0\t0\t0\t00000000\t0\t0\t0
eth0\t0001A8C0\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0
tun0\t0000000A\t00000000\t0001\t0\t0\t0\t000000FF\t0\t0\t0
tun1\t00000080\t00000000\t0001\t0\t0\t0\t00000080\t0\t0\t0
pycu1\t0001800A\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0
"""
Net = ipaddress.IPv4Network


def test_three_hundred_projects_with_two_networks_each() -> None:
    pools, used = Pools(), list[Net]()
    for _ in range(600):
        chosen = pools.choose(used)
        assert not any(chosen.overlaps(each) for each in used)
        used.append(chosen)
    assert pools.choose(used[1:]) == used[0]  # what was given back is given again


def test_routes_of_the_machine_are_left_alone() -> None:
    assert routes.destinations(TABLE, ("pyc",)) == ["10.0.0.0/8", "192.168.1.0/24"]
    assert routes.destinations("", ("pyc",)) == []


def test_a_vpn_over_the_first_pool_leads_to_the_next() -> None:
    foreign = [Net(each) for each in routes.destinations(TABLE, ("pyc",))]
    assert Pools().choose(foreign) == Net("172.16.0.0/20")
    assert Pools().choose([*foreign, Net("172.16.0.0/12")]) == Net("192.168.16.0/20")
    assert Pools().choose([*foreign, Net("172.16.0.0/12"), Net("192.168.16.0/24")]) == Net("192.168.32.0/20")
    assert Pools().choose([Net("10.128.0.0/16")]) == Net("10.129.0.0/20")


def test_exhausted_pools_say_so() -> None:
    with pytest.raises(AllocationError, match="are in use"):
        Pools().choose([Net("0.0.0.0/0")])
