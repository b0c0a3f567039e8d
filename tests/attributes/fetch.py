"""Print what a server says. usage: fetch.py URL | [--udp] HOST PORT. Exit status 1 when it says nothing."""

from __future__ import annotations

import socket
import sys
import urllib.request


def stream(host: str, port: int) -> bytes:
    """All that a TCP server says."""
    with socket.create_connection((host, port), 5) as connection:
        connection.shutdown(socket.SHUT_WR)
        data = b""
        while piece := connection.recv(4096):
            data += piece
        return data


def datagram(host: str, port: int) -> bytes:
    """A UDP server's answer."""
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_DGRAM) as asked:
        asked.settimeout(5)
        asked.connect((host, port))
        asked.send(b"?\n")
        return asked.recv(4096)


arguments = sys.argv[1:]
try:
    if arguments[0].startswith("http"):
        found = urllib.request.urlopen(arguments[0], timeout=5).read()
    elif arguments[0] == "--udp":
        found = datagram(arguments[1], int(arguments[2]))
    else:
        found = stream(arguments[0], int(arguments[1]))
except OSError:
    found = b""
if not found:
    sys.exit(1)
print(found.decode().strip())
