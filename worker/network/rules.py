"""From values to nftables scripts (nft(8)), purely: one table of ours per namespace, replaced in one transaction.

Three kinds of namespace have a table:

* the machine: published ports are translated to the transfer address of their network; outbound is masqueraded;
  nothing else reaches a network from outside, nor one network another; a container reaches services of the machine
  only where it was declared so (``extra_hosts: ["NAME:host-gateway"]``);
* a network: what arrives at the transfer address goes to one of the port's backends in turn (``numgen inc``);
* a container: its DNS server is found on port 53 of 127.0.0.11; VIPs it has looked up lead to one backend.

Replacing a table leaves connections alone: the kernel translates them by conntrack from their second packet on.
All values in a script are addresses, numbers and names of ours: nothing that a user typed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address

from pycompose.worker.network.model import Endpoint, NetworkView, PublishedPort
from pycompose.worker.network.names import BRIDGE
from pycompose.worker.network.overlay import mark_of, node_mac

DNS_ADDRESS = "127.0.0.11"
#: Protocols by number: nftables looks their names up in /etc/protocols, which small systems do not have.
NUMBERS = {"icmp": 1, "tcp": 6, "udp": 17, "ipv6-icmp": 58, "sctp": 132}
Backends = Mapping[str, Mapping[IPv4Address, Sequence[IPv4Address]]]
"""Service id -> VIP -> addresses."""


@dataclass(frozen=True)
class Uplink:
    """A network's way to the machine: the machine's link name and the network's end of the transfer addresses."""

    link: str
    address: IPv4Address
    subnet: IPv4Network
    subnet6: IPv6Network | None = None
    masquerade: bool = True


@dataclass(frozen=True)
class Carried:
    """Networks' frames between nodes: this node's UDP ``port``, the other ``nodes``' addresses and their ``ports``."""

    port: int
    nodes: tuple[IPv4Address, ...]
    ports: tuple[int, ...]


def replace_table(table: str, body: Sequence[str], family: str = "ip") -> str:
    """A transaction that leaves exactly this table; an empty body removes it."""
    head = removal(table, family)
    if not body:
        return "\n".join(head) + "\n"
    return "\n".join([*head, f"table {family} {table} {{", *(f"  {line}" for line in body), "}"]) + "\n"


def removal(table: str, family: str = "ip") -> list[str]:
    """What removes a table, also one that is not there."""
    return [f"add table {family} {table}", f"delete table {family} {table}"]


def backends_of(port: PublishedPort, endpoints: Iterable[Endpoint]) -> list[IPv4Address]:
    """Addresses that a published port leads to: in rotation, on its network, of its service or container."""
    return sorted(
        endpoint.address
        for endpoint in endpoints
        if endpoint.network_id == port.network_id
        and endpoint.in_rotation
        and (
            endpoint.container_id == port.container_id
            if port.container_id is not None
            else endpoint.service == port.service_id
        )
    )


def transfer_ports(ports: Iterable[PublishedPort]) -> dict[PublishedPort, int]:
    """Port at the transfer address for each published port: the same number, unless it is taken there.

    It is taken when one network publishes a number twice, on two host addresses.
    """
    taken: set[tuple[str, str, int]] = set()
    result: dict[PublishedPort, int] = {}
    for port in sorted(ports, key=lambda p: (p.network_id, p.protocol, p.published, p.host_ip or "", p.service_id)):
        number = port.published
        while (port.network_id, port.protocol, number) in taken:
            number = number + 1 if number < 65535 else 1024
        taken.add((port.network_id, port.protocol, number))
        result[port] = number
    return result


def machine_table(
    table: str,
    uplinks: Mapping[str, Uplink],
    ports: Mapping[PublishedPort, int],
    guests: Sequence[IPv4Address | IPv6Address] = (),
    carried: Carried | None = None,
) -> str:
    """The machine's tables.

    Args:
        table: its name.
        uplinks: by network id (no internal networks).
        ports: from ``transfer_ports``.
        guests: addresses of containers that may reach the machine's own services.
        carried: networks' frames between nodes; None: there are none.
    """
    four, six = [[one for one in guests if one.version == version] for version in (4, 6)]
    return _machine_table4(table, uplinks, ports, four, carried) + _machine_table6(table, uplinks, ports, six)


def _host(links: str, family: str, guests: Sequence[IPv4Address | IPv6Address], published: Sequence[str]) -> list[str]:
    """What containers may reach on the machine itself. What is published was translated before, or is let in here."""
    allowed = [f"  iifname {links} {family} saddr {_set(map(str, guests))} accept"] if guests else []
    return [
        "chain host {",
        "  type filter hook input priority filter; policy accept;",
        f"  iifname {links} ct state established,related accept",
        *allowed,
        *(f"  iifname {links} {each} accept" for each in published),
        f"  iifname {links} meta l4proto {{ {NUMBERS['icmp']}, {NUMBERS['ipv6-icmp']} }} accept",
        f"  iifname {links} reject",
        "}",
    ]


def _machine_table6(
    table: str,
    uplinks: Mapping[str, Uplink],
    ports: Mapping[PublishedPort, int],
    guests: Sequence[IPv4Address | IPv6Address],
) -> str:
    """IPv6 goes out only; published ports are forwarded by the sockets that hold them (``ports``)."""
    own = [uplink for uplink in uplinks.values() if uplink.subnet6 is not None]
    if not own:
        return replace_table(table, [], "ip6")
    hidden = [str(uplink.subnet6) for uplink in own if uplink.masquerade]
    links = _set(f'"{uplink.link}"' for uplink in own)
    open_ports = sorted(
        {f"{port.protocol} dport {port.published}" for port in ports if not _loopback(port.host_ip)}
    )  # by the sockets that hold them
    body = [*_postrouting("ip6", hidden), *_forward(links), *_host(links, "ip6", guests, open_ports)]
    return replace_table(table, body, "ip6")


def _postrouting(family: str, hidden: Sequence[str]) -> list[str]:
    if not hidden:
        return []
    return [
        "chain postrouting { type nat hook postrouting priority srcnat; policy accept; "
        f"{family} saddr {_set(hidden)} masquerade; }}"
    ]


def _forward(links: str) -> list[str]:
    return [
        "chain forward {",
        "  type filter hook forward priority filter; policy accept;",
        f"  oifname {links} ct state established,related accept",
        f"  oifname {links} ct status dnat accept",
        f"  oifname {links} drop",
        f"  iifname {links} accept",
        "}",
    ]


def _machine_table4(
    table: str,
    uplinks: Mapping[str, Uplink],
    ports: Mapping[PublishedPort, int],
    guests: Sequence[IPv4Address | IPv6Address],
    carried: Carried | None,
) -> str:
    if not uplinks:
        return replace_table(table, _carried(carried, ""))
    links = _set(f'"{uplink.link}"' for uplink in uplinks.values())
    hidden = [str(uplink.subnet) for uplink in uplinks.values() if uplink.masquerade]
    translate = [
        _published_rule(port, uplinks[port.network_id].address, number)
        for port, number in _specific_first(ports)
        if port.network_id in uplinks and not _loopback(port.host_ip) and not _ipv6(port.host_ip)
    ]
    body = [
        *_carried(carried, links),
        *_loopback_only(ports),
        "chain published {",
        *(f"  {rule}" for rule in translate),
        "}",
        "chain prerouting { type nat hook prerouting priority dstnat; policy accept; "
        "fib daddr type local jump published; }",
        "chain output { type nat hook output priority -100; policy accept; "
        "ip daddr != 127.0.0.0/8 fib daddr type local jump published; }",
        *_postrouting("ip", hidden),
        *_forward(links),
        *_host(links, "ip", guests, ()),
    ]
    return replace_table(table, body)


def _carried(carried: Carried | None, links: str) -> list[str]:
    """Take networks' frames from nodes alone, and let no container send any (CVE-2023-28840).

    A sender that forges a node's address is not kept out by this.
    """
    if carried is None:
        return []
    nodes, ports = _set(map(str, carried.nodes)), _set(map(str, carried.ports))
    others = f" ip saddr != {nodes}" if carried.nodes else ""
    inside = f"  iifname {links} udp dport {ports} ip daddr {nodes} drop"
    return [
        "chain carried {",
        "  type filter hook prerouting priority raw; policy accept;",
        *([inside] if links and carried.nodes else []),
        f"  fib daddr type local udp dport {carried.port}{others} drop",
        "}",
    ]


def _loopback_only(ports: Mapping[PublishedPort, int]) -> list[str]:
    """Keep others away from ports published on loopback, also where somebody has set route_localnet."""
    chosen = sorted(
        f"  iifname != lo ip daddr {port.host_ip} {port.protocol} dport {port.published} drop"
        for port in ports
        if _loopback(port.host_ip) and not _ipv6(port.host_ip)
    )
    if not chosen:
        return []
    return ["chain loopback {", "  type filter hook prerouting priority raw; policy accept;", *chosen, "}"]


def network_table(
    table: str,
    uplink: Uplink | None,
    ports: Mapping[PublishedPort, int],
    endpoints: Sequence[Endpoint],
    nodes: Sequence[IPv4Address] = (),
    own: IPv4Address | None = None,
) -> str:
    """A network namespace's table: the second half of published ports. Without backends a connection is refused.

    ``nodes``: others that have the network; ``own``: this node's address among them.
    """
    return replace_table(table, [*_ways_back(nodes), *_published(uplink, ports, endpoints, own)])


def _ways_back(nodes: Sequence[IPv4Address]) -> list[str]:
    """Mark connections that another node's namespace sent here, so that answers go back there (``overlay``)."""
    if not nodes:
        return []
    marks = ", ".join(f"{node_mac(node)} : {mark_of(node):#x}" for node in nodes)
    return [
        "chain ways {",
        "  type filter hook prerouting priority mangle; policy accept;",
        f'  iifname "{BRIDGE}" ct direction reply ct mark != 0 meta mark set ct mark',
        f'  iifname "{BRIDGE}" ct state new ct mark set ether saddr map {{ {marks} }}',
        "}",
    ]


def _published(
    uplink: Uplink | None,
    ports: Mapping[PublishedPort, int],
    endpoints: Sequence[Endpoint],
    own: IPv4Address | None,
) -> list[str]:
    if uplink is None or not ports:
        return []
    translate, refuse, hide = [], [], []
    for port, number in sorted(ports.items(), key=lambda item: (item[0].protocol, item[1])):
        match = f"ip daddr {uplink.address} {port.protocol} dport {number}"
        backends = backends_of(port, endpoints)
        if backends:
            choice = balance(backends, by="jhash ip saddr" if port.sticky else "numgen inc")
            translate.append(f"  {match} dnat to {choice}:{port.target}")
            if port.masquerade:
                came = f"ct original ip daddr {uplink.address} ct original proto-dst {number}"
                how = f"snat to {own}" if own else "masquerade"
                hide.append(f"  meta l4proto {NUMBERS[port.protocol]} {came} {how}")
        else:
            how = "reject with tcp reset" if port.protocol == "tcp" else "reject"
            refuse.append(f"  {match} {how}")
    body = ["chain prerouting {", "  type nat hook prerouting priority dstnat; policy accept;", *translate, "}"]
    if refuse:
        body += ["chain input {", "  type filter hook input priority filter; policy accept;", *refuse, "}"]
    if hide:
        body += ["chain postrouting {", "  type nat hook postrouting priority srcnat; policy accept;", *hide, "}"]
    return body


def container_table(
    table: str, dns_ports: tuple[int, int] | None, vips: Mapping[IPv4Address, Sequence[IPv4Address]]
) -> str:
    """A container namespace's table. ``dns_ports``: (UDP, TCP) of the resolver's sockets; ``vips``: VIP -> backends."""
    body: list[str] = []
    refuse: list[str] = []
    rules: list[str] = []
    if dns_ports is not None:
        rules.append(f"  ip daddr {DNS_ADDRESS} udp dport 53 dnat to {DNS_ADDRESS}:{dns_ports[0]}")
        rules.append(f"  ip daddr {DNS_ADDRESS} tcp dport 53 dnat to {DNS_ADDRESS}:{dns_ports[1]}")
    for vip, backends in sorted(vips.items()):
        if backends:
            rules.append(f"  ip daddr {vip} dnat to {balance(sorted(backends))}")
        else:
            refuse.append(f"  ip daddr {vip} reject")
    if rules:
        body += ["chain output {", "  type nat hook output priority -100; policy accept;", *rules, "}"]
    if refuse:
        body += ["chain refuse {", "  type filter hook output priority filter; policy accept;", *refuse, "}"]
    return replace_table(table, body)


def vip_backends(view: NetworkView, service_ids: Iterable[str]) -> Backends:
    """The VIPs of these services on all their networks, with the addresses in rotation."""
    found: dict[str, dict[IPv4Address, list[IPv4Address]]] = {service_id: {} for service_id in service_ids}
    if not found:
        return found
    by_key = {(s.service_id, s.network_id): s.vip for s in view.services if s.service_id in found}
    for (service_id, _), vip in by_key.items():
        if vip is not None:
            found[service_id][vip] = []
    for endpoint in view.endpoints:
        vip = by_key.get((endpoint.service or "", endpoint.network_id))
        if vip is not None and endpoint.in_rotation:
            found[endpoint.service or ""][vip].append(endpoint.address)
    return found


def balance(backends: Sequence[IPv4Address], by: str = "numgen inc") -> str:
    """One address, or one of several: in turn, or by what ``by`` says (nft(8), "hash expressions")."""
    if len(backends) == 1:
        return str(backends[0])
    rows = ", ".join(f"{number} : {address}" for number, address in enumerate(backends))
    return f"{by} mod {len(backends)} map {{ {rows} }}"


def _published_rule(port: PublishedPort, address: IPv4Address, number: int) -> str:
    where = "" if _any(port.host_ip) else f"ip daddr {port.host_ip} "
    return f"{where}{port.protocol} dport {port.published} dnat to {address}:{number}"


def _specific_first(ports: Mapping[PublishedPort, int]) -> list[tuple[PublishedPort, int]]:
    return sorted(ports.items(), key=lambda item: (_any(item[0].host_ip), item[0].protocol, item[0].published))


def _set(items: Iterable[str]) -> str:
    return "{ " + ", ".join(sorted(set(items))) + " }"


def _any(host_ip: str | None) -> bool:
    return host_ip in (None, "", "0.0.0.0")


def _loopback(host_ip: str | None) -> bool:
    return bool(host_ip) and ip_address(host_ip or "").is_loopback


def _ipv6(host_ip: str | None) -> bool:
    return bool(host_ip) and ip_address(host_ip or "").version == 6
