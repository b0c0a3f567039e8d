"""What a rootless node's supervisor does first, inside the namespaces: loopback, and a name server that is reached."""

from __future__ import annotations

import fcntl
import os
import socket
import struct
from pathlib import Path

from pycompose.worker.rootless import known, way_out
from pycompose.worker.runtime import syscalls

SIOCGIFFLAGS, SIOCSIFFLAGS, IFF_UP = 0x8913, 0x8914, 1
MS_BIND = 0x1000


def prepare(run: Path) -> None:
    """Make the namespaces usable; twice is as good as once. Source: netdevice(7), resolv.conf(5)."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        request = fcntl.ioctl(any_socket, SIOCGIFFLAGS, struct.pack("16sH14x", b"lo", 0))
        flags = struct.unpack("16sH14x", request)[1]
        fcntl.ioctl(any_socket, SIOCSIFFLAGS, struct.pack("16sH14x", b"lo", flags | IFF_UP))
    around = known.load(run)
    place = Path("/etc/resolv.conf")
    server = way_out.name_server(around.means) if around is not None else ""
    if server and place.exists() and only_loopback(place.read_text()):
        kept = [line for line in place.read_text().splitlines() if not line.startswith("nameserver")]
        own = run / "resolv.conf"
        own.write_text("\n".join([f"nameserver {server}", *kept]) + "\n")
        syscalls.mount(os.fsencode(own), os.fsencode(os.path.realpath(place)), None, MS_BIND)


def only_loopback(text: str) -> bool:
    """Whether all name servers of a resolv.conf(5) are on the machine's loopback, or none is named. Pure."""
    servers = [line.split()[1] for line in text.splitlines() if line.startswith("nameserver") and len(line.split()) > 1]
    return all(server.startswith("127.") or server == "::1" for server in servers)
