"""Namespaces and links of networks and containers: blocking kernel work for one thread (setns(2) is per thread)."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Sequence
from ipaddress import IPv4Address, IPv4Interface, IPv4Network
from pathlib import Path

from pycompose.worker.network import names, netlink, netns
from pycompose.worker.network.errors import KernelRefused
from pycompose.worker.network.model import Attachment, NetworkSpec
from pycompose.worker.network.netlink import Netlink

LOOPBACK = 1
EVERYWHERE = IPv4Network("0.0.0.0/0")


class Links:
    """Args: directory: where namespaces are kept as files; instance: see ``names.link_prefix``."""

    def __init__(self, directory: Path, instance: str) -> None:
        self._directory, self._instance = directory, instance
        self._home = netns.current()
        self._nonce = int(time.monotonic_ns())
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
        netns.drop(self.path(name))

    def close(self) -> None:
        """Undo ``open``."""
        netns.unmount_home(self._directory)

    def make_network(self, name: str, spec: NetworkSpec, index: int) -> None:
        """Make a network's namespace with its bridge, and the uplink unless it is internal."""
        descriptor = netns.make(self._home)
        try:
            with netns.inside(descriptor, self._home):
                netns.sysctl("ipv4/ip_forward", "1")
                with Netlink() as link:
                    mac = names.mac_of(spec.gateway)
                    link.run([netlink.set_up(LOOPBACK), netlink.add_bridge(names.BRIDGE, mac, spec.mtu)])
                    bridge = socket.if_nametoindex(names.BRIDGE)
                    gateway = IPv4Interface(f"{spec.gateway}/{spec.subnet.prefixlen}")
                    link.run([netlink.add_address(bridge, gateway)])
            if not spec.internal:
                self._uplink(descriptor, spec, index)
            netns.keep(descriptor, self.path(name))
        finally:
            os.close(descriptor)

    def _uplink(self, descriptor: int, spec: NetworkSpec, index: int) -> None:
        machine_end, network_end = names.transfer_pair(index)
        link_name = names.uplink_name(self._instance, spec.id)
        with Netlink() as link:
            veth = netlink.add_veth(link_name, peer=names.UPLINK, peer_netns=descriptor, mtu=spec.mtu)
            _patiently(link, veth)
            number = socket.if_nametoindex(link_name)
            link.run(
                [
                    netlink.add_address(number, IPv4Interface(f"{machine_end}/30")),
                    netlink.add_route(spec.subnet, network_end, number, replace=True),
                ]
            )
        with netns.inside(descriptor, self._home), Netlink() as link:
            number = socket.if_nametoindex(names.UPLINK)
            link.run(
                [
                    netlink.set_up(number),
                    netlink.add_address(number, IPv4Interface(f"{network_end}/30")),
                    netlink.add_route(EVERYWHERE, machine_end, number),
                ]
            )

    def make_container(
        self, name: str, attachments: Sequence[tuple[Attachment, str, NetworkSpec]], gateway: IPv4Address | None
    ) -> None:
        """Make a container's namespace: one interface per (attachment, its network's name, network)."""
        descriptor = netns.make(self._home)
        try:
            for number, (attachment, network, spec) in enumerate(attachments):
                self._plug(descriptor, name, number, attachment, self.path(network), spec)
            with netns.inside(descriptor, self._home):
                netns.sysctl("ipv4/ip_unprivileged_port_start", "0")
                with Netlink() as link:
                    link.run(_addresses(attachments, gateway))
            netns.keep(descriptor, self.path(name))
        finally:
            os.close(descriptor)

    def _plug(
        self, descriptor: int, name: str, number: int, attachment: Attachment, network: Path, spec: NetworkSpec
    ) -> None:
        self._nonce += 1
        bridge_end = names.port_name(name, attachment.network_id, self._nonce)
        target = netns.open_file(network)
        try:
            with netns.inside(target, self._home), Netlink() as link:
                veth = netlink.add_veth(
                    bridge_end,
                    peer=f"eth{number}",
                    peer_netns=descriptor,
                    peer_mac=attachment.mac,
                    master=socket.if_nametoindex(names.BRIDGE),
                    mtu=spec.mtu,
                )
                link.run([veth])
        finally:
            os.close(target)


def _addresses(
    attachments: Sequence[tuple[Attachment, str, NetworkSpec]], gateway: IPv4Address | None
) -> list[netlink.Message]:
    """What makes the interfaces of the calling thread's namespace, a container's, work; sent together."""
    messages = [netlink.set_up(LOOPBACK)]
    for number, (attachment, _, spec) in enumerate(attachments):
        index = socket.if_nametoindex(f"eth{number}")
        messages += [netlink.set_up(index), netlink.add_address(index, attachment.address)]
        if gateway is not None and spec.gateway == gateway:
            messages.append(netlink.add_route(EVERYWHERE, gateway, index))
            gateway = None
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
