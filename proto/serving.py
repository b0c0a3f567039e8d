"""A server of this API on a unix socket: limits at the door, refusals with details, a socket for the right people.

Who may connect is the kernel's check: connect(2) to a unix socket takes write permission on its file (unix(7)), and
the file is 0600, or 0660 of one group; docs/decisions/0005 says why there is no second check. A connection that says
nothing is closed after HANDSHAKE_SECONDS; connections, messages and calls of one connection have limits.
"""

from __future__ import annotations

import contextlib
import grp
import os
import resource
from collections.abc import Sequence
from pathlib import Path

import grpc

from pycompose.proto.guard import Guard

GROUP = "pycompose"
MESSAGE_BYTES = 16 * 1024 * 1024
HANDSHAKE_SECONDS = 10
CALLS_PER_CONNECTION = 1000
CONNECTIONS, OTHER_DESCRIPTORS = 12_000, 1000


def api_group() -> int | None:
    """Return the number of the group that may use the API; None: there is no such group, and root is alone."""
    try:
        return grp.getgrnam(GROUP).gr_gid
    except KeyError:
        return None


def connections_allowed() -> int:
    """Raise the limit of open files as far as it goes; return how many connections leave room for other files."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return max(100, min(CONNECTIONS, soft - OTHER_DESCRIPTORS))


def new_server(
    guard: Guard, *checks: grpc.aio.ServerInterceptor, options: Sequence[tuple[str, int]] = ()
) -> grpc.aio.Server:
    """Return a server with limits.

    Args:
        guard: tells refusals and faults.
        checks: come before the calls.
        options: of gRPC, beside ours.
    """
    limits = [
        ("grpc.max_receive_message_length", MESSAGE_BYTES),
        ("grpc.max_send_message_length", MESSAGE_BYTES),
        ("grpc.max_concurrent_streams", CALLS_PER_CONNECTION),
        ("grpc.max_allowed_incoming_connections", connections_allowed()),
        ("grpc.server_handshake_timeout_ms", HANDSHAKE_SECONDS * 1000),
        ("grpc.so_reuseport", 0),
        # others ping to notice that this process is paused or cut off; gRPC's own limit is five minutes
        ("grpc.http2.min_recv_ping_interval_without_data_ms", 1000),
    ]
    return grpc.aio.server(options=[*limits, *options], interceptors=[guard, *checks])


async def listen(server: grpc.aio.Server, path: Path, group: int | None = None) -> None:
    """Start `server` on a unix socket that root may use, and `group` (a number) when one is given.

    A socket of a server that was killed is replaced. Raises OSError.
    """
    path.unlink(missing_ok=True)
    before = os.umask(0o177)
    try:
        server.add_insecure_port(f"unix:{path}")
        await server.start()
    finally:
        os.umask(before)
    if group is not None:
        os.chown(path, 0, group)
        os.chmod(path, 0o660)
