"""Who has which subnet and address."""

from __future__ import annotations

import ipaddress

from pycompose.manager.allocator.pools import REST_SECONDS, Addresses, Pools, gateway_of
from pycompose.proto.v1 import network_pb2


class Allocator:
    """Who has which subnet, address and port."""

    def __init__(self, pools: Pools) -> None:
        self._pools = pools
        self._networks: dict[str, Addresses] = {}
        self._vnis: dict[str, int] = {}

    # Networks.

    def network(self, network: network_pb2.Network) -> network_pb2.Network:
        """Return the network with subnets and VNI filled in. Raises AllocationError."""
        full = network_pb2.Network()
        full.CopyFrom(network)
        if full.spec.driver not in ("", "bridge", "overlay"):
            return full
        if not full.subnets:
            full.subnets.extend(full.spec.subnets)
            if not any(":" not in subnet.subnet for subnet in full.subnets if subnet.subnet):
                chosen = self._pools.choose(state.subnet for state in self._networks.values())
                full.subnets.insert(0, network_pb2.IpamSubnet(subnet=str(chosen)))
            for subnet in full.subnets:
                subnet.gateway = gateway_of(subnet)
        full.vni = full.vni or self._free_vni()
        self.know(full)
        return full

    def know(self, network: network_pb2.Network) -> None:
        """Take note of a network that has its subnets."""
        if network.subnets and network.id not in self._networks:
            self._networks[network.id] = Addresses(network)
            self._vnis[network.id] = network.vni

    def forget_network(self, network_id: str) -> None:
        """The network is gone."""
        self._networks.pop(network_id, None)
        self._vnis.pop(network_id, None)

    def has_addresses(self, network_id: str) -> bool:
        """Return whether tasks on the network get addresses."""
        return network_id in self._networks

    def _free_vni(self) -> int:
        used = set(self._vnis.values())
        return next(number for number in range(4096, 1 << 24) if number not in used)

    # Addresses.

    def address(self, network_id: str, holder: str, now: float, fixed: str = "") -> str:
        """Return an address with prefix length for `holder`. Raises AllocationError."""
        state = self._networks[network_id]
        address = state.claim(fixed, holder) if fixed else state.take(holder, now)
        return f"{address}/{state.subnet.prefixlen}"

    def know_address(self, network_id: str, address: str, holder: str) -> None:
        """Take note of an address in use (with or without prefix length)."""
        state = self._networks.get(network_id)
        if state is not None and address:
            state.holders[int(ipaddress.IPv4Address(address.split("/")[0]))] = holder

    def release(self, network_id: str, address: str, now: float) -> None:
        """Give an address back; it rests first."""
        state = self._networks.get(network_id)
        if state is not None and address:
            number = int(ipaddress.IPv4Address(address.split("/")[0]))
            if state.holders.pop(number, None) is not None:
                state.resting[number] = now + REST_SECONDS


def mac_of(address: str) -> str:
    """Return the MAC address that belongs to an IPv4 address: 02:42 and its four bytes, as Docker's."""
    packed = ipaddress.IPv4Address(address.split("/")[0]).packed
    return "02:42:" + ":".join(f"{byte:02x}" for byte in packed)
