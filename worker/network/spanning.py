"""Makes what ``overlay`` says in networks' namespaces: blocking kernel work for the thread of ``Links``."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterable, Sequence
from contextlib import suppress
from ipaddress import IPv4Address
from pathlib import Path

from pycompose.worker.network import names, netlink, netns, overlay
from pycompose.worker.network.model import NetworkSpec, Underlay
from pycompose.worker.network.netlink import Message, Netlink
from pycompose.worker.network.overlay import DEVICE, Entry, Neighbour, Station

BATCH = 64
"""Messages in one datagram: their answers must fit into the socket's buffer."""


class Spanning:
    """Args: home: descriptor of the machine's namespace, whose UDP sockets carry the frames."""

    def __init__(self, home: int) -> None:
        self._home = home

    def has_device(self, network: Path) -> bool:
        """Return whether a network's namespace has a VXLAN device."""
        with netns.visiting(network, self._home):
            return _index(DEVICE) != 0

    def make(self, network: Path, spec: NetworkSpec, underlay: Underlay) -> None:
        """Give a network's namespace a VXLAN device on its bridge; one that is there with other values is replaced.

        The namespace forwards between nodes: no reverse-path filter (answers leave by another way than the route to
        their target), and no redirects (RFC 1812, 5.3.8 and 5.2.7.2).
        """
        target = netns.open_file(network)
        try:
            with Netlink() as link:
                link.run(
                    [
                        netlink.add_vxlan(
                            DEVICE,
                            target_netns=target,
                            vni=spec.vni,
                            local=underlay.address,
                            port=underlay.port,
                            mac=overlay.node_mac(underlay.address),
                            mtu=spec.mtu,
                        )
                    ]
                )
            with netns.inside(target, self._home), Netlink() as link:
                for name in ("all", names.BRIDGE):
                    netns.sysctl(f"ipv4/conf/{name}/rp_filter", "0")
                    netns.sysctl(f"ipv4/conf/{name}/send_redirects", "0")
                bridge, device = socket.if_nametoindex(names.BRIDGE), socket.if_nametoindex(DEVICE)
                link.run(
                    [
                        netlink.set_master(device, bridge),
                        netlink.set_tunnel(device, isolated=not spec.talk),
                        netlink.set_up(device),
                    ]
                )
        finally:
            os.close(target)

    def remove(self, network: Path, there: Iterable[Entry]) -> None:
        """Take the device away, and what belongs to it."""
        self.change(network, list(there), [])
        with netns.visiting(network, self._home), Netlink() as link:
            device = _index(DEVICE)
            if device:
                link.run([netlink.delete_link(device)])

    def change(self, network: Path, gone: Sequence[Entry], new: Sequence[Entry]) -> None:
        """Take entries away and add others, many in one datagram. Raises KernelRefused."""
        with netns.visiting(network, self._home), Netlink() as link:
            index = {name: _index(name) for name in (DEVICE, names.BRIDGE)}
            messages = [m for entry in gone for m in _messages(entry, index, add=False)]
            messages += [m for entry in new for m in _messages(entry, index, add=True)]
            for first in range(0, len(messages), BATCH):
                link.run(messages[first : first + BATCH])

    def read(self, network: Path) -> frozenset[Entry]:
        """Return the entries that a network's namespace has."""
        with netns.visiting(network, self._home), Netlink() as link:
            device, bridge = _index(DEVICE), _index(names.BRIDGE)
            found: set[Entry] = set()
            if device:
                found |= {Station(mac, node, port) for mac, node, port in link.stations(device)}
                found |= {Neighbour(DEVICE, address, mac) for address, mac in link.neighbours(device)}
            return frozenset(found | {Neighbour(names.BRIDGE, a, mac) for a, mac in link.neighbours(bridge)})

    def fit(self, network: Path, mtu: int, uplink: str, containers: Iterable[tuple[Path, str]]) -> None:
        """Change the MTU of a network that was made before: of its bridge, ports, way out, and containers' interfaces.

        Args:
            network: its namespace.
            mtu: in bytes.
            uplink: the machine's end of its way out, if it has one.
            containers: (namespace, name of the interface) of those on it.
        """
        with netns.visiting(network, self._home), Netlink() as link:
            indices = [number for number, name in socket.if_nameindex() if name not in ("lo", DEVICE)]
            link.run([netlink.set_mtu(number, mtu) for number in indices])
        with Netlink() as link:
            if number := _index(uplink):
                link.run([netlink.set_mtu(number, mtu)])
        for container, name in containers:
            with suppress(OSError), netns.visiting(container, self._home), Netlink() as link:
                link.run([netlink.set_mtu(socket.if_nametoindex(name), mtu)])

    def mtu(self, network: Path) -> int:
        """Return the MTU of a network's bridge."""
        with netns.visiting(network, self._home):
            return netlink.mtu_of(names.BRIDGE)


def underlay_of(address: str, port: int) -> Underlay | None:
    """Return the machine's address as what carries other networks; None: it is no IPv4 address."""
    try:
        own = IPv4Address(address)
    except ValueError:
        return None
    with Netlink() as link:
        for number, name in socket.if_nameindex():
            if own in [each.ip for each in link.addresses(number)]:
                return Underlay(own, port, netlink.mtu_of(name))
    return Underlay(own, port, overlay.USUAL_MTU)


def _index(name: str) -> int:
    try:
        return socket.if_nametoindex(name)
    except OSError:
        return 0


def _messages(entry: Entry, index: dict[str, int], *, add: bool) -> list[Message]:
    if isinstance(entry, Station):
        return [netlink.station(index[DEVICE], entry.mac, entry.node, entry.port, add=add)]
    number = index[entry.device]
    made = [netlink.neighbour(number, entry.address, entry.mac, add=add)]
    if entry.device == names.BRIDGE and entry.is_node and entry.address.version == 4:
        made += netlink.way_back(number, entry.address, overlay.mark_of(entry.address), add=add)
    return made
