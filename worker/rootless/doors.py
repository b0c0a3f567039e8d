"""Ports of the machine for a node that lives in a network namespace of its own.

The launch, which is outside, binds a port and hands the socket over (SCM_RIGHTS, unix(7)): a socket stays in the
network namespace that it was made in, whoever accepts from it. So publishing fails at once and with the machine's own
reason, and needs no program between. Who is served is the kernel's check: the socket's file and folder are the user's.
"""

from __future__ import annotations

import json
import os
import socket
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path

from pycompose.worker.network.errors import NetworkError, PortTaken
from pycompose.worker.network.hostports import reserve
from pycompose.worker.network.model import PublishedPort

TIMEOUT_SECONDS = 5.0
LIMIT = 4096


def listen(path: Path) -> socket.socket:
    """Return the socket at which ports are asked for."""
    path.unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_CLOEXEC)
    before = os.umask(0o177)
    try:
        listener.bind(str(path))
    finally:
        os.umask(before)
    listener.listen(16)
    return listener


def serve_one(listener: socket.socket) -> None:
    """Answer one who asks."""
    with suppress(OSError):
        connection, _ = listener.accept()
        with connection:
            connection.settimeout(TIMEOUT_SECONDS)
            _answer(connection)


def _answer(connection: socket.socket) -> None:
    wish = json.loads(connection.recv(LIMIT))
    try:
        sockets = reserve(PublishedPort(**wish))
    except NetworkError as error:
        taken = isinstance(error, PortTaken)
        connection.send(json.dumps({"error": str(error), "taken": taken}).encode())
        return
    try:
        socket.send_fds(connection, [b"{}"], [each.fileno() for each in sockets])
    finally:
        for each in sockets:
            each.close()


def ask(path: Path, port: PublishedPort) -> list[socket.socket]:
    """Return sockets on a published port of the machine, as ``hostports.reserve`` does.

    Raises:
        PortTaken, NetworkError: as there, or the launch does not answer.
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_CLOEXEC) as asking:
        asking.settimeout(TIMEOUT_SECONDS)
        try:
            asking.connect(str(path))
            asking.send(json.dumps(asdict(port)).encode())
            message, descriptors, _, _ = socket.recv_fds(asking, LIMIT, 2)
        except OSError as error:
            raise NetworkError(f"port {port.published}: nobody opens ports at {path} ({error})") from error
    opened = [socket.socket(fileno=descriptor) for descriptor in descriptors]
    for each in opened:
        each.setblocking(False)
    if opened:
        return opened
    answer = json.loads(message or b"{}")
    kind = PortTaken if answer.get("taken") else NetworkError
    raise kind(answer.get("error") or f"port {port.published} cannot be opened")
