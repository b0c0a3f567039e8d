"""Another machine's servers: TCP that tells each client its address, and DNS. Arguments: what to say instead, ports.

usage: peer.py TEXT PORT [PORT6]: with PORT6 also on IPv6, and name service on 53/udp that answers 10.9.8.7 to all.
"""

from __future__ import annotations

import socket
import socketserver
import sys
import threading


class Tell(socketserver.BaseRequestHandler):
    """Say the text, or the client's address."""

    def handle(self) -> None:
        text = sys.argv[1] or self.client_address[0].removeprefix("::ffff:")
        self.request.sendall(text.encode() + b"\n")


class Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = True


class Server6(Server):
    address_family = socket.AF_INET6


class Names(socketserver.BaseRequestHandler):
    """Answer every question for an address (RFC 1035, section 4)."""

    def handle(self) -> None:
        data, udp = self.request
        end = data.index(b"\0", 12) + 5
        wants_address = data[end - 4 : end - 2] == b"\0\1"
        counts = b"\0\1\0\1\0\0\0\0" if wants_address else b"\0\1\0\0\0\0\0\0"
        answer = b"\xc0\x0c\0\1\0\1\0\0\0\0\0\4\x0a\x09\x08\x07" if wants_address else b""
        udp.sendto(data[:2] + b"\x81\x80" + counts + data[12:end] + answer, self.client_address)


servers: list[socketserver.BaseServer] = [Server(("", int(sys.argv[2])), Tell)]
if len(sys.argv) > 3:
    servers += [Server6(("::", int(sys.argv[3])), Tell), socketserver.ThreadingUDPServer(("", 53), Names)]
for server in servers:
    threading.Thread(target=server.serve_forever).start()
print("ready", flush=True)
