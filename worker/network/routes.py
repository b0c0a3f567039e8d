"""What the machine has routes to (proc(5), /proc/net/route): networks of ours must not hide it."""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path


def destinations(table: str, own: Iterable[str]) -> list[str]:
    """Return the IPv4 subnets in the text of /proc/net/route, without default routes and their halves. Pure.

    (OpenVPN's redirect-gateway def1 routes 0.0.0.0/1 and 128.0.0.0/1.)

    `own`: what names of links begin with whose routes are ours.
    """
    found = set()
    for line in table.splitlines()[1:]:
        fields = line.split()
        if len(fields) < 8 or fields[0].startswith(tuple(own)):
            continue
        address, mask = (IPv4Address(int(fields[n], 16).to_bytes(4, "little")) for n in (1, 7))
        subnet = IPv4Network(f"{address}/{mask}", strict=False)
        if subnet.prefixlen >= 8:
            found.add(subnet)
    return [str(each) for each in sorted(found)]


def of_machine(own: Iterable[str]) -> list[str]:
    """Return those of the calling thread's namespace."""
    try:
        return destinations(Path("/proc/thread-self/net/route").read_text(), own)
    except OSError:
        return []
