"""What should be on this node, as values of the network package. Pure."""

from __future__ import annotations

import functools
from collections.abc import Collection
from ipaddress import IPv4Address, IPv4Interface, IPv4Network

from pycompose.proto.v1 import network_pb2, task_pb2
from pycompose.worker.agent.desired import Desired
from pycompose.worker.network.model import (
    Attachment,
    Endpoint,
    NetworkSpec,
    NetworkView,
    PublishedPort,
    ServiceView,
)


@functools.lru_cache(1 << 16)
def _address(text: str) -> IPv4Address:
    return IPv4Address(text)


def view_of(desired: Desired) -> NetworkView:
    """Return the view; networks without addresses (host, none) are not part of it."""
    networks = []
    for network in desired.networks.values():
        subnet = next((s for s in network.subnets if s.subnet and ":" not in s.subnet), None)
        if subnet is None:
            continue
        options = dict(network.spec.driver_options)
        networks.append(
            NetworkSpec(
                id=network.id,
                name=network.spec.name,
                subnet=IPv4Network(subnet.subnet, strict=False),
                gateway=IPv4Address(subnet.gateway),
                internal=network.spec.internal,
                vni=network.vni,
                mtu=int(options.get("com.docker.network.driver.mtu") or 0),
                options=options,
            )
        )
    reached = rotation(desired.endpoints.values())
    return NetworkView(
        networks=tuple(networks),
        endpoints=tuple(
            Endpoint(
                container_id=e.task_id,
                network_id=e.network_id,
                address=_address(e.address),
                names=tuple(dict.fromkeys([*e.names, *_aliases(desired, e.task_id, e.network_id)])),
                service=e.service_id or None,
                in_rotation=(e.task_id, e.network_id) in reached,
                node_id=e.node_id,
            )
            for e in desired.endpoints.values()
        ),
        services=tuple(
            ServiceView(
                service_id=s.service_id,
                network_id=s.network_id,
                names=tuple(s.names),
                vip=IPv4Address(s.virtual_address) if s.virtual_address else None,
            )
            for s in desired.service_names.values()
        ),
        ports=tuple(
            PublishedPort(
                service_id=p.service_id,
                published=p.published_port,
                target=p.target_port,
                network_id=p.network_id,
                protocol=p.protocol,
                host_ip=p.host_ip or None,
                container_id=p.task_id or None,
            )
            for p in desired.ports.values()
        ),
    )


def rotation(endpoints: Collection[network_pb2.Endpoint]) -> set[tuple[str, str]]:
    """Return (task id, network id) of what services' names, VIPs and published ports lead to.

    Healthy tasks; where a service has none, all that run: members of a group that need one another to become healthy
    could never reach one another else, and with Docker Compose they do (docs/decisions/0006).
    """
    healthy = {(e.service_id, e.network_id) for e in endpoints if e.in_rotation}
    return {
        (e.task_id, e.network_id)
        for e in endpoints
        if e.in_rotation or (e.running and (e.service_id, e.network_id) not in healthy)
    }


def _aliases(desired: Desired, task_id: str, network_id: str) -> list[str]:
    task = desired.tasks.get(task_id)
    if task is None:
        return []
    return [alias for a in task.attachments if a.network_id == network_id for alias in a.aliases]


def attachments_of(task: task_pb2.Task) -> tuple[Attachment, ...]:
    """Return the task's interfaces."""
    return tuple(
        Attachment(
            network_id=a.network_id,
            address=IPv4Interface(a.address),
            mac=a.mac_address or None,
            aliases=tuple(a.aliases),
            gateway_priority=a.gateway_priority,
        )
        for a in task.attachments
        if a.address
    )
