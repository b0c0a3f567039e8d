"""Values at the seam of the network package; all immutable, none knows the kernel."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from ipaddress import (
    IPv4Address,
    IPv4Interface,
    IPv4Network,
    IPv6Address,
    IPv6Interface,
    IPv6Network,
    ip_interface,
)
from pathlib import Path
from typing import Any

Interface = IPv4Interface | IPv6Interface


@dataclass(frozen=True)
class NetworkSpec:
    """A network as this node must have it.

    Attributes:
        driver: "bridge" or "macvlan".
        mtu: in bytes; 0: the kernel's default (1,500).
        masquerade: what leaves the machine shows the machine's address.
        talk: its containers reach one another.
        prefix: of its interfaces' names in containers.
        parent, mode: of macvlan: the machine's link below it, and how (ip-link(8)).
        vni: of the VXLAN device, once other nodes have the network too.
    """

    id: str
    name: str
    subnet: IPv4Network
    gateway: IPv4Address
    internal: bool = False
    vni: int = 0
    mtu: int = 0
    subnet6: IPv6Network | None = None
    gateway6: IPv6Address | None = None
    driver: str = "bridge"
    masquerade: bool = True
    talk: bool = True
    prefix: str = "eth"
    parent: str = ""
    mode: str = "bridge"


@dataclass(frozen=True)
class Attachment:
    """One interface of a container.

    Attributes:
        address, address6: with the subnet's prefix.
        gateway_priority: the highest one's network is the way out.
        interface: its name; "": the network's prefix and a number.
        more: further addresses.
        sysctls: (name below /proc/sys/net with IFNAME for the interface, value).
    """

    network_id: str
    address: IPv4Interface
    mac: str | None = None
    aliases: tuple[str, ...] = ()
    gateway_priority: int = 0
    address6: IPv6Interface | None = None
    interface: str = ""
    more: tuple[Interface, ...] = ()
    sysctls: tuple[tuple[str, str], ...] = ()

    def all_addresses(self) -> list[IPv4Address | IPv6Address]:
        """Every address that it was given."""
        return [one.ip for one in (self.address, self.address6, *self.more) if one is not None]

    def to_json(self) -> dict[str, Any]:
        """For the file that outlives the daemon."""
        texts = {"address": str(self.address), "address6": str(self.address6) if self.address6 else None}
        return asdict(self) | texts | {"more": [str(one) for one in self.more]}

    @classmethod
    def from_json(cls, plain: Mapping[str, Any]) -> Attachment:
        """The opposite."""
        values = dict(plain)
        values["address"] = IPv4Interface(values["address"])
        values["address6"] = IPv6Interface(values["address6"]) if values.get("address6") else None
        values["more"] = tuple(ip_interface(text) for text in values.get("more") or ())
        values["sysctls"] = tuple((name, value) for name, value in values.get("sysctls") or ())
        return cls(**(values | {"aliases": tuple(values["aliases"])}))


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
    address6: IPv6Address | None = None
    mac: str = ""


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

    ``container_id`` narrows the backends to one container (mode host, or a container run alone). ``masquerade``: they
    see the network's gateway in place of the client; ``sticky``: the client's address decides on one of them.
    """

    service_id: str
    published: int
    target: int
    network_id: str
    protocol: str = "tcp"
    host_ip: str | None = None
    mode: str = "ingress"
    container_id: str | None = None
    masquerade: bool = False
    sticky: bool = False


@dataclass(frozen=True)
class Peer:
    """Another node: where it sends networks' frames from, and gets them."""

    node_id: str
    address: IPv4Address
    port: int


@dataclass(frozen=True)
class Underlay:
    """This node as others see it: ``address`` and ``port`` for frames; ``mtu``: of the link that has the address."""

    address: IPv4Address
    port: int
    mtu: int


@dataclass(frozen=True)
class NetworkView:
    """All that this node must know at one revision. ``underlay`` None: it is alone, its networks are its own."""

    networks: tuple[NetworkSpec, ...] = ()
    endpoints: tuple[Endpoint, ...] = ()
    services: tuple[ServiceView, ...] = ()
    ports: tuple[PublishedPort, ...] = ()
    revision: int = 0
    peers: tuple[Peer, ...] = ()
    underlay: Underlay | None = None


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
