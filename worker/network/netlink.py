"""rtnetlink(7): links, addresses and routes of the namespace that the calling thread is in.

Messages are built here and sent several in one datagram: the kernel handles them in order and answers each
(netlink(7)), so that attaching a container takes two round trips. pyroute2 would do the same, but its import
takes 170 ms and its memory stays in the agent.
"""

from __future__ import annotations

import errno
import fcntl
import os
import socket
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from ipaddress import (
    IPv4Address,
    IPv4Interface,
    IPv4Network,
    IPv6Address,
    IPv6Interface,
    IPv6Network,
    ip_address,
    ip_interface,
)

from pycompose.worker.network.errors import KernelRefused

_NEWLINK, _SETLINK, _NEWADDR, _GETADDR, _NEWROUTE, _NEWNEIGH = 16, 19, 20, 22, 24, 28
_REQUEST, _ACK, _EXCL, _DUMP, _CREATE = 0x1, 0x4, 0x200, 0x300, 0x400
_REPLACE = 0x100
_ERROR, _DONE = 2, 3
_IFLA_ADDRESS, _IFLA_IFNAME, _IFLA_MTU, _IFLA_MASTER, _IFLA_LINKINFO, _IFLA_NET_NS_FD = 1, 3, 4, 10, 18, 28
_IFLA_LINK, _IFLA_PROTINFO, _NESTED = 5, 12, 0x8000
_IFLA_BRPORT_LEARNING, _IFLA_BRPORT_UNICAST_FLOOD, _IFLA_BRPORT_ISOLATED = 8, 9, 33
_NTF_MASTER, _NUD_NOARP = 0x04, 0x40
_IFA_ADDRESS, _IFA_LOCAL, _IFA_FLAGS, _IFA_F_NODAD, _IFA_F_PERMANENT = 1, 2, 8, 0x02, 0x80
_AF_BRIDGE = 7
_DELNEIGH, _GETNEIGH, _DELROUTE, _NEWRULE, _DELRULE, _DELLINK = 29, 30, 25, 32, 33, 17
_NTF_SELF, _NUD_PERMANENT = 0x02, 0x80
_NDA_DST, _NDA_LLADDR, _NDA_PORT = 1, 2, 6
_RTA_TABLE, _RTNH_F_ONLINK, _SIOCGIFMTU = 15, 4, 0x8921
#: What is there already, or gone already, is as it should be.
_THERE, _GONE = (errno.EEXIST,), (errno.ENOENT, errno.ESRCH, errno.ENODEV)
_UP = 0x1
#: IFLA_MACVLAN_MODE (linux/if_link.h).
MACVLAN_MODES = {"private": 1, "vepa": 2, "bridge": 4, "passthru": 8}

Interface = IPv4Interface | IPv6Interface


@dataclass(frozen=True)
class Message:
    """One request; ``what`` names it in an error; ``fine``: errnos that are none."""

    kind: int
    flags: int
    payload: bytes
    what: str
    fine: tuple[int, ...] = ()


def _attr(kind: int, data: bytes) -> bytes:
    return struct.pack("=HH", 4 + len(data), kind) + data + bytes(-len(data) % 4)


def _text(kind: int, text: str) -> bytes:
    return _attr(kind, text.encode() + b"\0")


def _u32(kind: int, number: int) -> bytes:
    return _attr(kind, struct.pack("=I", number))


def _ifinfo(index: int = 0, up: bool | None = None) -> bytes:
    change = 0 if up is None else _UP
    return struct.pack("=BxHiII", 0, 0, index, _UP if up else 0, change)


def _mac(text: str) -> bytes:
    return _attr(_IFLA_ADDRESS, bytes.fromhex(text.replace(":", "")))


def set_up(index: int) -> Message:
    """Bring a link up."""
    return Message(_NEWLINK, 0, _ifinfo(index, True), f"bring link {index} up")


def move_link(index: int, netns: int, name: str) -> Message:
    """Move a link, which is taken down, to the namespace of descriptor ``netns``, where it has this name."""
    payload = _ifinfo(index, False) + _text(_IFLA_IFNAME, name) + _u32(_IFLA_NET_NS_FD, netns)
    return Message(_NEWLINK, 0, payload, f"move link {index} as {name}")


def add_bridge(name: str, mac: str, mtu: int) -> Message:
    """Make a bridge, up, with a fixed MAC (else it follows its ports)."""
    info = _attr(_IFLA_LINKINFO, _text(1, "bridge"))
    payload = _ifinfo(up=True) + _text(_IFLA_IFNAME, name) + _mac(mac) + info
    if mtu:
        payload += _u32(_IFLA_MTU, mtu)
    return Message(_NEWLINK, _CREATE | _EXCL, payload, f"add bridge {name}")


def add_veth(
    name: str, *, peer: str, peer_netns: int, peer_mac: str | None = None, master: int = 0, mtu: int = 0
) -> Message:
    """Make a veth pair: ``name`` here, up; ``peer`` in the namespace of descriptor ``peer_netns`` (veth(4)).

    The peer is down: the kernel refuses (ENOTCONN) to bring an end up that does not know its other end yet.
    """
    size = _u32(_IFLA_MTU, mtu) if mtu else b""
    other = _ifinfo() + _text(_IFLA_IFNAME, peer) + _u32(_IFLA_NET_NS_FD, peer_netns) + size
    if peer_mac:
        other += _mac(peer_mac)
    info = _attr(_IFLA_LINKINFO, _text(1, "veth") + _attr(2, _attr(1, other)))
    payload = _ifinfo(up=True) + _text(_IFLA_IFNAME, name) + size + info
    if master:
        payload += _u32(_IFLA_MASTER, master)
    return Message(_NEWLINK, _CREATE | _EXCL, payload, f"add veth {name} with peer {peer}")


def set_port(index: int, *, isolated: bool) -> Message:
    """Let a bridge's port teach the bridge no MACs, and get no frames for MACs that the bridge does not know.

    ``isolated``: it reaches no other such port, only the bridge itself. Source: bridge(8), "learning", "flood".
    """
    head = struct.pack("=BxHiII", _AF_BRIDGE, 0, index, 0, 0)
    setting = _attr(_IFLA_BRPORT_LEARNING, b"\0") + _attr(_IFLA_BRPORT_UNICAST_FLOOD, b"\0")
    setting += _attr(_IFLA_BRPORT_ISOLATED, b"\1") if isolated else b""
    return Message(_SETLINK, 0, head + _attr(_IFLA_PROTINFO | _NESTED, setting), f"set up port {index}")


def set_tunnel(index: int, *, isolated: bool) -> Message:
    """Let the bridge's port of a VXLAN device teach nothing; frames for MACs that the bridge does not know go there."""
    head = struct.pack("=BxHiII", _AF_BRIDGE, 0, index, 0, 0)
    setting = _attr(_IFLA_BRPORT_LEARNING, b"\0") + (_attr(_IFLA_BRPORT_ISOLATED, b"\1") if isolated else b"")
    return Message(_SETLINK, 0, head + _attr(_IFLA_PROTINFO | _NESTED, setting), f"set up tunnel {index}")


def add_station(index: int, mac: str) -> Message:
    """Tell a bridge which MAC is behind its port, for good (bridge(8), "fdb add ... master static")."""
    head = struct.pack("=BxHiHBB", _AF_BRIDGE, 0, index, _NUD_NOARP, _NTF_MASTER, 0)
    payload = head + _attr(2, bytes.fromhex(mac.replace(":", "")))
    return Message(_NEWNEIGH, _CREATE | _REPLACE, payload, f"tell the bridge of {mac}")


def add_macvlan(
    name: str, *, parent: int, mode: str, target_netns: int, mac: str | None = None, mtu: int = 0
) -> Message:
    """Make a macvlan link above ``parent``, in the namespace of descriptor ``target_netns`` (ip-link(8))."""
    info = _attr(_IFLA_LINKINFO, _text(1, "macvlan") + _attr(2, _u32(1, MACVLAN_MODES[mode])))
    payload = _ifinfo() + _text(_IFLA_IFNAME, name) + _u32(_IFLA_LINK, parent) + _u32(_IFLA_NET_NS_FD, target_netns)
    payload += (_mac(mac) if mac else b"") + (_u32(_IFLA_MTU, mtu) if mtu else b"") + info
    return Message(_NEWLINK, _CREATE | _EXCL, payload, f"add macvlan {name}")


def add_vxlan(name: str, *, target_netns: int, vni: int, local: IPv4Address, port: int, mac: str, mtu: int) -> Message:
    """Make a VXLAN device in the namespace of descriptor ``target_netns``; its packets go by the namespace that asks.

    It learns nothing, answers ARP itself, and sends to nobody that it was not told of (ip-link(8), RFC 7348).
    """
    off, on = b"\0", b"\1"
    data = _u32(1, vni) + _attr(4, local.packed) + _attr(7, off) + _attr(11, on) + _attr(15, struct.pack(">H", port))
    info = _attr(_IFLA_LINKINFO, _text(1, "vxlan") + _attr(2, data))
    payload = _ifinfo() + _text(_IFLA_IFNAME, name) + _u32(_IFLA_NET_NS_FD, target_netns) + _mac(mac)
    return Message(_NEWLINK, _CREATE | _EXCL, payload + _u32(_IFLA_MTU, mtu) + info, f"add VXLAN device {name}")


def set_master(index: int, master: int) -> Message:
    """Make a link a bridge's port."""
    return Message(_NEWLINK, 0, _ifinfo(index) + _u32(_IFLA_MASTER, master), f"put link {index} on its bridge")


def set_mtu(index: int, mtu: int) -> Message:
    """Change the longest packet of a link."""
    return Message(_NEWLINK, 0, _ifinfo(index) + _u32(_IFLA_MTU, mtu), f"set the MTU of link {index} to {mtu}")


def delete_link(index: int) -> Message:
    """Remove a link."""
    return Message(_DELLINK, 0, _ifinfo(index), f"remove link {index}", _GONE)


def station(index: int, mac: str, remote: IPv4Address, port: int, *, add: bool) -> Message:
    """Tell a VXLAN device, or no longer, behind which address a MAC is; ``port`` 0: the device's own."""
    head = struct.pack("=BxHiHBB", _AF_BRIDGE, 0, index, _NUD_PERMANENT | _NUD_NOARP, _NTF_SELF, 0)
    payload = head + _attr(_NDA_LLADDR, bytes.fromhex(mac.replace(":", "")))
    if not add:
        return Message(_DELNEIGH, 0, payload, f"forget {mac}", _GONE)
    payload += _attr(_NDA_DST, remote.packed) + (_attr(_NDA_PORT, struct.pack(">H", port)) if port else b"")
    return Message(_NEWNEIGH, _CREATE | _REPLACE, payload, f"tell that {mac} is behind {remote}")


def neighbour(index: int, address: IPv4Address | IPv6Address, mac: str, *, add: bool) -> Message:
    """Write an address's MAC down for good, or remove it (ip-neighbour(8))."""
    family = socket.AF_INET if address.version == 4 else socket.AF_INET6
    payload = struct.pack("=BxHiHBB", family, 0, index, _NUD_PERMANENT, 0, 0) + _attr(_NDA_DST, address.packed)
    if not add:
        return Message(_DELNEIGH, 0, payload, f"forget neighbour {address}", _GONE)
    payload += _attr(_NDA_LLADDR, bytes.fromhex(mac.replace(":", "")))
    return Message(_NEWNEIGH, _CREATE | _REPLACE, payload, f"tell of neighbour {address}")


def way_back(index: int, via: IPv4Address, mark: int, *, add: bool) -> list[Message]:
    """What leads packets with a mark to a neighbour on a link, or no longer: a table of that number, and its rule."""
    rule = struct.pack("=BBBBBBBBI", socket.AF_INET, 0, 0, 0, 0, 0, 0, 1, 0)
    rule += _u32(6, 100) + _u32(10, mark) + _u32(_RTA_TABLE, mark)
    route = struct.pack("=BBBBBBBBI", socket.AF_INET, 0, 0, 0, 0, 3, 0, 1, _RTNH_F_ONLINK)
    route += _attr(5, via.packed) + _u32(4, index) + _u32(_RTA_TABLE, mark)
    if add:
        return [
            Message(_NEWROUTE, _CREATE | _REPLACE, route, f"lead the way back to {via}"),
            Message(_NEWRULE, _CREATE | _EXCL, rule, f"lead the mark of {via}", _THERE),
        ]
    return [
        Message(_DELRULE, 0, rule, f"forget the mark of {via}", _GONE),
        Message(_DELROUTE, 0, route, f"forget the way back to {via}", _GONE),
    ]


def add_address(index: int, address: Interface) -> Message:
    """Give an interface an address and, by its prefix, an on-link route. IPv6: without looking for duplicates."""
    packed, scope = address.ip.packed, 0
    if address.version == 4:
        network = address.network
        more = _attr(4, network.broadcast_address.packed) if network.prefixlen < 31 else b""
        scope = 253 if address.ip.is_link_local else 0
        kind = socket.AF_INET
    else:
        more, kind = _u32(_IFA_FLAGS, _IFA_F_NODAD), socket.AF_INET6
    head = struct.pack("=BBBBi", kind, address.network.prefixlen, 0, scope, index)
    return Message(
        _NEWADDR, _CREATE | _EXCL, head + _attr(2, packed) + _attr(1, packed) + more, f"add address {address}"
    )


def add_route(
    destination: IPv4Network | IPv6Network, via: IPv4Address | IPv6Address, index: int, *, replace: bool = False
) -> Message:
    """Route ``destination`` (0.0.0.0/0 or ::/0: the default) by a gateway."""
    kind = socket.AF_INET if destination.version == 4 else socket.AF_INET6
    head = struct.pack("=BBBBBBBBI", kind, destination.prefixlen, 0, 0, 254, 3, 0, 1, 0)
    attrs = _attr(5, via.packed) + _u32(4, index)
    if destination.prefixlen:
        attrs += _attr(1, destination.network_address.packed)
    flags = _CREATE | (_REPLACE if replace else _EXCL)
    return Message(_NEWROUTE, flags, head + attrs, f"route {destination} via {via}")


def mtu_of(name: str) -> int:
    """Return a link's MTU in bytes (netdevice(7), SIOCGIFMTU)."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
        answer = fcntl.ioctl(asking, _SIOCGIFMTU, struct.pack("16si", name.encode(), 0))
    return int(struct.unpack_from("16si", answer)[1])


class Netlink:
    """A socket in the namespace that the opening thread is in; a context manager (an open one pins the namespace)."""

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, 0)
        self._socket.bind((0, 0))
        self._sequence = 0

    def __enter__(self) -> Netlink:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def run(self, messages: Sequence[Message]) -> None:
        """Send all, in order.

        Raises:
            KernelRefused: for the first that failed; those behind it were tried all the same.
        """
        pending: dict[int, Message] = {}
        data = b""
        for message in messages:
            self._sequence += 1
            pending[self._sequence] = message
            data += self._frame(message.kind, message.flags | _REQUEST | _ACK, message.payload)
        self._socket.send(data)
        refused: KernelRefused | None = None
        while pending:
            for kind, sequence, payload in self._receive():
                if kind != _ERROR or sequence not in pending:
                    continue
                message = pending.pop(sequence)
                status = -struct.unpack_from("=i", payload)[0]
                if status and status not in message.fine and refused is None:
                    refused = KernelRefused(f"the kernel refused to {message.what}: {os.strerror(status)}")
                    refused.__cause__ = OSError(status, os.strerror(status))
        if refused is not None:
            raise refused

    def addresses(self, index: int) -> list[Interface]:
        """A link's permanent addresses of global scope (rtnetlink(7), RTM_GETADDR)."""
        head = struct.pack("=BBBBi", 0, 0, 0, 0, 0)
        found = (_global_address(payload, index) for payload in self._dump(_GETADDR, head))
        return [address for address in found if address is not None]

    def stations(self, index: int) -> list[tuple[str, IPv4Address, int]]:
        """(MAC, node, port or 0) of each entry of a VXLAN device that leads to a node."""
        found = []
        for payload in self._dump(_GETNEIGH, struct.pack("=BxHiHBB", _AF_BRIDGE, 0, 0, 0, 0, 0)):
            _, number, _, flags, _ = struct.unpack_from("=BxxxiHBB", payload)
            values = _attributes(payload, 12)
            if number == index and flags & _NTF_SELF and len(values.get(_NDA_DST, b"")) == 4:
                port = struct.unpack(">H", values.get(_NDA_PORT, b"\0\0"))[0]
                found.append((values[_NDA_LLADDR].hex(":"), IPv4Address(values[_NDA_DST]), port))
        return found

    def neighbours(self, index: int) -> list[tuple[IPv4Address | IPv6Address, str]]:
        """(Address, MAC) of a link's neighbours that were written down for good."""
        found: list[tuple[IPv4Address | IPv6Address, str]] = []
        for family in (socket.AF_INET, socket.AF_INET6):
            for payload in self._dump(_GETNEIGH, struct.pack("=BxHiHBB", family, 0, 0, 0, 0, 0)):
                _, number, state, _, _ = struct.unpack_from("=BxxxiHBB", payload)
                values = _attributes(payload, 12)
                if number == index and state & _NUD_PERMANENT and len(values.get(_NDA_LLADDR, b"")) == 6:
                    found.append((ip_address(values[_NDA_DST]), values[_NDA_LLADDR].hex(":")))
        return found

    def _dump(self, kind: int, head: bytes) -> Iterator[bytes]:
        self._sequence += 1
        self._socket.send(self._frame(kind, _REQUEST | _DUMP, head))
        while True:
            for answer, sequence, payload in self._receive():
                if sequence != self._sequence:
                    continue
                if answer in (_DONE, _ERROR):
                    return
                yield payload

    def _frame(self, kind: int, flags: int, payload: bytes) -> bytes:
        return struct.pack("=IHHII", 16 + len(payload), kind, flags, self._sequence, 0) + payload

    def _receive(self) -> list[tuple[int, int, bytes]]:
        data = self._socket.recv(1 << 18)
        found = []
        while len(data) >= 16:
            length, kind, _, sequence, _ = struct.unpack_from("=IHHII", data)
            found.append((kind, sequence, data[16:length]))
            data = data[(length + 3) & ~3 :]
        return found


def _global_address(payload: bytes, wanted: int) -> Interface | None:
    _, prefix, flags, scope, index = struct.unpack_from("=BBBBi", payload)
    if index != wanted or scope != 0 or not flags & _IFA_F_PERMANENT:
        return None
    attributes = _attributes(payload, 8)
    return ip_interface((attributes.get(_IFA_LOCAL, attributes[_IFA_ADDRESS]), prefix))


def _attributes(payload: bytes, offset: int) -> dict[int, bytes]:
    found = {}
    while offset + 4 <= len(payload):
        length, kind = struct.unpack_from("=HH", payload, offset)
        found[kind] = payload[offset + 4 : offset + length]
        offset += (length + 3) & ~3
    return found
