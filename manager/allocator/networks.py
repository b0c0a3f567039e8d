"""Who has which subnet and address.

What is held is what the store says: `hear` is told each change. What a pass takes is pending until the store has it;
`begin` forgets what came of nothing (its write was refused), so that nothing has to be given back by hand.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable

from pycompose.manager.allocator.pools import Addresses, AllocationError, Net, Pools, gateway_of, ipv4_subnet
from pycompose.proto.v1 import network_pb2, service_pb2, task_pb2

Place = tuple[str, str]
BRIDGED = ("", "bridge", "overlay")


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
    return {(a.network_id, a.address.split("/")[0]): holder_of(task) for a in task.attachments if a.address}


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
            self._networks[network_id] = Addresses(network.spec.name, subnet)
            self._vnis[network_id] = network.vni

    # What a pass takes.

    def begin(self) -> None:
        """A new pass: what the last one took and did not write is free again."""
        self._pending.clear()
        for state in self._networks.values():
            state.pending.clear()

    def network(self, network: network_pb2.Network) -> network_pb2.Network:
        """Return the network with subnets and VNI filled in. Raises AllocationError."""
        full = network_pb2.Network()
        full.CopyFrom(network)
        if not full.subnets:
            full.subnets.extend(full.spec.subnets)
        states = [*self._networks.values(), *(state for state, _ in self._pending.values())]
        given = ipv4_subnet(full.subnets)
        if given is None:
            given = network_pb2.IpamSubnet(subnet=str(self._pools.choose(state.subnet for state in states)))
            full.subnets.insert(0, given)
        else:
            wanted = Net(given.subnet, strict=False)
            other = next((state for state in states if state.subnet.overlaps(wanted)), None)
            if other is not None:
                raise AllocationError(
                    f"subnet {wanted} of network {full.spec.name} overlaps {other.subnet} of network {other.name}; "
                    "choose another, or leave it out to have one chosen"
                )
        for subnet in full.subnets:
            subnet.gateway = gateway_of(subnet)
        full.vni = full.vni or self._free_vni()
        self._pending[full.id] = (Addresses(full.spec.name, given), full.vni)
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

    def give_back(self, taken: Iterable[Place]) -> None:
        """Give back what this pass took after all not to be used."""
        for network_id, address in taken:
            self._state(network_id).pending.pop(int(ipaddress.IPv4Address(address.split("/")[0])), None)

    def holders(self) -> dict[Place, str]:
        """Return all addresses that objects of the store hold (for checks)."""
        own = ("the network itself", "broadcast", "the gateway")
        return {
            (network_id, str(ipaddress.IPv4Address(number))): holder
            for network_id, state in self._networks.items()
            for number, holder in state.holders.items()
            if holder not in own and not holder.startswith("auxiliary")
        }


def mac_of(address: str) -> str:
    """Return the MAC address that belongs to an IPv4 address: 02:42 and its four bytes, as Docker's."""
    packed = ipaddress.IPv4Address(address.split("/")[0]).packed
    return "02:42:" + ":".join(f"{byte:02x}" for byte in packed)
