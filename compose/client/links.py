"""Connections to the managers of one target: which is used, and which comes next when that is lost.

::

    Target   the addresses, with what is needed to reach them
    Link     a gRPC channel to one of them
    Route    the link that is used now; `lost` leaves it, and the next use finds another

Of several managers the one is used that is connected to first, by a race in which each further one starts a moment
later (RFC 8305 has the idea), so that a manager that is off costs a quarter of a second and one that refuses nothing.
"""

from __future__ import annotations

import contextlib
import selectors
import socket
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import grpc

from pycompose.compose.client.addresses import Address
from pycompose.compose.client.errors import ClientError, NodeError, NotRunningError

if TYPE_CHECKING:
    from pycompose.compose.client.ssh import Tunnel

MESSAGE_LIMIT = 64 << 20
CONNECT_SECONDS, HANDSHAKE_SECONDS = 10.0, 5.0
STAGGER_SECONDS, RACE_SECONDS = 0.25, 3.0
PING_SECONDS, PONG_SECONDS = 10, 5
MANAGER_NAME = "manager.pycompose"


@dataclass(frozen=True)
class Target:
    """What a client talks to.

    Attributes:
        addresses: of managers that serve the same cluster.
        label: what messages call it: the context's name or the address.
        folder: with cert.pem, key.pem and ca.pem; None: no TLS.
        startable: this machine's own node, that may be started.
    """

    addresses: tuple[Address, ...]
    label: str
    folder: Path | None = None
    startable: bool = False

    @property
    def local(self) -> bool:
        """Whether it is this machine's own node."""
        return self.startable


class Link:
    """A channel to one address."""

    def __init__(self, target: Target, address: Address) -> None:
        self.address = address
        self._folder = target.folder
        self._stubs: dict[Any, Any] = {}
        self._tunnel: Tunnel | None = None
        if address.kind == "ssh":
            from pycompose.compose.client.ssh import Tunnel

            self._tunnel = Tunnel(address)
        self.channel = self._open()

    def stub(self, kind: Callable[[grpc.Channel], Any]) -> Any:
        """Return the stub of a service."""
        found = self._stubs.get(kind)
        if found is None:
            found = self._stubs[kind] = kind(self.channel)
        return found

    def problem(self) -> str:
        """Return why it cannot be reached, found out by trying once more; "" when it can."""
        if self._tunnel is not None:
            return self._tunnel.problem()
        if self.address.kind == "tcp":
            from pycompose.compose.client.diagnosis import why

            return why(self.address, self._folder)
        return ""

    def close(self) -> None:
        """Close the channel; calls under way end."""
        self.channel.close()
        if self._tunnel is not None:
            self._tunnel.close()

    def _open(self) -> grpc.Channel:
        kind = self.address.kind
        seconds = HANDSHAKE_SECONDS if kind == "tcp" else CONNECT_SECONDS
        options: list[tuple[str, Any]] = [
            ("grpc.max_receive_message_length", MESSAGE_LIMIT),
            ("grpc.max_send_message_length", MESSAGE_LIMIT),
            ("grpc.enable_http_proxy", 0),
            ("grpc.min_reconnect_backoff_ms", int(seconds * 1000)),
            # a new link starts afresh: what an older one to the same address waits for is not shared
            ("grpc.use_local_subchannel_pool", 1),
        ]
        if kind == "unix":
            return grpc.insecure_channel(f"unix:{self.address.path}", options=options)
        if self._tunnel is not None:
            return grpc.insecure_channel(f"unix:{self._tunnel.path}", options=options)
        options += [
            ("grpc.keepalive_time_ms", PING_SECONDS * 1000),
            ("grpc.keepalive_timeout_ms", PONG_SECONDS * 1000),
        ]
        if self._folder is None:
            return grpc.insecure_channel(str(self.address), options=options)
        options.append(("grpc.ssl_target_name_override", MANAGER_NAME))
        return grpc.secure_channel(str(self.address), _credentials(self._folder), options=options)


def _credentials(folder: Path) -> grpc.ChannelCredentials:
    from pycompose.compose.client.contexts import CA, CERT, KEY

    try:
        certificate, key, authorities = ((folder / name).read_bytes() for name in (CERT, KEY, CA))
    except OSError as error:
        raise ClientError(f"{error.filename}: {error.strerror}; the context has lost it: import it anew") from None
    return grpc.ssl_channel_credentials(authorities, key, certificate)


class Route:
    """The link in use.

    Args:
        target: the managers.
        start: start this machine's node when nothing answers.
        tell: is told what takes time.
    """

    def __init__(self, target: Target, *, start: bool, tell: Callable[[str], None]) -> None:
        self.target, self._start, self._tell = target, start, tell
        self._link: Link | None = None
        self._left: list[Link] = []
        self._failed: dict[Address, str] = {}
        self._lock = threading.RLock()
        self.met = False

    def link(self) -> Link:
        """Return the link in use; one is made where none is.

        Raises:
            NodeError: no manager can be connected to, each with its reason.
        """
        with self._lock:
            if self._link is None:
                self._link = Link(self.target, self._choose())
            return self._link

    def any_link(self) -> Link:
        """Return the link in use, or the one that was used last."""
        return self._link or (self._left[-1] if self._left else self.link())

    def answered(self) -> None:
        """Note that the link in use works."""
        self.met = True
        self._failed.clear()

    def lost(self, link: Link, reason: str) -> bool:
        """Leave a link that failed; return whether there is a manager that has not failed since the last answer."""
        with self._lock:
            if link is self._link:
                self._link = None
                self._failed[link.address] = reason
                # it is closed at the end: closing it now would end others' calls without a reason
                self._left.append(link)
            return any(one not in self._failed for one in self.target.addresses)

    def again(self) -> None:
        """Give every manager another chance."""
        self._failed.clear()

    def unreachable(self) -> NodeError:
        """Return the error that says why no manager could be used."""
        found = [f"{address}: {self._failed[address]}" for address in self.target.addresses if address in self._failed]
        if len(self.target.addresses) == 1 and found:
            return NodeError(f"cannot reach {found[0]}")
        return NodeError(
            "\n".join([f"none of the {len(found)} managers of {self.target.label} can be reached", *_indented(found)])
        )

    def close(self) -> None:
        """Close all links."""
        for link in [*self._left, *([self._link] if self._link else [])]:
            link.close()
        self._link, self._left = None, []

    def _choose(self) -> Address:
        waiting = [one for one in self.target.addresses if one not in self._failed]
        if not waiting:
            raise self.unreachable()
        first = waiting[0]
        if first.kind == "unix":
            self._reach(first.path)
            return first
        tcp = [one for one in waiting if one.kind == "tcp"]
        if first.kind == "ssh" or len(tcp) == 1:
            return first
        winner, problems = race(tcp, RACE_SECONDS)
        self._failed.update(problems)
        if winner is None:
            return self._choose()
        return winner

    def _reach(self, path: str) -> None:
        from pycompose.compose.client import node

        try:
            if node.answers(path) or node.comes_back(path):
                return
        except PermissionError:
            raise NodeError(
                f"you may not talk to the node at {path}; run as root (sudo pycompose …) or join the group pycompose"
            ) from None
        if not self.target.startable:
            raise NotRunningError(
                f"no node answers at {path}; start the one that has its socket there, or name another with -H, "
                "PYCOMPOSE_HOST or a context"
            )
        if not self._start or self.met:
            raise NotRunningError(f"no node answers at {path}; start it with pycompose up or pycompose node start")
        node.start(path, self._tell)


def _indented(lines: Sequence[str]) -> list[str]:
    return [f"  {line}" for line in lines]


def race(addresses: Sequence[Address], seconds: float) -> tuple[Address | None, dict[Address, str]]:
    """Connect to addresses, each a moment after the one before; return the first that accepts, and why others did not.

    Args:
        addresses: of kind tcp.
        seconds: how long to try in all.
    """
    from pycompose.compose.client.diagnosis import tcp_problem

    problems: dict[Address, str] = {}
    waiting = list(addresses)
    end, next_start = time.monotonic() + seconds, 0.0
    with selectors.DefaultSelector() as selector, contextlib.ExitStack() as sockets:
        while waiting or selector.get_map():
            now = time.monotonic()
            if now >= end:
                break
            if waiting and (now >= next_start or not selector.get_map()):
                address = waiting.pop(0)
                next_start = now + STAGGER_SECONDS
                try:
                    selector.register(sockets.enter_context(_begin(address)), selectors.EVENT_WRITE, address)
                except OSError as error:
                    problems[address] = tcp_problem(error)
                continue
            for key, _ in selector.select(min(end, next_start if waiting else end) - now):
                code = key.fileobj.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)  # type: ignore[union-attr]
                if not code:
                    return key.data, problems
                problems[key.data] = tcp_problem(OSError(code, ""))
                selector.unregister(key.fileobj)
        for key in (selector.get_map() or {}).values():
            problems[key.data] = tcp_problem(TimeoutError())
    problems.update(dict.fromkeys(waiting, tcp_problem(TimeoutError())))
    return None, problems


def _begin(address: Address) -> socket.socket:
    family, kind, protocol, _, place = socket.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM)[0]
    connection = socket.socket(family, kind, protocol)
    connection.setblocking(False)
    connection.connect_ex(place)
    return connection
