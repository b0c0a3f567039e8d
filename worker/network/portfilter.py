"""What a container may send on its bridge: frames from its own MAC and its own addresses, and no others.

A container has CAP_NET_RAW by default, so it can build any frame. One table of nftables' bridge family in each
network's namespace drops, at the port, whatever does not carry the addresses that the container was given: foreign
MACs and IPs, ARP and neighbour advertisements for others, router advertisements, redirects, DHCP offers, VLAN tags, and
IPv6 on a network that has none (CVE-2020-13401, CVE-2024-32473). The table is written once, by nft; its sets get and
lose elements with the containers, by ``nft_elements``. Pure.

Source: nft(8) "bridge address family", RFC 5227 (ARP probes come from 0.0.0.0), RFC 4861 and 4862 (what comes from ::).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address

from pycompose.worker.network import names, overlay, rules
from pycompose.worker.network.model import Attachment

MACS, FOUR, SIX, TARGETS = "macs", "four", "six", "targets"
Address = IPv4Address | IPv6Address


@dataclass(frozen=True)
class Port:
    """A port of the bridge: its link's name, and what its container may send from."""

    link: str
    mac: str
    addresses: tuple[Address, ...]


def port_of(container_id: str, attachment: Attachment, nonce: int) -> Port:
    """The port of a container's interface; its IPv6 link-local address, made from the MAC, belongs to it."""
    mac = names.mac_of_interface(attachment)
    own: list[Address] = attachment.all_addresses()
    if any(address.version == 6 for address in own):
        own.append(names.link_local(mac))
    return Port(names.port_name(container_id, attachment.network_id, nonce), mac, tuple(dict.fromkeys(own)))


def keys(port: Port) -> list[tuple[str, bytes]]:
    """(set, key) of each element that lets a port speak; a key's parts are filled up to 4 bytes each (nf_tables)."""
    link, mac = port.link.encode().ljust(16, b"\0"), bytes.fromhex(port.mac.replace(":", "")) + b"\0\0"
    found = [(MACS, link + mac)]
    for address in port.addresses:
        if address.version == 4:
            found.append((FOUR, link + mac + address.packed))
        else:
            found += [(SIX, link + mac + address.packed), (TARGETS, link + address.packed)]
    return found


def table(name: str, ports: Iterable[Port], gateway: IPv4Address, *, version6: bool, node_mac: str = "") -> str:
    """The whole table as a transaction, with these ports in it.

    What other nodes send was checked at their ports; their gateways speak as nodes, and so does ours (``node_mac``, "":
    there are no others).

    ``gateway``: the network's, which is on every node; ``version6``: the network has IPv6.
    """
    found = list(ports)
    body = [
        *_set(MACS, "type ifname . ether_addr", [f'"{port.link}" . {port.mac}' for port in found]),
        *_set(FOUR, "type ifname . ether_addr . ipv4_addr", _elements(found, 4)),
        "chain ports {",
        "  type filter hook prerouting priority -300; policy drop;",
        *([f'  iifname "{overlay.DEVICE}" jump tunnel'] if node_mac else []),
        "  ether type ip udp sport 67 drop",
        "  ether type ip iifname . ether saddr . ip saddr @four accept",
        "  ether type arp iifname . ether saddr @macs jump neighbours",
        *(["  ether type ip6 iifname . ether saddr @macs jump version6"] if version6 else []),
        "}",
        *(_tunnel(gateway, node_mac, version6=version6) if node_mac else []),
        "chain neighbours {",
        "  arp operation request arp saddr ip 0.0.0.0 accept",
        "  iifname . arp saddr ether . arp saddr ip @four accept",
        "}",
    ]
    if version6:
        targets = [f'"{port.link}" . {int(a):#034x}' for port in found for a in port.addresses if a.version == 6]
        body = [
            *_set(SIX, "type ifname . ether_addr . ipv6_addr", _elements(found, 6)),
            *_set(TARGETS, "typeof iifname . @th,64,128", targets),
            *body,
            "chain version6 {",
            "  icmpv6 type { nd-router-advert, nd-redirect } drop",
            "  udp sport 547 drop",
            "  icmpv6 type nd-neighbor-advert iifname . @th,64,128 != @targets drop",
            "  iifname . ether saddr . ip6 saddr @six accept",
            "  ip6 saddr :: icmpv6 type { nd-neighbor-solicit, nd-router-solicit, mld-listener-report, "
            "mld2-listener-report } accept",
            "}",
        ]
    return rules.replace_table(name, body, "bridge")


def _tunnel(gateway: IPv4Address, node_mac: str, *, version6: bool) -> list[str]:
    return [
        "chain tunnel {",
        f"  ether type ip ip saddr {gateway} drop",
        f"  ether type {{ ip, arp{', ip6' if version6 else ''} }} accept",
        "}",
        "chain leaving {",
        "  type filter hook postrouting priority 300; policy accept;",
        f'  oifname "{overlay.DEVICE}" ether saddr {names.mac_of(gateway)} ether saddr set {node_mac}',
        "}",
    ]


def _elements(ports: Sequence[Port], version: int) -> list[str]:
    return [f'"{p.link}" . {p.mac} . {address}' for p in ports for address in p.addresses if address.version == version]


def _set(name: str, kind: str, elements: Sequence[str]) -> list[str]:
    filled = [f"  elements = {{ {', '.join(elements)} }}"] if elements else []
    return [f"set {name} {{", f"  {kind};", *filled, "}"]
