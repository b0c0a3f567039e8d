"""Names and addresses derived from ids: pure, so that a restarted daemon derives the same.

Interface names have at most 15 characters (IFNAMSIZ, netdevice(7)): ``pyc`` + instance + kind + hash.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

from pycompose.worker.network.model import Attachment

TRANSFER_POOL = IPv4Network("100.64.0.0/16")
"""Transfer addresses between the machine and a network's namespace (RFC 6598), four per network."""

TRANSFER_POOL6 = IPv6Network("fd70:7963:6eff::/64")
"""The same for networks with IPv6 (RFC 4193)."""

BRIDGE = "br0"
UPLINK = "up0"
"""Names inside a network's namespace; they need not differ between networks."""


def link_prefix(instance: str) -> str:
    """Prefix of every link that this node makes in the machine's namespace; ``instance``: up to 3 characters."""
    if len(instance) > 3 or not (instance == "" or instance.isalnum()):
        raise ValueError(f"instance {instance!r}: at most 3 letters or digits")
    return f"pyc{instance}"


def uplink_prefix(instance: str) -> str:
    """What the names of all uplinks begin with."""
    return f"{link_prefix(instance)}u"


def uplink_name(instance: str, network_id: str) -> str:
    """The machine's end of a network's uplink."""
    return f"{uplink_prefix(instance)}{_digest(network_id, 8)}"


def port_name(container_id: str, network_id: str, nonce: int) -> str:
    """The bridge's end of a container's veth.

    ``nonce`` differs between attachments of the same container: the kernel removes a dropped namespace's
    links some time later, and the old name is taken until then.
    """
    return f"pycp{_digest(f'{container_id}/{network_id}/{nonce}', 11)}"


def interface_names(wanted: Sequence[tuple[str, str]]) -> list[str]:
    """Names of a container's interfaces. ``wanted``: (own name or "", prefix to number) of each, in order."""
    taken = {own for own, _ in wanted if own}
    found = []
    for own, prefix in wanted:
        name = own or next(f"{prefix}{number}" for number in range(1000) if f"{prefix}{number}" not in taken)
        taken.add(name)
        found.append(name)
    return found


def mac_of(address: IPv4Address) -> str:
    """The locally administered MAC that belongs to an IPv4 address, as Docker derives it: 02:42 + the address."""
    return ":".join(f"{byte:02x}" for byte in b"\x02\x42" + address.packed)


def mac_of_interface(attachment: Attachment) -> str:
    """The MAC of a container's interface: its own, or the one of its address."""
    return (attachment.mac or mac_of(attachment.address.ip)).lower().replace("-", ":")


def link_local(mac: str) -> IPv6Address:
    """The IPv6 link-local address that the kernel makes from a MAC (RFC 4291, appendix A: modified EUI-64)."""
    raw = bytes.fromhex(mac.replace(":", ""))
    return IPv6Address(b"\xfe\x80" + bytes(6) + bytes([raw[0] ^ 2]) + raw[1:3] + b"\xff\xfe" + raw[3:])


def transfer_pair(index: int) -> tuple[IPv4Address, IPv4Address]:
    """(machine's end, network's end) of the uplink with this index; a /30 each."""
    base = int(TRANSFER_POOL.network_address) + 4 * index
    if not 0 <= 4 * index < TRANSFER_POOL.num_addresses:
        raise ValueError(f"uplink index {index} is outside {TRANSFER_POOL}")
    return IPv4Address(base + 1), IPv4Address(base + 2)


def transfer_pair6(index: int) -> tuple[IPv6Address, IPv6Address]:
    """(machine's end, network's end) of the uplink with this index, IPv6; a /126 each."""
    base = int(TRANSFER_POOL6.network_address) + 4 * index
    return IPv6Address(base + 1), IPv6Address(base + 2)


def _digest(text: str, length: int) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:length]
