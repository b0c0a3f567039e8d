"""Published ports: who holds which, and what is free."""

from __future__ import annotations

from collections.abc import Iterable

from pycompose.manager.allocator.pools import AllocationError
from pycompose.proto.v1 import service_pb2, task_pb2

FIRST_PORT, LAST_PORT = 49153, 65535
PROTOCOLS = {0: "tcp", 1: "tcp", 2: "udp", 3: "sctp"}


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
