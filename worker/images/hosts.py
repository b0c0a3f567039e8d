"""This node's settings for registries, read from files and variables when they are needed.

======================================  ====================================================================
``PYCOMPOSE_CONFIG_DIR``                the folder of the files below; /etc/pycompose
``insecure-registries``                 one "host", "host:port" or network ("10.1.0.0/16") a line: http, and https
                                        whose certificate nobody knows, are allowed there
``PYCOMPOSE_INSECURE_REGISTRIES``       more of the same, separated by commas
``certs.d/HOST[:PORT]/*.crt``           authorities to believe for that host, beside the system's
``certs.d/HOST[:PORT]/*.cert, *.key``   a client's certificate and key
``token-servers``                       "REGISTRY TOKENHOST" a line: name and password of the one may go to the other
``HTTPS_PROXY, HTTP_PROXY, NO_PROXY``   as everywhere; never for loopback
======================================  ====================================================================

`certs.d` is looked for in /etc/docker as well: it has Docker's form. A "#" begins a comment.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import ip_network
from pathlib import Path

from pycompose.worker.images.challenge import PORTS, Site, address_of

DOCKER = Path("/etc/docker")


@dataclass(frozen=True)
class Settings:
    """`token_servers`: hosts by registry host; `folders`: where certs.d is looked for."""

    insecure: tuple[str, ...] = ()
    token_servers: tuple[tuple[str, str], ...] = ()
    folders: tuple[Path, ...] = ()

    def is_insecure(self, api: str) -> bool:
        """Return whether a registry ("host" or "host:port") is listed as insecure. No name is looked up."""
        host = api.rpartition(":")[0] if ":" in api and not api.endswith("]") else api
        address = address_of(host)
        for entry in self.insecure:
            if entry in (api, host):
                return True
            if "/" in entry and address is not None:
                try:
                    if address in ip_network(entry, strict=False):
                        return True
                except ValueError:
                    continue
        return False

    def token_hosts(self, registry: str) -> tuple[str, ...]:
        """Return the token servers that may have the password for a registry."""
        return tuple(server for known, server in self.token_servers if known == registry)

    def certificates(self, site: Site) -> list[Path]:
        """Return the folders of certificates for a server, those that exist."""
        names = [f"{site.host}:{site.port or (443 if site.scheme == 'https' else 80)}", site.host]
        found = [folder / "certs.d" / name for folder in self.folders for name in names]
        return [path for path in found if path.is_dir()]


def settings(environment: Mapping[str, str] = os.environ) -> Settings:
    """Read the settings."""
    folder = Path(environment.get("PYCOMPOSE_CONFIG_DIR") or "/etc/pycompose")
    more = environment.get("PYCOMPOSE_INSECURE_REGISTRIES", "").replace(",", " ").split()
    pairs = [line.split() for line in _lines(folder / "token-servers")]
    return Settings(
        insecure=(*_lines(folder / "insecure-registries"), *more),
        token_servers=tuple((pair[0], pair[1]) for pair in pairs if len(pair) == 2),
        folders=(folder, DOCKER),
    )


def _lines(path: Path) -> list[str]:
    try:
        text = path.read_text()
    except (FileNotFoundError, NotADirectoryError):
        return []
    return [line for line in (each.partition("#")[0].strip() for each in text.splitlines()) if line]


def site_of(api: str, scheme: str) -> Site:
    """Return the server of a registry's API, "host" or "host:port"."""
    host, colon, port = api.rpartition(":")
    if not colon or api.endswith("]"):
        host, port = api, ""
    number = int(port or 0)
    return Site(scheme, host.strip("[]"), 0 if number == PORTS[scheme] else number)
