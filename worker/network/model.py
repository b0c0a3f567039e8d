"""Values at the seam of the network package; all immutable, none knows the kernel."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Interface, IPv4Network
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class NetworkSpec:
    """A network as this node must have it. ``mtu`` in bytes, 0 = the kernel's default (1,500).

    ``vni`` and ``options`` are kept for the VXLAN device that a second node adds.
    """

    id: str
    name: str
    subnet: IPv4Network
    gateway: IPv4Address
    internal: bool = False
    vni: int = 0
    mtu: int = 0
    options: Mapping[str, str] = field(default_factory=dict, hash=False)


@dataclass(frozen=True)
class Attachment:
    """One interface of a container. ``address`` with the subnet's prefix; the highest priority is the way out."""

    network_id: str
    address: IPv4Interface
    mac: str | None = None
    aliases: tuple[str, ...] = ()
    gateway_priority: int = 0


@dataclass(frozen=True)
class Endpoint:
    """A container's address on a network, anywhere in the cluster. ``service`` is a service id."""

    container_id: str
    network_id: str
    address: IPv4Address
    names: tuple[str, ...] = ()
    service: str | None = None
    in_rotation: bool = True
    node_id: str = ""


@dataclass(frozen=True)
class ServiceView:
    """A service on one network. ``vip`` None: names answer with the tasks' addresses (dnsrr)."""

    service_id: str
    network_id: str
    names: tuple[str, ...]
    vip: IPv4Address | None = None


@dataclass(frozen=True)
class PublishedPort:
    """``published`` on the machine leads to ``target`` of the service's endpoints in rotation on ``network_id``.

    ``container_id`` narrows the backends to one container (mode host, or a container run alone).
    """

    service_id: str
    published: int
    target: int
    network_id: str
    protocol: str = "tcp"
    host_ip: str | None = None
    mode: str = "ingress"
    container_id: str | None = None


@dataclass(frozen=True)
class NetworkView:
    """All that this node must know at one revision."""

    networks: tuple[NetworkSpec, ...] = ()
    endpoints: tuple[Endpoint, ...] = ()
    services: tuple[ServiceView, ...] = ()
    ports: tuple[PublishedPort, ...] = ()
    revision: int = 0


@dataclass(frozen=True)
class DnsOptions:
    """A container's own resolver settings; empty ``servers`` = the machine's.

    ``aliases``: (name that it alone has, name of a service or container that is meant).
    """

    servers: tuple[str, ...] = ()
    search: tuple[str, ...] = ()
    options: tuple[str, ...] = ()
    aliases: tuple[tuple[str, str], ...] = ()

    @classmethod
    def from_json(cls, plain: Mapping[str, Sequence[Any]]) -> DnsOptions:
        """From what ``asdict`` gives, after a way through JSON."""
        aliases = tuple((alias, name) for alias, name in plain.get("aliases") or ())
        others = {key: tuple(plain.get(key) or ()) for key in ("servers", "search", "options")}
        return cls(**others, aliases=aliases)


NamespacePath = Path
"""A file that is a bind mount of a network namespace; open it and setns(2) to it."""


@dataclass(frozen=True)
class NetworkStatus:
    """What ``describe`` tells: counts, what was changed on the machine, and what is wrong."""

    revision: int
    networks: tuple[str, ...]
    containers: tuple[str, ...]
    published: tuple[str, ...]
    ip_forward_set_by_us: bool
    forward_drop_by_others: bool
    docker_user_accept: bool
    problems: tuple[str, ...]
