"""Contents of /etc/hosts, /etc/resolv.conf and /etc/hostname of a container, as Docker writes them; pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address

from pycompose.worker.network.model import DnsOptions


@dataclass(frozen=True)
class EtcFiles:
    """The three files' contents."""

    hosts: str
    resolv_conf: str
    hostname: str


EMBEDDED = "127.0.0.11"
LOCAL_HOSTS = """\
127.0.0.1\tlocalhost
::1\tlocalhost ip6-localhost ip6-loopback
fe00::\tip6-localnet
ff00::\tip6-mcastprefix
ff02::1\tip6-allnodes
ff02::2\tip6-allrouters
"""


def etc_files(
    *,
    hostname: str,
    domainname: str = "",
    addresses: Sequence[IPv4Address | IPv6Address] = (),
    dns: DnsOptions | None = None,
    extra_hosts: Sequence[tuple[str, str]] = (),
    host_gateway: str = "",
    upstream_search: Sequence[str] = (),
    base_hosts: str = LOCAL_HOSTS,
    servers: Sequence[str] = (EMBEDDED,),
) -> EtcFiles:
    """What a container finds in /etc.

    Args:
        hostname: of its UTS namespace; ``domainname`` is added in hosts.
        addresses: its own addresses, first network first.
        dns: its own settings; their servers are asked by the embedded server, or stand in its place.
        extra_hosts: (name, address); address ``host-gateway`` stands for ``host_gateway``.
        upstream_search: search domains of the machine, used when it has none of its own.
        base_hosts: what /etc/hosts begins with: the machine's own text for a container on its network.
        servers: name servers: the embedded one, or the machine's where there is no embedded one.

    Returns:
        The contents. hosts(5), resolv.conf(5), hostname(5).
    """
    dns = dns or DnsOptions()
    lines = base_hosts.splitlines()
    for name, address in extra_hosts:
        lines.append(f"{host_gateway if address == 'host-gateway' else address}\t{name}")
    names = f"{hostname}.{domainname} {hostname}" if domainname else hostname
    lines.extend(f"{address}\t{names}" for address in addresses)
    embedded = tuple(servers) == (EMBEDDED,)
    resolv = [f"nameserver {server}" for server in (servers if embedded else dns.servers or servers)]
    # a dot, as Docker has it, stands for no search
    search = [name for name in (dns.search or upstream_search) if name != "."]
    if search:
        resolv.append("search " + " ".join(search))
    options = list(dns.options)
    if embedded and not any(option.startswith("ndots:") for option in options):
        options.append("ndots:0")
    if options:
        resolv.append("options " + " ".join(options))
    return EtcFiles("\n".join(lines) + "\n", "\n".join(resolv) + "\n", hostname + "\n")


def parse_resolv_conf(text: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """(name servers, search domains) of the machine's resolv.conf(5)."""
    servers: list[str] = []
    search: tuple[str, ...] = ()
    for line in text.splitlines():
        words = line.split("#")[0].split(";")[0].split()
        if len(words) >= 2 and words[0] == "nameserver":
            servers.append(words[1])
        elif len(words) >= 2 and words[0] in ("search", "domain"):
            search = tuple(words[1:])
    return tuple(servers), search
