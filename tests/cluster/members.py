"""What the etcd members of a bed say: asked over their JSON gateway, from inside each host's network.

Sources: https://etcd.io/docs/v3.4/dev-guide/api_grpc_gateway/, setns(2).
"""

from __future__ import annotations

import base64
import ctypes
import http.client
import json
import os
import socket
import ssl
import threading
from collections.abc import Iterable
from typing import Any

from cluster.bed import Host
from cluster.provision import CLIENT, LOOPBACK
from pycompose.manager.leadership import KEY as LEADER
from pycompose.manager.member import IDENTITY
from pycompose.proto.tls import AUTHORITIES, CERTIFICATE
from pycompose.proto.tls import KEY as PRIVATE

CLONE_NEWNET = 0x40000000
ROOT = "pycompose/data"
_libc = ctypes.CDLL(None, use_errno=True)


def connected(host: Host, port: int, seconds: float) -> socket.socket:
    """Return a connection to a port of the host's loopback. Raises OSError."""
    found: list[socket.socket | OSError] = []

    def connect() -> None:
        # the thread stays in the other namespace, and ends there
        namespace = os.open(f"/proc/{host.machine.pid}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        try:
            if _libc.setns(namespace, CLONE_NEWNET):
                raise OSError(ctypes.get_errno(), "setns")
            found.append(socket.create_connection((LOOPBACK, port), seconds))
        except OSError as error:
            found.append(error)
        finally:
            os.close(namespace)

    thread = threading.Thread(target=connect)
    thread.start()
    thread.join()
    if isinstance(found[0], OSError):
        raise found[0]
    return found[0]


def ask(host: Host, path: str, body: dict[str, Any], seconds: float = 3.0) -> dict[str, Any]:
    """Ask the host's member; `path` is below /v3/. Raises OSError, ValueError."""
    files = host.folder / "state" / "manager" / IDENTITY
    context = ssl.create_default_context(cafile=str(files / AUTHORITIES))
    context.load_cert_chain(files / CERTIFICATE, files / PRIVATE)
    with connected(host, CLIENT, seconds) as plain, context.wrap_socket(plain, server_hostname=LOOPBACK) as secure:
        connection = http.client.HTTPConnection(LOOPBACK)
        connection.sock = secure
        connection.request("POST", f"/v3/{path}", json.dumps(body), {"Content-Type": "application/json"})
        answer = json.loads(connection.getresponse().read())
    if "error" in answer:
        raise ValueError(answer["error"])
    return dict(answer)


def rows(host: Host, prefix: str) -> dict[str, bytes]:
    """Return the store's keys below a prefix, read by a majority. Raises OSError, ValueError."""
    first = f"{ROOT}{prefix}".encode()
    last = first[:-1] + bytes([first[-1] + 1])
    body = {"key": base64.b64encode(first).decode(), "range_end": base64.b64encode(last).decode()}
    items = ask(host, "kv/range", body).get("kvs", ())
    return {
        base64.b64decode(item["key"]).decode().removeprefix(ROOT): base64.b64decode(item.get("value", ""))
        for item in items
    }


def leading_member(hosts: Iterable[Host]) -> Host | None:
    """Return the host whose member leads; None while none does."""
    for host in hosts:
        try:
            status = ask(host, "maintenance/status", {})
        except (OSError, ValueError, http.client.HTTPException):
            continue
        if status.get("leader") == status["header"]["member_id"]:
            return host
    return None


def leading_manager(hosts: Iterable[Host]) -> Host | None:
    """Return the host whose manager runs the control loops; None while none does."""
    hosts = list(hosts)
    names = {(host.folder / "state" / "agent" / "node-id").read_text(): host for host in hosts}
    for host in hosts:
        try:
            holder = rows(host, LEADER).get(LEADER, b"").decode()
        except (OSError, ValueError, http.client.HTTPException):
            continue
        return names.get(holder)
    return None
