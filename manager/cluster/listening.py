"""Where this manager listens for clients and nodes, and how they reach it: ``STATE/manager/listen.json``."""

from __future__ import annotations

import ipaddress
import json
import re
import socket
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Self

from pycompose.manager.member import Addresses
from pycompose.proto import ports
from pycompose.proto.refusal import BlockedError

FILE = "listen.json"
#: Every address of this machine, of version 6 and 4.
ANY = "::"
_NAME = re.compile(r"(?=.{1,253}\Z)[A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?(\.[A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?)*\Z")


@dataclass(frozen=True)
class Listening:
    """An address and a port.

    Attributes:
        advertise: IP address or name by which others reach this machine.
        address: IP address to listen on.
        port: TCP port of the API.
        join_port: TCP port at which machines join.
        worker_port: TCP port of this machine's worker.
        etcd_peer_port: TCP port of etcd for the other managers.
        etcd_client_port: TCP port of etcd on loopback, for this manager alone.
    """

    advertise: str
    address: str = ANY
    port: int = ports.API
    join_port: int = ports.JOIN
    worker_port: int = ports.WORKER
    etcd_peer_port: int = ports.ETCD_PEER
    etcd_client_port: int = ports.ETCD_CLIENT

    @classmethod
    def load(cls, folder: Path) -> Self | None:
        """Read the file of a manager's folder; None when it is not there. Raises OSError, ValueError."""
        try:
            return cls(**json.loads((folder / FILE).read_text()))
        except FileNotFoundError:
            return None
        except TypeError as error:
            raise ValueError(f"{folder / FILE} is damaged: {error}") from None

    def encoded(self) -> bytes:
        """Return the file's content."""
        return json.dumps(asdict(self)).encode()

    @property
    def reached(self) -> str:
        """HOST:PORT of the API for others."""
        return joined(self.advertise, self.port)

    @property
    def bound(self) -> str:
        """IP address and port of the API to listen on."""
        return joined(self.address, self.port)

    @property
    def join_reached(self) -> str:
        """HOST:PORT for machines that join."""
        return joined(self.advertise, self.join_port)

    @property
    def join_bound(self) -> str:
        """IP address and port to listen on for machines that join."""
        return joined(self.address, self.join_port)

    @property
    def join_here(self) -> str:
        """HOST:PORT of `join_bound` on this machine itself."""
        own = {"::": "127.0.0.1" if not socket.has_dualstack_ipv6() else "::1", "0.0.0.0": "127.0.0.1"}
        return joined(own.get(self.address, self.address), self.join_port)

    @property
    def etcd(self) -> Addresses:
        """Addresses of this manager's etcd."""
        address = "0.0.0.0" if self.address == ANY and not socket.has_dualstack_ipv6() else self.address
        return Addresses(
            joined(self.advertise, self.etcd_peer_port),
            joined("127.0.0.1", self.etcd_client_port),
            joined(address, self.etcd_peer_port),
        )


def joined(host: str, port: int) -> str:
    """Return HOST:PORT, an IPv6 address in brackets."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def wrong(listening: Listening) -> list[tuple[str, str]]:
    """Return what cannot be, as pairs of a request's field and what is wrong with it."""
    found = []
    try:
        address = ipaddress.ip_address(listening.advertise)
        if address.is_unspecified or address.is_multicast:
            found.append(("advertise_address", f"{listening.advertise} is no machine's; name one that others reach"))
    except ValueError:
        if not _NAME.match(listening.advertise):
            found.append(("advertise_address", f"{listening.advertise!r} is no IP address or host name"))
    try:
        ipaddress.ip_address(listening.address)
    except ValueError:
        found.append(("listen_address", f"{listening.address!r} is no IP address"))
    named = {name: port for name, port in asdict(listening).items() if name.endswith("port")}
    found += [(name, f"{port} is no TCP port") for name, port in named.items() if not 0 < port < 65536]
    if not found and len(set(named.values())) < len(named):
        found.append(("port", "the API, joining, the worker and etcd need a TCP port each"))
    return found


def why_not(address: str, port: int) -> str:
    """Return why nothing can listen there now; "" when something can."""
    try:
        _bind(address, port)
    except OSError as error:
        return f"nothing can listen on {joined(address, port)}: {error.strerror}"
    return ""


def check_ports(listening: Listening) -> None:
    """Raise BlockedError when something else listens on one of the ports."""
    for flag, port in (
        ("--port", listening.port),
        ("--join-port", listening.join_port),
        ("--worker-port", listening.worker_port),
    ):
        if reason := why_not(listening.address, port):
            raise BlockedError(f"{reason}; choose another with {flag}, or stop what listens there", "PORT_TAKEN")


def _bind(address: str, port: int) -> None:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    if address == ANY and not socket.has_dualstack_ipv6():
        address, family = "0.0.0.0", socket.AF_INET  # gRPC does the same
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        if family == socket.AF_INET6:
            probe.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind((address, port))
