"""What should be on this node, as values of the network package. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from ipaddress import (
    IPv4Address,
    IPv4Interface,
    IPv4Network,
    IPv6Address,
    IPv6Interface,
    IPv6Network,
    ip_interface,
)

from pycompose.proto.v1 import network_pb2, service_pb2, task_pb2
from pycompose.worker.agent.desired import Desired
from pycompose.worker.network.model import (
    Attachment,
    Endpoint,
    NetworkSpec,
    NetworkView,
    Peer,
    PublishedPort,
    ServiceView,
    Underlay,
)
from pycompose.worker.network.overlay import fitted

_BRIDGE = "com.docker.network.bridge."
ENDPOINT = "com.docker.network.endpoint."


def network_of(network: network_pb2.Network) -> NetworkSpec | None:
    """Return a network as the network package has it; None for one without addresses (host, none)."""
    subnet = next((s for s in network.subnets if s.subnet and ":" not in s.subnet), None)
    if subnet is None:
        return None
    six = next((s for s in network.subnets if ":" in s.subnet), None)
    options = network.spec.driver_options
    return NetworkSpec(
        id=network.id,
        name=network.spec.name,
        subnet=IPv4Network(subnet.subnet, strict=False),
        gateway=IPv4Address(subnet.gateway),
        internal=network.spec.internal,
        vni=network.vni,
        mtu=int(options.get("com.docker.network.driver.mtu") or 0),
        subnet6=IPv6Network(six.subnet, strict=False) if six else None,
        gateway6=IPv6Address(six.gateway) if six else None,
        driver="macvlan" if network.spec.driver == "macvlan" else "bridge",
        masquerade=_is_set(options.get(f"{_BRIDGE}enable_ip_masquerade")),
        talk=_is_set(options.get(f"{_BRIDGE}enable_icc")),
        prefix=options.get("com.docker.network.container_iface_prefix") or "eth",
        parent=options.get("parent") or "",
        mode=options.get("macvlan_mode") or "bridge",
    )


def without_peers(advertised: str, underlay: Underlay | None, *, member: bool) -> list[str]:
    """Return what an operator must know of a cluster's node whose networks end at it; `member`: it is of a cluster."""
    if underlay is not None or not member:
        return []
    return [
        f"containers here reach none on other nodes: networks between nodes need an IPv4 address and root's node, and "
        f"this one is known as {advertised}; leave, and join with --advertise-addr ADDRESS"
    ]


def _is_set(value: str | None) -> bool:
    """Return what a boolean option says; it is on where nothing is said."""
    return (value or "true").lower() in ("true", "1")


class _Addresses:
    """Parsed addresses: to parse those of thousands of endpoints at each change takes long.

    Those of endpoints that are gone go too: containers have ever new addresses, and each took 0.3 KiB of an agent that
    runs for months.
    """

    def __init__(self) -> None:
        self._known: dict[str, IPv4Address] = {}

    def of(self, texts: Iterable[str]) -> dict[str, IPv4Address]:
        """Parse all that there are now."""
        known = self._known
        self._known = {text: known.get(text) or IPv4Address(text) for text in texts}
        return self._known


_addresses = _Addresses()


def view_of(desired: Desired, underlay: Underlay | None = None) -> NetworkView:
    """Return the view; networks without addresses (host, none) are not part of it.

    `underlay`: this node's address among the cluster's; its networks reach over nodes then.
    """
    addresses = _addresses.of(endpoint.address for endpoint in desired.endpoints.values())
    found = [spec for network in desired.networks.values() if (spec := network_of(network)) is not None]
    networks = [fitted(spec, underlay) for spec in found]
    reached = rotation(desired.endpoints.values())
    return NetworkView(
        networks=tuple(networks),
        endpoints=tuple(
            Endpoint(
                container_id=e.task_id,
                network_id=e.network_id,
                address=addresses[e.address],
                address6=IPv6Address(e.ipv6_address) if e.ipv6_address else None,
                names=tuple(dict.fromkeys([*e.names, *_aliases(desired, e.task_id, e.network_id)])),
                service=e.service_id or None,
                in_rotation=(e.task_id, e.network_id) in reached,
                node_id=e.node_id,
                mac=e.mac_address,
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
                masquerade=p.masquerade,
                sticky=p.sticky,
            )
            for p in desired.ports.values()
        ),
        peers=tuple(Peer(p.node_id, IPv4Address(p.address), p.port) for p in desired.peers.values()),
        underlay=underlay,
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


def attachments_of(
    task: task_pb2.Task, spec: service_pb2.TaskSpec, networks: Mapping[str, network_pb2.Network]
) -> tuple[Attachment, ...]:
    """Return the task's interfaces, with what the spec says of each; `networks` by id."""
    asked = {wanted.network: wanted for wanted in spec.networks}
    found = []
    for one in task.attachments:
        if not one.address:
            continue
        network = networks.get(one.network_id)
        wanted = asked.get(network.spec.name if network else "") or service_pb2.NetworkAttachmentSpec()
        found.append(
            Attachment(
                network_id=one.network_id,
                address=IPv4Interface(one.address),
                mac=one.mac_address or None,
                aliases=tuple(one.aliases),
                gateway_priority=one.gateway_priority,
                address6=IPv6Interface(one.ipv6_address) if one.ipv6_address else None,
                interface=one.interface_name or wanted.driver_options.get(f"{ENDPOINT}ifname", ""),
                more=tuple(_link_local(text) for text in wanted.link_local_addresses),
                sysctls=_sysctls(wanted.driver_options.get(f"{ENDPOINT}sysctls", "")),
            )
        )
    return tuple(found)


def _link_local(text: str) -> IPv4Interface | IPv6Interface:
    return ip_interface(f"{text}/{64 if ':' in text else 16}")


def _sysctls(text: str) -> tuple[tuple[str, str], ...]:
    """Read "net.ipv4.conf.IFNAME.log_martians=1,…" into names below /proc/sys/net."""
    pairs = (item.partition("=") for item in text.split(",") if item)
    return tuple((name.strip().removeprefix("net.").replace(".", "/"), value) for name, _, value in pairs)
