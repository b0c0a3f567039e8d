"""Who has which subnet and address.

What is held is what the store says: `hear` is told each change. What a pass takes is pending until the store has it;
`begin` forgets what came of nothing (its write was refused), so that nothing has to be given back by hand.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable

from pycompose.manager.allocator.pools import (
    Addresses,
    AllocationError,
    Pools,
    chosen6,
    gateway_of,
    ipv4_subnet,
    ipv6_subnet,
)
from pycompose.proto.v1 import network_pb2, service_pb2, task_pb2

Place = tuple[str, str]
ADDRESSED = ("", "bridge", "overlay", "macvlan")


def virtual_places(service: service_pb2.Service | None) -> dict[Place, str]:
    """Return (network id, address) -> holder of a service's virtual addresses."""
    if service is None:
        return {}
    holder = f"the virtual address of {service.spec.project}/{service.spec.name}".replace(" /", " ")
    return {(virtual.network_id, virtual.address): holder for virtual in service.endpoint.virtual_addresses}


def holder_of(task: task_pb2.Task) -> str:
    """Return how messages name a task: its name is not enough, an update may have two of the same."""
    return f"{task.name} ({task.id[:12]})"


def task_places(task: task_pb2.Task | None) -> dict[Place, str]:
    """Return (network id, address) -> holder of a task's addresses."""
    if task is None:
        return {}
    holder = holder_of(task)
    addresses = [(a.network_id, text) for a in task.attachments for text in (a.address, a.ipv6_address) if text]
    return {(network_id, text.split("/")[0]): holder for network_id, text in addresses}


class Allocator:
    """Subnets, VNIs and addresses."""

    def __init__(self, pools: Pools) -> None:
        self._pools = pools
        self._networks: dict[str, Addresses] = {}
        self._vnis: dict[str, int] = {}
        self._pending: dict[str, tuple[Addresses, int]] = {}

    # What the store has.

    def hear(self, old: dict[Place, str], new: dict[Place, str], now: float) -> None:
        """Take note of addresses that an object had and has."""
        for network_id, address in old.keys() - new.keys():
            if network_id in self._networks:
                self._networks[network_id].release(address, now)
        for (network_id, address), holder in new.items():
            if network_id in self._networks:
                self._networks[network_id].hold(address, holder)

    def hear_network(self, network_id: str, network: network_pb2.Network | None) -> None:
        """Take note of a network as it is stored; None: it is gone."""
        if network is None:
            self._networks.pop(network_id, None)
            self._vnis.pop(network_id, None)
            return
        subnet = ipv4_subnet(network.subnets)
        if network.vni and subnet is not None and network_id not in self._networks:
            self._networks[network_id] = Addresses(network.spec.name, subnet, ipv6_subnet(network.subnets))
            self._vnis[network_id] = network.vni

    # What a pass takes.

    def begin(self) -> None:
        """A new pass: what the last one took and did not write is free again."""
        self._pending.clear()
        for state in self._networks.values():
            state.pending.clear()
            if state.six is not None:
                state.six.pending.clear()

    def network(self, network: network_pb2.Network, avoid: Iterable[str] = ()) -> network_pb2.Network:
        """Return the network with subnets and VNI filled in. Raises AllocationError.

        `avoid`: subnets that nodes have routes to, such as a VPN's: a chosen subnet overlaps none of them.
        """
        full = network_pb2.Network()
        full.CopyFrom(network)
        if not full.subnets:
            full.subnets.extend(full.spec.subnets)
        states = [*self._networks.values(), *(state for state, _ in self._pending.values())]
        _refuse_overlaps(full, states)
        given = ipv4_subnet(full.subnets)
        if given is None:
            used = [*(state.subnet for state in states), *(ipaddress.IPv4Network(route) for route in avoid)]
            given = network_pb2.IpamSubnet(subnet=str(self._pools.choose(used)))
            full.subnets.insert(0, given)
        full.vni = full.vni or self._free_vni()
        if full.spec.enable_ipv6 and ipv6_subnet(full.subnets) is None:
            full.subnets.add(subnet=str(chosen6(full.vni)))
        for subnet in full.subnets:
            subnet.gateway = gateway_of(subnet)
        self._pending[full.id] = (Addresses(full.spec.name, given, ipv6_subnet(full.subnets)), full.vni)
        return full

    def _free_vni(self) -> int:
        used = {*self._vnis.values(), *(vni for _, vni in self._pending.values())}
        return next(number for number in range(4096, 1 << 24) if number not in used)

    def has_addresses(self, network_id: str) -> bool:
        """Return whether tasks on the network get addresses."""
        return network_id in self._networks or network_id in self._pending

    def _state(self, network_id: str) -> Addresses:
        return self._networks.get(network_id) or self._pending[network_id][0]

    def address(self, network_id: str, holder: str, now: float, fixed: str = "") -> str:
        """Return an address with prefix length for `holder`. Raises AllocationError."""
        state = self._state(network_id)
        address = state.claim(fixed, holder) if fixed else state.take(holder, now)
        return f"{address}/{state.subnet.prefixlen}"

    def address6(self, network_id: str, holder: str, address: str, fixed: str = "") -> str:
        """Return the IPv6 address with prefix length that goes with an IPv4 address; "" where there is none.

        Raises AllocationError.
        """
        six = self._state(network_id).six
        if six is None:
            if fixed:
                raise AllocationError(f"address {fixed}: network {self._state(network_id).name} has no IPv6")
            return ""
        return f"{six.claim(fixed, holder) if fixed else six.derived(address.split('/')[0])}/{six.subnet.prefixlen}"

    def give_back(self, taken: Iterable[Place]) -> None:
        """Give back what this pass took after all not to be used."""
        for network_id, address in taken:
            state, text = self._state(network_id), address.split("/")[0]
            if ":" not in text:
                state.pending.pop(int(ipaddress.IPv4Address(text)), None)
            elif state.six is not None:
                state.six.pending.pop(text, None)

    def holders(self) -> dict[Place, str]:
        """Return all addresses that objects of the store hold (for checks)."""
        own = ("the network itself", "broadcast", "the gateway")
        found: dict[Place, str] = {}
        for network_id, state in self._networks.items():
            texts = {str(ipaddress.IPv4Address(number)): holder for number, holder in state.holders.items()}
            texts |= state.six.holders if state.six is not None else {}
            found |= {(network_id, text): holder for text, holder in texts.items()}
        return {k: v for k, v in found.items() if v not in own and not v.startswith("auxiliary")}


def _refuse_overlaps(network: network_pb2.Network, states: Iterable[Addresses]) -> None:
    """Raise AllocationError when a subnet that the spec names is another network's."""
    for subnet in network.subnets:
        wanted = ipaddress.ip_network(subnet.subnet, strict=False)
        for state in states:
            theirs = state.subnet if wanted.version == 4 else state.six and state.six.subnet
            if theirs and wanted.overlaps(theirs):
                raise AllocationError(
                    f"subnet {wanted} of network {network.spec.name} overlaps {theirs} of network {state.name}; "
                    "choose another, or leave it out to have one chosen"
                )


def mac_of(address: str) -> str:
    """Return the MAC address that belongs to an IPv4 address: 02:42 and its four bytes, as Docker's."""
    packed = ipaddress.IPv4Address(address.split("/")[0]).packed
    return "02:42:" + ":".join(f"{byte:02x}" for byte in packed)
