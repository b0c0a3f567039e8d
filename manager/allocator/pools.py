"""Pools of subnets, and the addresses of one network."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Sequence

from pycompose.proto.v1 import network_pb2

REST_SECONDS = 60.0
Net = ipaddress.IPv4Network
#: Prefix length of a subnet that nobody chose: 4,093 containers, four times what one node's bridge takes.
SIZE = 20
#: Private addresses (RFC 1918); the later ones are for machines whose own network, or VPN, is the first.
POOLS = ("10.128.0.0/9", "172.16.0.0/12", "192.168.0.0/16")
#: Unique local addresses (RFC 4193) for networks that ask for IPv6 without a subnet: a /64 each, by their VNI.
POOL6 = ipaddress.IPv6Network("fd70:7963:6f00::/40")
#: Shortest host part of an IPv6 subnet that still holds all IPv4 addresses beside fixed ones.
HOST_BITS6 = 34


class AllocationError(Exception):
    """Nothing is free, or somebody else has it; the message names the holder, or says how to widen."""


def gateway_of(subnet: network_pb2.IpamSubnet) -> str:
    """Return the bridge's address: the given one, else the subnet's first."""
    return str(subnet.gateway or next(ipaddress.ip_network(subnet.subnet, strict=False).hosts()))


def ipv4_subnet(subnets: Iterable[network_pb2.IpamSubnet]) -> network_pb2.IpamSubnet | None:
    """Return the first IPv4 subnet that is given, or None."""
    return next((one for one in subnets if one.subnet and ":" not in one.subnet), None)


def ipv6_subnet(subnets: Iterable[network_pb2.IpamSubnet]) -> network_pb2.IpamSubnet | None:
    """Return the first IPv6 subnet that is given, or None."""
    return next((one for one in subnets if ":" in one.subnet), None)


def chosen6(vni: int) -> ipaddress.IPv6Network:
    """Return the IPv6 subnet of the network with this VNI."""
    return ipaddress.IPv6Network((int(POOL6.network_address) + (vni << 64), 64))


class Pools:
    """Subnets carved from pools, in order. `pools`: networks such as "10.128.0.0/9"; `size`: prefix length of each."""

    def __init__(self, pools: Sequence[str] = POOLS, size: int = SIZE, avoid: Sequence[str] = ()) -> None:
        self._pools = [Net(pool) for pool in pools]
        self._size = size
        self._avoid = [Net(net, strict=False) for net in avoid]

    def choose(self, used: Iterable[Net]) -> Net:
        """Return a subnet that overlaps none in use. Raises AllocationError when the pools are exhausted."""
        taken = sorted({*used, *self._avoid}, key=lambda net: int(net.network_address))
        for pool in self._pools:
            step = 1 << (32 - self._size)
            start, end = int(pool.network_address), int(pool.broadcast_address) + 1
            position = start
            while position + step <= end:
                candidate = Net((position, self._size))
                clash = next((net for net in taken if net.overlaps(candidate)), None)
                if clash is None:
                    return candidate
                past = int(clash.broadcast_address) + 1
                position = max(position + step, start + -(-(past - start) // step) * step)
        words = ", ".join(str(pool) for pool in self._pools)
        raise AllocationError(
            f"all subnets of /{self._size} in {words} are in use; remove a network that is not used, "
            "or give this one a subnet of its own (ipam.config.subnet)"
        )


class Addresses:
    """Addresses of one network: who holds which, and which rest."""

    def __init__(self, name: str, given: network_pb2.IpamSubnet, given6: network_pb2.IpamSubnet | None = None) -> None:
        self.name = name
        self.six = Addresses6(name, given6) if given6 is not None else None
        self.subnet = Net(given.subnet, strict=False)
        span = Net(given.ip_range, strict=False) if given.ip_range else self.subnet
        self.first, self.last = int(span.network_address), int(span.broadcast_address)
        self.holders: dict[int, str] = {
            int(self.subnet.network_address): "the network itself",
            int(self.subnet.broadcast_address): "broadcast",
            int(ipaddress.IPv4Address(gateway_of(given))): "the gateway",
        }
        for label, address in given.aux_addresses.items():
            self.holders[int(ipaddress.IPv4Address(address))] = f"auxiliary address {label}"
        #: When an address that was released may be used again (seconds since the epoch).
        self.resting: dict[int, float] = {}
        #: Taken by decisions that are not written yet.
        self.pending: dict[int, str] = {}
        self.cursor = self.first

    def take(self, holder: str, now: float) -> str:
        """Return the next free address, going round; when all others are taken, the one that has rested longest.

        Raises AllocationError.
        """
        size = self.last - self.first + 1
        for offset in range(size):
            number = self.first + (self.cursor - self.first + offset) % size
            if self._free(number) and self.resting.get(number, 0.0) <= now:
                self.cursor = number + 1
                return self._give(number, holder)
        tired = [number for number in self.resting if self._free(number) and self.first <= number <= self.last]
        if tired:
            return self._give(min(tired, key=lambda number: self.resting[number]), holder)
        where = f"{self.subnet}" if size == self.subnet.num_addresses else f"the ip_range of {self.subnet}"
        raise AllocationError(
            f"no free address in {where} of network {self.name}: all {size} are in use; run fewer replicas, or make "
            "the network with a larger subnet (ipam.config.subnet)"
        )

    def claim(self, text: str, holder: str) -> str:
        """Take a fixed address. Raises AllocationError."""
        address = ipaddress.IPv4Address(text)
        if address not in self.subnet:
            raise AllocationError(f"address {text} is not in network {self.name}'s subnet {self.subnet}")
        number = int(address)
        other = self.holders.get(number) or self.pending.get(number)
        if other is not None and other != holder:
            raise AllocationError(f"address {text} of network {self.name} is held by {other}")
        return self._give(number, holder)

    def _free(self, number: int) -> bool:
        return number not in self.holders and number not in self.pending

    def _give(self, number: int, holder: str) -> str:
        self.pending[number] = holder
        return str(ipaddress.IPv4Address(number))

    def hold(self, text: str, holder: str) -> None:
        """Take note of an address that is in the store."""
        if ":" in text:
            if self.six is not None:
                self.six.holders[text] = holder
            return
        self.holders[int(ipaddress.IPv4Address(text))] = holder

    def release(self, text: str, now: float) -> None:
        """Take note of an address that is no longer in the store; it rests."""
        if ":" in text:
            if self.six is not None:
                self.six.holders.pop(text, None)
            return
        number = int(ipaddress.IPv4Address(text))
        if self.holders.pop(number, None) is not None:
            self.resting[number] = now + REST_SECONDS
        if len(self.resting) > len(self.holders) + 64:
            self.resting = {number: until for number, until in self.resting.items() if until > now}


class Addresses6:
    """IPv6 addresses of one network: derived from the IPv4 address that a task holds anyway, or fixed ones.

    A derived address is the subnet's, then 1, then the IPv4 address: fd00::1:0a80:3. Fixed ones must not look so.
    """

    def __init__(self, name: str, given: network_pb2.IpamSubnet) -> None:
        self.name = name
        self.subnet = ipaddress.IPv6Network(given.subnet, strict=False)
        self.holders: dict[str, str] = {gateway_of(given): "the gateway"}
        for label, address in given.aux_addresses.items():
            self.holders[str(ipaddress.IPv6Address(address))] = f"auxiliary address {label}"
        self.pending: dict[str, str] = {}

    def derived(self, address: str) -> str:
        """Return the IPv6 address that belongs to an IPv4 address."""
        number = int(self.subnet.network_address) + (1 << 32) + int(ipaddress.IPv4Address(address))
        return str(ipaddress.IPv6Address(number))

    def claim(self, text: str, holder: str) -> str:
        """Take a fixed address. Raises AllocationError."""
        address = ipaddress.IPv6Address(text)
        if address not in self.subnet:
            raise AllocationError(f"address {text} is not in network {self.name}'s subnet {self.subnet}")
        if (int(address) - int(self.subnet.network_address)) >> 32 == 1:
            raise AllocationError(f"address {text} of network {self.name} is one of those that tasks get by themselves")
        other = self.holders.get(str(address)) or self.pending.get(str(address))
        if other is not None and other != holder:
            raise AllocationError(f"address {text} of network {self.name} is held by {other}")
        self.pending[str(address)] = holder
        return str(address)
