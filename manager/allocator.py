"""The allocator: subnets, addresses, virtual addresses and published ports.

It holds who has what (filled from the cache at the start; only the leader writes), and hands out what is free. A
released address rests before it is given again, so that a peer's stale connection never meets a stranger. Conflicts
name the holder.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Sequence

from pycompose.proto.v1 import network_pb2, service_pb2, task_pb2

REST_SECONDS = 60.0
FIRST_PORT, LAST_PORT = 49153, 65535
PROTOCOLS = {0: "tcp", 1: "tcp", 2: "udp", 3: "sctp"}
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


class _Addresses:
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


class Allocator:
    """Who has which subnet, address and port."""

    def __init__(self, pools: Pools) -> None:
        self._pools = pools
        self._networks: dict[str, _Addresses] = {}
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
            self._networks[network.id] = _Addresses(network)
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


def port_ranges(service: service_pb2.Service) -> list[tuple[str, str, int, int]]:
    """Return (protocol, host address, first, last) of each fixed published port of a service."""
    ports = service.endpoint.ports or service.spec.endpoint.ports
    return [
        (PROTOCOLS[p.protocol], p.host_ip, p.published_port, p.published_port_end or p.published_port)
        for p in ports
        if p.published_port
    ]


def port_conflict(
    spec: service_pb2.ServiceSpec, own_id: str, services: Iterable[service_pb2.Service]
) -> tuple[int, str] | None:
    """Return (index of the port in the spec, holder) of the first conflict, or None."""
    held = [
        (protocol, ip, first, last, f"{s.spec.project}/{s.spec.name}".lstrip("/"))
        for s in services
        if s.id != own_id
        for protocol, ip, first, last in port_ranges(s)
    ]
    for index, port in enumerate(spec.endpoint.ports):
        first, last = port.published_port, port.published_port_end or port.published_port
        # A range is only full when each of its ports is held; tasks choose within it.
        if not first or last > first:
            continue
        for protocol, ip, low, high, holder in held:
            same_ip = ip == port.host_ip or any(x in ("", "0.0.0.0", "::") for x in (ip, port.host_ip))
            if protocol == PROTOCOLS[port.protocol] and same_ip and low == high and low == first:
                return index, holder
    return None


def fill_ports(
    spec: service_pb2.ServiceSpec, before: service_pb2.ServiceEndpoint, used: set[int]
) -> list[service_pb2.PortSpec]:
    """Return the spec's ports with published ports chosen; earlier choices are kept. `used` grows."""
    kept = {(p.protocol, p.target_port, p.host_ip): p.published_port for p in before.ports}
    filled = []
    for port in spec.endpoint.ports:
        full = service_pb2.PortSpec()
        full.CopyFrom(port)
        if not full.published_port and full.publish_mode != service_pb2.PUBLISH_MODE_HOST:
            number = kept.get((port.protocol, port.target_port, port.host_ip)) or 0
            full.published_port = number or next(n for n in range(FIRST_PORT, LAST_PORT + 1) if n not in used)
        used.add(full.published_port)
        filled.append(full)
    return filled


def task_ports(
    service: service_pb2.Service, node_id: str, tasks: Iterable[task_pb2.Task], used: Iterable[int]
) -> list[task_pb2.TaskPort]:
    """Return the ports that one task gets for itself: host mode, and one of each range. Raises AllocationError.

    `tasks`: all tasks of the service; `used`: ports that other services hold.
    """
    taken = {(p.protocol, p.published_port) for t in tasks if t.node_id == node_id for p in t.ports}
    busy = set(used)
    chosen = []
    for port in service.endpoint.ports:
        first, last = port.published_port, port.published_port_end or port.published_port
        if port.publish_mode != service_pb2.PUBLISH_MODE_HOST and last == first:
            continue
        protocol = PROTOCOLS[port.protocol]
        span = range(first, last + 1) if first else range(FIRST_PORT, LAST_PORT + 1)
        free = next((n for n in span if (protocol, n) not in taken and (n not in busy or first == last)), None)
        if free is None:
            raise AllocationError(f"no free port in {first}-{last} for port {port.target_port} of {service.spec.name}")
        taken.add((protocol, free))
        chosen.append(
            task_pb2.TaskPort(
                target_port=port.target_port, published_port=free, protocol=protocol, host_ip=port.host_ip
            )
        )
    return chosen
