"""Sockets that hold published ports of the machine, in the calling thread's network namespace."""

from __future__ import annotations

import errno
import socket
from pathlib import Path

from pycompose.worker.network import portholder
from pycompose.worker.network.errors import NetworkError, PortTaken
from pycompose.worker.network.model import PublishedPort


def reserve(port: PublishedPort) -> list[socket.socket]:
    """Bind the port in the calling thread's namespace, on all addresses that it names.

    Raises:
        PortTaken: naming the process that holds it.
        NetworkError: the host address is not this machine's.
    """
    kind = socket.SOCK_STREAM if port.protocol == "tcp" else socket.SOCK_DGRAM
    addresses = [port.host_ip] if port.host_ip else ["0.0.0.0", "::"]
    opened: list[socket.socket] = []
    for address in addresses:
        try:
            opened.append(_bind(address, port.published, kind))
        except OSError as error:
            if address == "::" and not port.host_ip and error.errno in (errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL):
                continue
            for each in opened:
                each.close()
            raise _explain(port, address, error) from error
    return opened


def _bind(address: str, port: int, kind: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    opened = socket.socket(family, kind | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK)
    try:
        if family == socket.AF_INET6:
            opened.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        if kind == socket.SOCK_STREAM:  # old connections in TIME_WAIT do not hold the port
            opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        opened.bind((address, port))
        if kind == socket.SOCK_STREAM:
            opened.listen(1024)
    except OSError:
        opened.close()
        raise
    return opened


def _explain(port: PublishedPort, address: str, error: OSError) -> NetworkError:
    where = f"port {port.published}/{port.protocol} on {address}"
    if error.errno == errno.EADDRINUSE:
        holder = portholder.find_holder(port.protocol, port.published) or "another process"
        return PortTaken(f"{where} is held by {holder}; stop it or publish another port")
    if error.errno == errno.EADDRNOTAVAIL:
        return NetworkError(f"{where}: this machine has no such address; publish on one that it has")
    if error.errno == errno.EACCES:
        first = Path("/proc/sys/net/ipv4/ip_unprivileged_port_start").read_text().strip()
        return NetworkError(
            f"{where}: ordinary users may open ports from {first} on (net.ipv4.ip_unprivileged_port_start); publish "
            f"another one, or as root: sysctl net.ipv4.ip_unprivileged_port_start={port.published}"
        )
    return NetworkError(f"{where} cannot be opened: {error.strerror}")
