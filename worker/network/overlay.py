"""What lets a network reach over nodes: entries of its VXLAN device and its bridge, from the view. Pure.

A node never learns: the manager knows every endpoint, so each node is told which MAC lives where (``Station``) and
which address has which MAC (``Neighbour``); the device answers ARP itself (``proxy``), and floods nothing.

Two ways lead to an endpoint on another node. A container's frames are bridged: to the endpoint's own MAC. What a
network's namespace sends by itself (connections that came in by a published port) is routed: to the MAC of the
endpoint's *node*, whose namespace forwards it, marks the connection with the node that it came from, and sends the
answers back there: so an endpoint sees the client's address (docs/decisions/0026).

Source: RFC 7348 (VXLAN), ip-link(8) and bridge(8) "vxlan", "proxy", "nolearning".
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from ipaddress import IPv4Address, IPv6Address

from pycompose.worker.network import names
from pycompose.worker.network.model import NetworkSpec, NetworkView, Peer, Underlay

DEVICE = "vx0"
"""Name of the VXLAN device inside a network's namespace."""

OVERHEAD = 50
"""Bytes that VXLAN adds over IPv4: IP 20, UDP 8, VXLAN 8, inner Ethernet 14."""

LEAST_MTU, USUAL_MTU = 68, 1500


@dataclass(frozen=True, order=True)
class Station:
    """A MAC behind a node: an entry of the device's forwarding table. ``port`` 0: the device's own."""

    mac: str
    node: IPv4Address
    port: int = 0


@dataclass(frozen=True)
class Neighbour:
    """An address's MAC. ``device``: DEVICE, for the device's answers to ARP, or the bridge, for what is routed."""

    device: str
    address: IPv4Address | IPv6Address
    mac: str

    @property
    def is_node(self) -> bool:
        """Whether it is a node's, at which answers to what came from there leave."""
        return self.address.version == 4 and self.mac == node_mac(self.address)


Entry = Station | Neighbour


def node_mac(address: IPv4Address) -> str:
    """The locally administered MAC of a node in every network: 02:43 + its address (endpoints have 02:42)."""
    return ":".join(f"{byte:02x}" for byte in b"\x02\x43" + address.packed)


def mark_of(address: IPv4Address) -> int:
    """The mark of connections that came in by a node, and the number of the routing table that leads back there."""
    return int(address)


def fitted(spec: NetworkSpec, underlay: Underlay | None) -> NetworkSpec:
    """A network whose frames fit into the underlay's packets; one that says its own MTU keeps it where it can."""
    if underlay is None or spec.driver != "bridge":
        return spec
    room = max(underlay.mtu - OVERHEAD, LEAST_MTU)
    return replace(spec, mtu=min(spec.mtu or USUAL_MTU, room))


def spans(view: NetworkView) -> dict[str, list[Peer]]:
    """Networks that reach over nodes, with the peers that are told of each."""
    if view.underlay is None or not view.peers:
        return {}
    peers = sorted(view.peers, key=lambda peer: peer.address)
    return {spec.id: peers for spec in view.networks if spec.driver == "bridge" and spec.vni}


def entries(view: NetworkView) -> dict[str, frozenset[Entry]]:
    """All entries that each network's namespace must have."""
    underlay = view.underlay
    wide = spans(view)
    if underlay is None:
        return {}
    nodes: Mapping[str, Peer] = {peer.node_id: peer for peer in view.peers}
    found: dict[str, set[Entry]] = {network: set() for network in wide}
    for network, peers in wide.items():
        for peer in peers:
            mac = node_mac(peer.address)
            found[network].add(Station(mac, peer.address, _port(peer, underlay)))
            found[network].add(Neighbour(names.BRIDGE, peer.address, mac))
    for endpoint in view.endpoints:
        where = nodes.get(endpoint.node_id)
        if where is None or endpoint.network_id not in found:
            continue
        table = found[endpoint.network_id]
        mac = (endpoint.mac or names.mac_of(endpoint.address)).lower().replace("-", ":")
        table.add(Station(mac, where.address, _port(where, underlay)))
        table.add(Neighbour(DEVICE, endpoint.address, mac))
        if endpoint.address6 is not None:
            table.add(Neighbour(DEVICE, endpoint.address6, mac))
        table.add(Neighbour(names.BRIDGE, endpoint.address, node_mac(where.address)))
    return {network: frozenset(table) for network, table in found.items()}


def difference(wanted: Collection[Entry], there: Collection[Entry]) -> tuple[list[Entry], list[Entry]]:
    """(What goes, what comes), stations first; a new value for a key that is there replaces the old one."""
    new = set(wanted) - set(there)
    keys = {_key(entry) for entry in new}
    gone = [entry for entry in set(there) - set(wanted) if _key(entry) not in keys]
    return sorted(gone, key=_order), sorted(new, key=_order)


def _key(entry: Entry) -> tuple[str, str]:
    return ("", entry.mac) if isinstance(entry, Station) else (entry.device, str(entry.address))


def _order(entry: Entry) -> tuple[int, str, str]:
    return (int(isinstance(entry, Neighbour)), *_key(entry))


def _port(peer: Peer, underlay: Underlay) -> int:
    return 0 if peer.port == underlay.port else peer.port
