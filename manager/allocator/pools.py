"""Pools of subnets, and the addresses of one network."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Sequence

from pycompose.proto.v1 import network_pb2

REST_SECONDS = 60.0
Net = ipaddress.IPv4Network


class AllocationError(Exception):
    """Nothing is free, or somebody else has it; the message names the holder."""


def gateway_of(subnet: network_pb2.IpamSubnet) -> str:
    """Return the bridge's address: the given one, else the subnet's first."""
    return str(subnet.gateway or next(ipaddress.ip_network(subnet.subnet, strict=False).hosts()))


class Pools:
    """Subnets carved from pools. `pools`: networks such as "10.128.0.0/9"; `size`: prefix length of each."""

    def __init__(self, pools: Sequence[str] = ("10.128.0.0/9",), size: int = 24, avoid: Sequence[str] = ()) -> None:
        self._pools = [ipaddress.IPv4Network(pool) for pool in pools]
        self._size = size
        self._avoid = [ipaddress.IPv4Network(net, strict=False) for net in avoid]
        self._next = [0] * len(self._pools)

    def choose(self, used: Iterable[Net]) -> Net:
        """Return a subnet that overlaps none in use. Raises AllocationError when the pools are exhausted."""
        taken = sorted({*used, *self._avoid}, key=lambda net: int(net.network_address))
        for pool in self._pools:
            step = 1 << (32 - self._size)
            start, end = int(pool.network_address), int(pool.broadcast_address) + 1
            position = start
            while position + step <= end:
                candidate = ipaddress.IPv4Network((position, self._size))
                clash = next((net for net in taken if net.overlaps(candidate)), None)
                if clash is None:
                    return candidate
                past = int(clash.broadcast_address) + 1
                position = max(position + step, start + -(-(past - start) // step) * step)
        raise AllocationError("all address pools are in use; remove a network or configure more pools")


class Addresses:
    """Addresses of one network."""

    def __init__(self, network: network_pb2.Network) -> None:
        self.subnet = ipaddress.IPv4Network(network.subnets[0].subnet, strict=False)
        given = network.subnets[0]
        span = ipaddress.IPv4Network(given.ip_range, strict=False) if given.ip_range else self.subnet
        self.first, self.last = int(span.network_address), int(span.broadcast_address)
        self.holders: dict[int, str] = {
            int(self.subnet.network_address): "the network itself",
            int(self.subnet.broadcast_address): "broadcast",
            int(ipaddress.IPv4Address(gateway_of(given))): "the gateway",
        }
        for name, address in given.aux_addresses.items():
            self.holders[int(ipaddress.IPv4Address(address))] = f"auxiliary address {name}"
        self.resting: dict[int, float] = {}
        self.cursor = self.first

    def take(self, holder: str, now: float) -> str:
        """Return the next free address, going round so that old ones rest longest."""
        size = self.last - self.first + 1
        for tired in (False, True):
            for offset in range(size):
                number = self.first + (self.cursor - self.first + offset) % size
                if number in self.holders or (not tired and self.resting.get(number, 0) > now):
                    continue
                self.cursor = number + 1
                self.holders[number] = holder
                self.resting.pop(number, None)
                return str(ipaddress.IPv4Address(number))
        raise AllocationError(f"no free address in {self.subnet}")

    def claim(self, text: str, holder: str) -> str:
        """Take a fixed address."""
        address = ipaddress.IPv4Address(text)
        if address not in self.subnet:
            raise AllocationError(f"address {text} is not in the network's subnet {self.subnet}")
        other = self.holders.get(int(address))
        if other is not None and other != holder:
            raise AllocationError(f"address {text} is in use by {other}")
        self.holders[int(address)] = holder
        return text
