"""Where managers are: a socket of this machine, a port of another, or a node behind ssh."""

from __future__ import annotations

import ipaddress
import os
import re
from dataclasses import dataclass
from typing import Literal

from pycompose.compose.client.errors import AddressError

MANAGER_PORT = 7420
"""Where a manager serves clients unless it was set up otherwise."""
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]*\Z")
_FORMS = "want HOST:PORT, ssh://USER@HOST or unix:///PATH/api.sock"


@dataclass(frozen=True)
class Address:
    """One address.

    Attributes:
        kind: how it is reached.
        host: name or IP address (tcp, ssh).
        port: of the manager (tcp), or of ssh; 0: as ssh's own configuration says.
        user: of ssh; "": as ssh's own configuration says.
        path: of the socket (unix), or of the socket on the other machine (ssh, "": its usual one).
    """

    kind: Literal["unix", "tcp", "ssh"]
    host: str = ""
    port: int = 0
    user: str = ""
    path: str = ""

    def __str__(self) -> str:
        if self.kind == "unix":
            return f"unix://{self.path}"
        name = f"[{self.host}]" if ":" in self.host else self.host
        if self.kind == "tcp":
            return f"{name}:{self.port}"
        login = f"{self.user}@" if self.user else ""
        port = f":{self.port}" if self.port else ""
        return f"ssh://{login}{name}{port}{self.path}"

    @property
    def loopback(self) -> bool:
        """Whether what is sent stays on this machine."""
        if self.kind != "tcp":
            return self.kind == "unix"
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return self.host == "localhost"


def parse(text: str) -> Address:
    """Read an address as people write it; a HOST alone has the managers' usual port.

    Raises:
        AddressError: it is none.
    """
    if text.startswith("unix:"):
        path = text.removeprefix("unix:").removeprefix("//")
        if not path.startswith("/"):
            raise AddressError(f'"{text}" is no address of a node; the path of a socket begins with /')
        return Address("unix", path=os.path.normpath(path))
    if text.startswith("ssh://"):
        return _ssh(text)
    host, port = _host_and_port(text.removeprefix("tcp://"), text)
    return Address("tcp", host=host, port=port or MANAGER_PORT)


def _ssh(text: str) -> Address:
    rest, slash, path = text.removeprefix("ssh://").partition("/")
    user, _, place = rest.rpartition("@")
    host, port = _host_and_port(place, text)
    # ssh reads a word that begins with "-" as an option
    if user and not _NAME.match(user):
        raise AddressError(f'"{text}": "{user}" is no name of a user')
    return Address("ssh", host=host, port=port, user=user, path=slash + path if path else "")


def _host_and_port(place: str, text: str) -> tuple[str, int]:
    bracketed = re.fullmatch(r"\[([0-9A-Fa-f:.%]+)\](?::(\d+))?", place)
    if bracketed:
        host, digits = bracketed[1], bracketed[2]
        valid = _is_ip(host)
    else:
        host, colon, digits = place.partition(":")
        valid = bool(_NAME.match(host)) and (digits.isdigit() if colon else True)
    port = int(digits) if digits and digits.isdigit() else 0
    if not valid or port > 65535 or (digits and port == 0):
        raise AddressError(f'"{text}" is no address of a node; {_FORMS}')
    return host, port


def _is_ip(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True
