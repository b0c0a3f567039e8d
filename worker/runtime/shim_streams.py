"""The shim's descriptors: the container's output and input, and the peers who watch or feed them."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
import time

from pycompose.worker.runtime import container, protocol

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pycompose.worker.runtime.shim import Shim

READ = 32 * 1024
#: An attached peer that lags by more is let go, so that it cannot stall the container.
BACKLOG = 4 * 1024 * 1024


def reap() -> Iterator[tuple[int, int]]:
    """Every child that has ended, as (pid, status of wait(2))."""
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if pid == 0:
            return
        yield pid, status


#: What must not end a shim. Blocked, not ignored: a mask costs nothing to inherit, and is empty again before exec.
UNHEARD = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGPIPE, signal.SIGXFSZ)


def deafen() -> None:
    """Block what must not end a shim (the zygote does so for all of its own), with default actions behind."""
    for number in (signal.SIGINT, signal.SIGPIPE, signal.SIGXFSZ):  # Python's own handlings
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_BLOCK, UNHEARD)


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


class Sink:
    """A descriptor that is written without blocking: what does not fit waits for EPOLLOUT."""

    def __init__(self, shim: Shim, fd: int) -> None:
        self.shim, self.fd = shim, fd
        self.queue = b""
        self.closing = False
        os.set_blocking(fd, False)

    def write(self, data: bytes) -> None:
        self.queue += data
        self._flush()

    def _flush(self, _: int = 0) -> None:
        if self.fd < 0:
            return
        try:
            while self.queue:
                self.queue = self.queue[os.write(self.fd, self.queue) :]
        except BlockingIOError:
            if self.fd not in self.shim.handlers:
                self.shim.watch(self.fd, self._flush, select.EPOLLOUT)
            return
        except OSError:
            self.queue, self.closing = b"", True
        self.shim.unwatch(self.fd)
        if self.closing:
            os.close(self.fd)
            self.fd = -1

    def close(self) -> None:
        """Close after what is queued has been written."""
        self.closing = True
        self._flush()


class Source:
    """An output pipe or terminal; ``deliver`` gets (stream, data), and end of file ends the watching."""

    def __init__(self, shim: Shim, fd: int, stream: str, deliver: Callable[[str, bytes], None]) -> None:
        self.shim, self.fd, self.stream, self.deliver = shim, fd, stream, deliver
        os.set_blocking(fd, False)
        shim.watch(fd, self.readable)

    def readable(self, _: int = 0) -> bool:
        """Read once; returns whether there may be more."""
        if self.fd < 0:
            return False
        try:
            data = os.read(self.fd, READ)
        except BlockingIOError:
            return False
        except OSError:  # EIO: the last slave of the terminal is closed
            data = b""
        if data:
            self.deliver(self.stream, data)
            return True
        self.close()
        return False

    def close(self) -> None:
        if self.fd >= 0:
            self.shim.unwatch(self.fd)
            os.close(self.fd)
            self.fd = -1

    def drain(self) -> None:
        """Read what is there (bounded: others may still write), then close."""
        for _ in range(256):
            if not self.readable():
                break
        self.close()


class Streams:
    """The container's own standard streams."""

    def __init__(self, shim: Shim) -> None:
        self.shim = shim
        self.sources: list[Source] = []
        self.stdin: Sink | None = None
        self.terminal = -1

    def make_pipes(self, open_stdin: bool) -> tuple[int, int, int]:
        """Pipes for a container without terminal; returns the container's ends."""
        if open_stdin:
            theirs_in, mine = os.pipe2(os.O_CLOEXEC)
            self.stdin = Sink(self.shim, mine)
        else:
            theirs_in = os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC)
        ends = [theirs_in]
        for stream in ("stdout", "stderr"):
            mine, theirs = os.pipe2(os.O_CLOEXEC)
            self.sources.append(Source(self.shim, mine, stream, self.deliver))
            ends.append(theirs)
        return ends[0], ends[1], ends[2]

    def take_terminal(self, master: int) -> None:
        self.terminal = master
        self.sources.append(Source(self.shim, master, "stdout", self.deliver))
        self.stdin = Sink(self.shim, os.dup(master))

    def deliver(self, stream: str, data: bytes) -> None:
        if self.shim.log:
            self.shim.log.write(stream, data, time.time_ns())
        kind = protocol.STDOUT if stream == "stdout" else protocol.STDERR
        for peer in list(self.shim.peers):
            if peer.role == "attach":
                peer.send(kind + data)

    def resize(self, rows: int, columns: int) -> None:
        if self.terminal < 0:
            raise ValueError("the container has no terminal")
        container.set_window(self.terminal, rows, columns)

    def drain(self) -> None:
        for source in self.sources:
            source.drain()

    def input(self, kind: bytes, message: bytes) -> None:
        """A message of an attached peer."""
        if kind == protocol.STDIN and self.stdin:
            self.stdin.write(message[1:])
        elif kind == protocol.CLOSE and self.stdin:
            self.stdin.write(b"\x04") if self.terminal >= 0 else self.stdin.close()
        elif kind == protocol.WINDOW:
            with contextlib.suppress(OSError, ValueError):
                self.resize(*protocol.decode(message))
        elif kind == protocol.SIGNAL:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.shim.pid, protocol.decode(message))


class Peer:
    """One connection. ``role`` is empty until its first message; ``input`` gets the later ones."""

    def __init__(self, shim: Shim, connection: socket.socket) -> None:
        self.shim, self.connection, self.role = shim, connection, ""
        self.input: Callable[[bytes, bytes], None] = shim.streams.input
        self.gone: Callable[[], None] | None = None
        self.queue: list[bytes] = []
        self.queued = 0
        self.fd = connection.fileno()
        connection.setblocking(False)
        shim.peers.add(self)
        shim.watch(self.fd, self._ready)

    def _ready(self, _: int) -> None:
        self._flush()
        if self.fd < 0:
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
            self.input(message[:1], message)
        elif message[:1] == protocol.JSON:
            self.shim.request(self, protocol.decode(message))

    def send(self, message: bytes) -> None:
        if self.fd < 0:
            return
        self.queue.append(message)
        self.queued += len(message)
        self._flush()
        if self.queued > BACKLOG:
            self.close()

    def _flush(self) -> None:
        if not self.queue:
            return
        try:
            while self.queue:
                self.connection.send(self.queue[0])
                self.queued -= len(self.queue.pop(0))
            self.shim.poll.modify(self.fd, select.EPOLLIN)
        except BlockingIOError:
            self.shim.poll.modify(self.fd, select.EPOLLIN | select.EPOLLOUT)
        except OSError:
            self.close()

    def finish(self, message: bytes) -> None:
        """The last message, then the end of the connection; waits at most 1 s for a slow peer."""
        if self.fd >= 0:
            with contextlib.suppress(OSError):
                self.connection.settimeout(1.0)
                for each in [*self.queue, message]:
                    self.connection.send(each)
            self.queue = []
            self.close()

    def close(self) -> None:
        if self.fd >= 0:
            self.shim.unwatch(self.fd)
            hang_up(self.connection)
            self.fd = -1
            self.shim.peers.discard(self)
            if self.gone:
                self.gone()
