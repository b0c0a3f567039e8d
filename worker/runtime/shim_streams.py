"""The shim's descriptors: output that is read, input that is written, and the container's own streams of them."""

from __future__ import annotations

import os
import select
import signal
import time

from pycompose.worker.runtime import container, protocol

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pycompose.worker.runtime.shim import Shim
    from pycompose.worker.runtime.shim_peers import Peer

READ = 32 * 1024
#: Bytes that may wait for a program to read them before those who send them are held.
FULL = 256 * 1024
#: Bytes of a terminal's first output that are kept for whoever joins it first; beyond, they are in the log alone.
EARLY = 256 * 1024


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


class Sink:
    """A descriptor that is written without blocking: what does not fit waits, and its sender with it."""

    def __init__(self, shim: Shim, fd: int) -> None:
        self.shim, self.fd = shim, fd
        self.queue = b""
        self.closing = False
        self.senders: set[Peer] = set()
        os.set_blocking(fd, False)

    def take(self, peer: Peer, message: bytes) -> None:
        """Input of a peer, or its end."""
        if message[:1] == protocol.STDIN:
            self.write(message[1:])
            if len(self.queue) >= FULL:
                self.senders.add(peer)
                peer.hold(True)
        elif message[:1] == protocol.CLOSE:
            self.end()

    def end(self) -> None:
        """The input has ended."""
        self.close()

    def write(self, data: bytes) -> None:
        if self.fd >= 0:
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
        except OSError:
            self.queue, self.closing = b"", True
        if len(self.queue) < FULL:
            senders, self.senders = self.senders, set()
            for peer in senders:
                peer.hold(False)
        if self.queue:
            return
        self.shim.unwatch(self.fd)
        if self.closing:
            os.close(self.fd)
            self.fd = -1

    def close(self) -> None:
        """Close after what is queued has been written."""
        self.closing = True
        self._flush()


class Terminal(Sink):
    """A terminal's input: its end is the end-of-file character, and it stays open."""

    def end(self) -> None:
        self.write(b"\x04")


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

    def hold(self, held: bool) -> None:
        """Read no more, or go on: the writer waits when the pipe is full."""
        if self.fd >= 0:
            self.shim.unwatch(self.fd)
            if not held:
                self.shim.watch(self.fd, self.readable)

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
        self.attached: list[Peer] = []
        self.held = False
        self.terminal = -1
        self.early: list[bytes] | None = None

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
        self.terminal, self.early = master, []
        self.sources.append(Source(self.shim, master, "stdout", self.deliver))
        self.stdin = Terminal(self.shim, os.dup(master))

    def join(self, peer: Peer, early: list[bytes]) -> None:
        """A peer reads and feeds the container from now on, after `early`; the slowest one sets the pace."""
        self.early = None
        for data in early:
            peer.send(protocol.STDOUT + data)
        if self.stdin:
            peer.input = self.stdin.take
        peer.eased = self._mind
        self.attached.append(peer)

    def deliver(self, stream: str, data: bytes) -> None:
        if self.shim.log:
            self.shim.log.write(stream, data, time.time_ns())
        if self.early is not None:
            self.early.append(data)
            if sum(map(len, self.early)) > EARLY:
                self.early = None
        kind = protocol.STDOUT if stream == "stdout" else protocol.STDERR
        for peer in list(self.attached):
            peer.send(kind + data)
        self._mind()

    def _mind(self) -> None:
        """Read output only while every attached peer takes it."""
        self.attached = [peer for peer in self.attached if peer.fd >= 0]
        held = any(peer.full for peer in self.attached)
        if held != self.held:
            self.held = held
            for source in self.sources:
                source.hold(held)

    def resize(self, rows: int, columns: int) -> None:
        if self.terminal < 0:
            raise ValueError("the container has no terminal")
        container.set_window(self.terminal, rows, columns)

    def drain(self) -> None:
        for source in self.sources:
            source.drain()
