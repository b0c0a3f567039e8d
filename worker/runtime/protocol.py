"""The conversation between agent and shim: SOCK_SEQPACKET messages, first byte says what.

A connection has one purpose, named by its first message (``J`` with an ``op``):

    op           then
    kill         one ``J`` reply
    resize       one ``J`` reply
    exec_signal  one ``J`` reply; to the exec with that pid
    exec_resize  one ``J`` reply
    watch        ``J`` started or error, later ``X`` with the exit status; end of file without it: the shim was lost
    attach       streams both ways
    exec         ``J`` {pid} or {error, code}; streams both ways; ``X`` with the exit status

Streams: ``1`` and ``2`` carry output, ``0`` input, ``C`` closes the input. Either side reads when it has room, so
signals and sizes have connections of their own: they arrive also when a program does not read its input. A message
keeps its bounds, so there is no framing and no partial read.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

JSON, EXIT, STDIN, STDOUT, STDERR, CLOSE = b"J", b"X", b"0", b"1", b"2", b"C"
#: Largest message; the kernel's default send buffer takes it (net.core.wmem_default).
LIMIT = 160 * 1024
#: Output is sent in pieces of this size.
CHUNK = 32 * 1024
SOCKET_NAME = "shim.sock"


def encode(kind: bytes, value: object) -> bytes:
    """A message whose body is JSON."""
    return kind + json.dumps(value).encode()


def decode(message: bytes) -> Any:
    """The JSON body of a message."""
    return json.loads(message[1:])


def address(directory: int) -> str:
    """The socket's address by its directory's descriptor: sun_path holds 108 bytes only (unix(7))."""
    return f"/proc/self/fd/{directory}/{SOCKET_NAME}"


def listen(directory: str) -> socket.socket:
    """The shim's listening socket, 0600 in the container's own directory."""
    fd = os.open(directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(SOCKET_NAME, dir_fd=fd)
        listener.bind(address(fd))
        os.chmod(SOCKET_NAME, 0o600, dir_fd=fd)
        listener.listen(64)
        listener.setblocking(False)
    finally:
        os.close(fd)
    return listener


def connect(directory: str) -> socket.socket:
    """A non-blocking connection to the shim of the container in ``directory``.

    Raises:
        OSError: nobody listens.
    """
    fd = os.open(directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    try:
        connection.setblocking(False)
        connection.connect(address(fd))
    except OSError:
        connection.close()
        raise
    finally:
        os.close(fd)
    return connection
