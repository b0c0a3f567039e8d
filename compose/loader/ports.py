"""The short form of a port: `[[IP:][HOST[-HOST]]:]CONTAINER[-CONTAINER][/PROTOCOL]`."""

from __future__ import annotations

import ipaddress
import re
from typing import Any

MAX_PORTS = 100_000
"""Ports in one file once ranges are written out."""
_CONTAINER_RANGE = re.compile(r"([0-9]{1,5})-([0-9]{1,5})(?:/[a-zA-Z]*)?\Z")


def parse_ports(spec: str) -> list[dict[str, Any]]:
    """Read a short port into long forms, one for each container port of a range (docker/go-connections nat).

    Raises:
        ValueError: saying which part is wrong.
    """
    head, separator, container = spec.rpartition(":")
    address, host = "", ""
    if separator:
        address, _, host = head.rpartition(":")
    container, _, protocol = container.partition("/")
    protocol = protocol or "tcp"
    if address:
        address = _address(address, spec)
    if not container:
        raise ValueError(f"no port specified: {spec}<empty>")
    first, last = _range(container, "container port")
    host_first, host_last = _range(host, "host port") if host else (0, 0)
    if host and last - first != host_last - host_first and first != last:
        raise ValueError(f"invalid ranges specified for container and host ports: {container} and {host}")
    if protocol.lower() not in ("tcp", "udp", "sctp"):
        raise ValueError(f"invalid protocol {protocol!r}: it is tcp, udp or sctp")
    ports = []
    for offset in range(last - first + 1):
        port: dict[str, Any] = {"mode": "ingress"}
        if address:
            port["host_ip"] = address
        port["target"] = first + offset
        if host:
            port["published"] = str(host_first + offset)
            if first == last and host_first != host_last:
                port["published"] = f"{host_first}-{host_last}"
        port["protocol"] = protocol.lower()
        ports.append(port)
    return sorted(ports, key=lambda one: f"{one['target']}/{one['protocol']}")


def count_ports(spec: str) -> int:
    """Return how many ports the range of a short form may name, without reading the rest of it."""
    found = _CONTAINER_RANGE.search(spec)
    return max(1, int(found[2]) - int(found[1]) + 1) if found else 1


def is_address(text: str) -> bool:
    """Tell whether text is an IPv4 or IPv6 address."""
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return "%" not in text


def _address(text: str, spec: str) -> str:
    if text.startswith("["):
        if not text.endswith("]"):
            raise ValueError(f"invalid IP address in {spec!r}")
        text = text[1:-1]
    if not is_address(text):
        raise ValueError(f"invalid IP address: {text}")
    return text


def _range(text: str, what: str) -> tuple[int, int]:
    first, dash, last = text.partition("-")
    numbers = []
    for number in (first, last) if dash else (first, first):
        if not number.isascii() or not number.isdigit() or len(number) > 6 or int(number) > 65535:
            raise ValueError(f"invalid {what} {text!r}: it is a number from 1 to 65535, or a range of them")
        numbers.append(int(number))
    if numbers[1] < numbers[0]:
        raise ValueError(f"invalid {what} range {text!r}: it ends before it starts")
    return numbers[0], numbers[1]
