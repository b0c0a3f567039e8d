"""Namespaces and links of networks and containers: blocking kernel work for one thread (setns(2) is per thread)."""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from ipaddress import (
    IPv4Address,
    IPv4Interface,
    IPv4Network,
    IPv6Address,
    IPv6Interface,
    IPv6Network,
    ip_interface,
)
from pathlib import Path

from pycompose.worker.network import names, netlink, netns, nft_elements, portfilter
from pycompose.worker.network.errors import KernelRefused
from pycompose.worker.network.model import Attachment, NetworkSpec
from pycompose.worker.network.netlink import Netlink
from pycompose.worker.network.spanning import Spanning

LOOPBACK = 1
EVERYWHERE = IPv4Network("0.0.0.0/0")
EVERYWHERE6 = IPv6Network("::/0")


class Links:
    """Args: directory: where namespaces are kept as files; instance: see ``names.link_prefix``; table: nftables'."""

    def __init__(self, directory: Path, instance: str, table: str) -> None:
        self._directory, self._instance, self._table = directory, instance, table
        self._home = netns.current()
        self.spanning = Spanning(self._home)
        #: Name of a network -> socket by which its filter's elements are changed.
        self._speakers: dict[str, socket.socket] = {}
        #: Whether the machine did not forward before us.
        self.forwarding_set = False

    def open(self) -> None:
        """Make the directory ready; the machine forwards from now on."""
        netns.mount_home(self._directory)
        if netns.read_sysctl("ipv4/ip_forward") != "1":
            netns.sysctl("ipv4/ip_forward", "1")
            self.forwarding_set = True

    def path(self, name: str) -> Path:
        """Return the file of a namespace."""
        return self._directory / name

    def kept(self) -> list[str]:
        """Return the names of namespaces that are kept; what was being made when the node was killed goes."""
        found = []
        for name in sorted(os.listdir(self._directory)):
            if os.path.ismount(self.path(name)):
                found.append(name)
            else:
                self.drop(name)
        return found

    def drop(self, name: str) -> None:
        """Let a namespace go, and with it its links."""
        speaker = self._speakers.pop(name, None)
        if speaker is not None:  # nobody has to wait for it (``nft_elements.speaker``)
            threading.Thread(target=speaker.close, name="close a socket", daemon=True).start()
        netns.drop(self.path(name))

    def close(self) -> None:
        """Undo ``open``."""
        netns.unmount_home(self._directory)

    def release(self) -> None:
        """Let no descriptor keep a namespace; what was made stays."""
        while self._speakers:
            self._speakers.popitem()[1].close()

    def make_network(self, name: str, spec: NetworkSpec, index: int) -> None:
        """Make a network's namespace with its bridge, and the uplink unless it is internal."""
        descriptor = netns.make(self._home)
        try:
            with netns.inside(descriptor, self._home):
                netns.sysctl("ipv4/ip_forward", "1")
                if spec.subnet6 is not None:
                    netns.sysctl("ipv6/conf/all/forwarding", "1")
                else:
                    netns.sysctl("ipv6/conf/default/disable_ipv6", "1")
                with Netlink() as link:
                    mac = names.mac_of(spec.gateway)
                    link.run([netlink.set_up(LOOPBACK), netlink.add_bridge(names.BRIDGE, mac, spec.mtu)])
                    bridge = socket.if_nametoindex(names.BRIDGE)
                    link.run([netlink.add_address(bridge, address) for address in _gateways(spec)])
            if not spec.internal:
                self._uplink(descriptor, spec, index)
            netns.keep(descriptor, self.path(name))
        finally:
            os.close(descriptor)

    def _uplink(self, descriptor: int, spec: NetworkSpec, index: int) -> None:
        """Join the network's namespace and the machine; each version of IP has a pair of addresses on this way."""
        ways: list[_Way] = [_Way(spec.subnet, EVERYWHERE, *names.transfer_pair(index), 30)]
        if spec.subnet6 is not None:
            ways.append(_Way(spec.subnet6, EVERYWHERE6, *names.transfer_pair6(index), 126))
            netns.forward6()
        link_name = names.uplink_name(self._instance, spec.id)
        with Netlink() as link:
            veth = netlink.add_veth(link_name, peer=names.UPLINK, peer_netns=descriptor, mtu=spec.mtu)
            _patiently(link, veth)
            number = socket.if_nametoindex(link_name)
            messages = []
            for way in ways:
                messages.append(netlink.add_address(number, ip_interface(f"{way.machine}/{way.length}")))
                messages.append(netlink.add_route(way.subnet, way.network, number, replace=True))
            link.run(messages)
        with netns.inside(descriptor, self._home), Netlink() as link:
            number = socket.if_nametoindex(names.UPLINK)
            messages = [netlink.set_up(number)]
            for way in ways:
                messages.append(netlink.add_address(number, ip_interface(f"{way.network}/{way.length}")))
                messages.append(netlink.add_route(way.everywhere, way.machine, number))
            link.run(messages)

    def prepare(self, given: Path | None = None) -> int:
        """Make a namespace for a container that is yet to come: its descriptor, with loopback up.

        Interfaces that are put in have no IPv6 until they are given an address of it. ``given``: the file of a
        namespace to take instead of a new one.
        """
        descriptor = netns.open_file(given) if given else netns.make(self._home)
        try:
            with netns.inside(descriptor, self._home), Netlink() as link:
                link.run([netlink.set_up(LOOPBACK)])
                netns.sysctl("ipv4/ip_unprivileged_port_start", "0")
                netns.sysctl("ipv6/conf/default/disable_ipv6", "1")
        except BaseException:
            os.close(descriptor)
            raise
        return descriptor

    def make_container(
        self,
        name: str,
        attachments: Sequence[tuple[Attachment, str, NetworkSpec]],
        outward: NetworkSpec | None,
        nonce: int,
        descriptor: int | None = None,
        given: Path | None = None,
    ) -> None:
        """Make a container's namespace.

        Args:
            name: of its file.
            attachments: one interface per (attachment, its network's name, network).
            outward: the network that the default route leads to.
            nonce: see ``names.port_name``.
            descriptor: of a namespace from ``prepare``, closed here; None: make one.
            given: see ``prepare``.
        """
        if descriptor is None:
            descriptor = self.prepare(given)
        try:
            inside = names.interface_names([(attachment.interface, spec.prefix) for attachment, _, spec in attachments])
            for link_name, (attachment, network, spec) in zip(inside, attachments, strict=True):
                if spec.driver == "macvlan":
                    self._sit(descriptor, link_name, attachment, spec)
                else:
                    port = portfilter.port_of(name, attachment, nonce)
                    self._plug(descriptor, link_name, port, network, spec)
            with netns.inside(descriptor, self._home):
                for link_name, (attachment, _, spec) in zip(inside, attachments, strict=True):
                    if spec.driver == "macvlan" or _speaks6(attachment):
                        netns.sysctl(f"ipv6/conf/{link_name}/disable_ipv6", "0")
                    for key, value in attachment.sysctls:
                        netns.sysctl(key.replace("IFNAME", link_name), value)
                if inside:
                    with Netlink() as link:
                        link.run(_addresses(inside, attachments, outward))
            netns.keep(descriptor, self.path(name))
        finally:
            os.close(descriptor)

    def unplug(self, ports: Sequence[tuple[str, portfilter.Port]]) -> None:
        """Take ports, (their network's name, port) each, out of the filters of their networks."""
        for network, port in ports:
            with suppress(FileNotFoundError):
                nft_elements.change(self._speaker(network), self._table, portfilter.keys(port), add=False)

    def _speaker(self, network: str) -> socket.socket:
        """The socket of a network's namespace, made when it is missing; raises FileNotFoundError without namespace."""
        if network not in self._speakers:
            target = netns.open_file(self.path(network))
            try:
                with netns.inside(target, self._home):
                    self._speakers[network] = nft_elements.speaker()
            finally:
                os.close(target)
        return self._speakers[network]

    def _sit(self, descriptor: int, inside: str, attachment: Attachment, spec: NetworkSpec) -> None:
        """Make a macvlan interface above a link of the machine."""
        with Netlink() as link:
            try:
                parent = socket.if_nametoindex(spec.parent)
            except OSError:
                raise KernelRefused(
                    f"network {spec.name}: this machine has no interface {spec.parent}; name one of its interfaces "
                    "as parent (ip link)"
                ) from None
            made = netlink.add_macvlan(
                inside, parent=parent, mode=spec.mode, target_netns=descriptor, mac=attachment.mac, mtu=spec.mtu
            )
            link.run([made])

    def _plug(self, descriptor: int, inside: str, port: portfilter.Port, network: str, spec: NetworkSpec) -> None:
        """Make a pair of interfaces, one end in the container, the other on the network's bridge."""
        target = netns.open_file(self.path(network))
        try:
            with netns.inside(target, self._home), Netlink() as link:
                veth = netlink.add_veth(
                    port.link,
                    peer=inside,
                    peer_netns=descriptor,
                    peer_mac=port.mac,
                    master=socket.if_nametoindex(names.BRIDGE),
                    mtu=spec.mtu,
                )
                link.run([veth])
                number = socket.if_nametoindex(port.link)
                link.run([netlink.set_port(number, isolated=not spec.talk), netlink.add_station(number, port.mac)])
        finally:
            os.close(target)
        nft_elements.change(self._speaker(network), self._table, portfilter.keys(port), add=True)


@dataclass(frozen=True)
class _Way:
    """One version of IP over an uplink: what lies behind it, what it leads to, and both ends' addresses."""

    subnet: IPv4Network | IPv6Network
    everywhere: IPv4Network | IPv6Network
    machine: IPv4Address | IPv6Address
    network: IPv4Address | IPv6Address
    length: int


def _gateways(spec: NetworkSpec) -> list[IPv4Interface | IPv6Interface]:
    found: list[IPv4Interface | IPv6Interface] = [IPv4Interface(f"{spec.gateway}/{spec.subnet.prefixlen}")]
    if spec.subnet6 is not None:
        found.append(IPv6Interface(f"{spec.gateway6}/{spec.subnet6.prefixlen}"))
    return found


def _speaks6(attachment: Attachment) -> bool:
    return attachment.address6 is not None or any(address.version == 6 for address in attachment.more)


def _addresses(
    inside: Sequence[str], attachments: Sequence[tuple[Attachment, str, NetworkSpec]], outward: NetworkSpec | None
) -> list[netlink.Message]:
    """What makes the interfaces of the calling thread's namespace, a container's, work; sent together.

    ``inside``: their names; ``outward``: the network that the default routes lead to.
    """
    messages: list[netlink.Message] = []
    for name, (attachment, _, spec) in zip(inside, attachments, strict=True):
        index = socket.if_nametoindex(name)
        messages += [netlink.set_up(index), netlink.add_address(index, attachment.address)]
        more = [*([attachment.address6] if attachment.address6 else []), *attachment.more]
        messages += [netlink.add_address(index, address) for address in more]
        if spec is outward:
            messages.append(netlink.add_route(EVERYWHERE, spec.gateway, index))
            if attachment.address6 and spec.gateway6:
                messages.append(netlink.add_route(EVERYWHERE6, spec.gateway6, index))
            outward = None
    return messages


def _patiently(link: Netlink, message: netlink.Message) -> None:
    """The kernel removes a dropped namespace's links some time later; until then their names are taken."""
    for attempt in range(100):
        try:
            link.run([message])
            return
        except KernelRefused:
            if attempt == 99:
                raise
            time.sleep(0.02)
