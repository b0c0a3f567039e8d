"""Contents of /etc/hosts, /etc/resolv.conf and /etc/hostname of a container, as Docker writes them; pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address

from pycompose.worker.network.model import DnsOptions


@dataclass(frozen=True)
class EtcFiles:
    """The three files' contents."""

    hosts: str
    resolv_conf: str
    hostname: str


def etc_files(
    *,
    hostname: str,
    domainname: str = "",
    addresses: Sequence[IPv4Address] = (),
    dns: DnsOptions | None = None,
    extra_hosts: Sequence[tuple[str, str]] = (),
    host_gateway: str = "",
    upstream_search: Sequence[str] = (),
) -> EtcFiles:
    """What a container finds in /etc.

    Args:
        hostname: of its UTS namespace; ``domainname`` is added in hosts.
        addresses: its own addresses, first network first.
        dns: its own settings.
        extra_hosts: (name, address); address ``host-gateway`` stands for ``host_gateway``.
        upstream_search: search domains of the machine, used when it has none of its own.

    Returns:
        The contents. hosts(5), resolv.conf(5), hostname(5).
    """
    dns = dns or DnsOptions()
    lines = [
        "127.0.0.1\tlocalhost",
        "::1\tlocalhost ip6-localhost ip6-loopback",
        "fe00::\tip6-localnet",
        "ff00::\tip6-mcastprefix",
        "ff02::1\tip6-allnodes",
        "ff02::2\tip6-allrouters",
    ]
    for name, address in extra_hosts:
        lines.append(f"{host_gateway if address == 'host-gateway' else address}\t{name}")
    names = f"{hostname}.{domainname} {hostname}" if domainname else hostname
    lines.extend(f"{address}\t{names}" for address in addresses)
    search = [name for name in (dns.search or upstream_search) if name != "."]
    resolv = ["nameserver 127.0.0.11"]
    if search:
        resolv.append("search " + " ".join(search))
    options = list(dns.options)
    if not any(option.startswith("ndots:") for option in options):
        options.append("ndots:0")
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
