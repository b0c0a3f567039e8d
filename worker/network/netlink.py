"""rtnetlink(7): links, addresses and routes of the namespace that the calling thread is in.

Messages are built here and sent several in one datagram: the kernel handles them in order and answers each
(netlink(7)), so that attaching a container takes two round trips. pyroute2 would do the same, but its import
takes 170 ms and its memory stays in the agent.
"""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Sequence
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
_UP = 0x1
#: IFLA_MACVLAN_MODE (linux/if_link.h).
MACVLAN_MODES = {"private": 1, "vepa": 2, "bridge": 4, "passthru": 8}

Interface = IPv4Interface | IPv6Interface


@dataclass(frozen=True)
class Message:
    """One request; ``what`` names it in an error."""

    kind: int
    flags: int
    payload: bytes
    what: str


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
                errno = -struct.unpack_from("=i", payload)[0]
                if errno and refused is None:
                    refused = KernelRefused(f"the kernel refused to {message.what}: {os.strerror(errno)}")
                    refused.__cause__ = OSError(errno, os.strerror(errno))
        if refused is not None:
            raise refused

    def addresses(self, index: int) -> list[Interface]:
        """A link's permanent addresses of global scope (rtnetlink(7), RTM_GETADDR)."""
        self._sequence += 1
        self._socket.send(self._frame(_GETADDR, _REQUEST | _DUMP, struct.pack("=BBBBi", 0, 0, 0, 0, 0)))
        found: list[Interface] = []
        while True:
            for kind, sequence, payload in self._receive():
                if sequence != self._sequence:
                    continue
                if kind in (_DONE, _ERROR):
                    return found
                address = _global_address(payload, index)
                if address is not None:
                    found.append(address)

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
    attributes, offset = {}, 8
    while offset + 4 <= len(payload):
        length, kind = struct.unpack_from("=HH", payload, offset)
        attributes[kind] = payload[offset + 4 : offset + length]
        offset += (length + 3) & ~3
    return ip_interface((attributes.get(_IFA_LOCAL, attributes[_IFA_ADDRESS]), prefix))
