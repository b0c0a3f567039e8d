"""The shim's connections: agents that watch, feed or read a container or an exec.

Nothing grows with a slow peer: when it does not take its output, the sources of that output are not read (the program
that writes waits, as at a terminal); when a program does not take its input, the peer that sends it is not read.
"""

from __future__ import annotations

import contextlib
import select
import socket

from pycompose.worker.runtime import protocol

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from pycompose.worker.runtime.shim import Shim

#: Bytes that may wait for a peer before its sources are held.
FULL = 256 * 1024


def hang_up(connection: socket.socket) -> None:
    """Close, after reading what the peer sent meanwhile.

    The kernel answers a close with unread messages by ECONNRESET at the other end, ahead of the
    messages that still wait there: the exit status would be lost (unix_release_sock in net/unix/af_unix.c).
    """
    with contextlib.suppress(OSError):
        connection.setblocking(False)
        connection.shutdown(socket.SHUT_RD)
        while connection.recv(protocol.LIMIT + 4096):
            pass
    connection.close()


class Peer:
    """One connection. ``role`` is empty until its first message; ``input`` gets the later ones."""

    def __init__(self, shim: Shim, connection: socket.socket) -> None:
        self.shim, self.connection, self.role = shim, connection, ""
        self.input: Callable[[Peer, bytes], None] = lambda peer, message: None
        #: Called when the peer can take more, and when it is gone.
        self.eased: Callable[[], None] = lambda: None
        self.gone: Callable[[], None] = lambda: None
        self.queue: list[bytes] = []
        self.queued = 0
        self.held = self.ending = False
        self.fd = connection.fileno()
        self.events = select.EPOLLIN
        connection.setblocking(False)
        shim.peers.add(self)
        shim.watch(self.fd, self._ready)

    @property
    def full(self) -> bool:
        """Whether what waits for the peer is enough."""
        return self.queued >= FULL

    def hold(self, held: bool) -> None:
        """Read no more input of the peer, or go on."""
        self.held = held
        self._mind()

    def _mind(self) -> None:
        """Tell the kernel what is waited for; that the other end is gone is always told."""
        wanted = 0 if self.held else select.EPOLLIN
        wanted |= select.EPOLLOUT if self.queue else 0
        if self.fd >= 0 and wanted != self.events:
            self.events = wanted
            self.shim.poll.modify(self.fd, wanted)

    def _ready(self, events: int) -> None:
        if self.queue:
            self._flush()
        if self.held and events & (select.EPOLLHUP | select.EPOLLERR):
            self.close()
        if self.fd < 0 or self.held:
            return
        try:
            message = self.connection.recv(protocol.LIMIT + 4096)
        except BlockingIOError:
            return
        except OSError:
            message = b""
        if not message:
            self.close()
        elif self.role:
            self.input(self, message)
        elif message[:1] == protocol.JSON:
            self.shim.request(self, protocol.decode(message))

    def send(self, message: bytes) -> None:
        """Send, now or when the peer takes it."""
        if self.fd >= 0:
            self.queue.append(message)
            self.queued += len(message)
            self._flush()

    def _flush(self) -> None:
        before = self.full
        sent = 0
        try:
            for message in self.queue:
                self.connection.send(message)
                self.queued -= len(message)
                sent += 1
        except BlockingIOError:
            pass
        except OSError:
            self.close()
            return
        del self.queue[:sent]
        self._mind()
        if not self.queue and self.ending:
            self.close()
        elif before and not self.full:
            self.eased()

    def finish(self, message: bytes) -> None:
        """The last message; the connection ends when the peer has taken all."""
        self.ending = True
        self.send(message)

    def close(self) -> None:
        """End the connection at once."""
        if self.fd >= 0:
            self.shim.unwatch(self.fd)
            hang_up(self.connection)
            self.fd = -1
            self.queue, self.queued = [], 0
            self.shim.peers.discard(self)
            self.gone()
            self.eased()
