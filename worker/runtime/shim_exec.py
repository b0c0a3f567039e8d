"""A further process in a running container, forked by its shim.

What the child does is ``enter``'s. No Python starts: a health probe costs a fork and an exec.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket

from pycompose.worker.runtime import container, enter, namespaces, protocol, syscalls, userns
from pycompose.worker.runtime.errors import StartError
from pycompose.worker.runtime.shim_peers import Peer
from pycompose.worker.runtime.shim_streams import Sink, Source, Terminal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from pycompose.worker.runtime.shim import Shim


#: Between SIGHUP and SIGKILL of a program whose client has left.
HANG_UP_SECONDS = 10.0


class Exec:
    """One running exec and the connection that owns its streams.

    When that is cut before the program has ended, the program and its process group are hung up, and killed
    HANG_UP_SECONDS later; a detached program goes on, and what it writes is thrown away.
    """

    def __init__(self, shim: Shim, peer: Peer, pid: int, terminal: int, *, detached: bool) -> None:
        self.shim, self.peer, self.pid, self.terminal, self.detached = shim, peer, pid, terminal, detached
        self.sources: list[Source] = []
        self.stdin: Sink | None = None
        self.held = False
        peer.role, peer.eased, peer.gone = "exec", self._mind, self._cut

    def deliver(self, stream: str, data: bytes) -> None:
        self.peer.send((protocol.STDOUT if stream == "stdout" else protocol.STDERR) + data)
        self._mind()

    def _mind(self) -> None:
        """Read output only while the peer takes it."""
        if self.held != self.peer.full:
            self.held = self.peer.full
            for source in self.sources:
                source.hold(self.held)

    def signal(self, number: int) -> None:
        """Signal the program."""
        os.kill(self.pid, number)

    def resize(self, rows: int, columns: int) -> None:
        """Set the size of the terminal; nothing without one."""
        if self.terminal >= 0:
            container.set_window(self.terminal, rows, columns)

    def _cut(self) -> None:
        if self.pid not in self.shim.execs or self.detached:
            return
        if self.stdin:
            self.stdin.queue = b""
            self.stdin.close()
        self._group(signal.SIGHUP)
        self._group(signal.SIGCONT)
        self.shim.later(HANG_UP_SECONDS, self._kill)

    def _kill(self) -> None:
        if self.pid in self.shim.execs:
            self._group(signal.SIGKILL)

    def _group(self, number: int) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, number)  # it leads a session of its own
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, number)

    def ended(self, status: int) -> None:
        """Send the rest of the output, then the status, then close."""
        for source in self.sources:
            source.drain()
        if self.stdin and self.stdin.fd >= 0:
            self.stdin.queue = b""
            self.stdin.close()
        code = 128 + os.WTERMSIG(status) if os.WIFSIGNALED(status) else os.WEXITSTATUS(status)
        self.peer.finish(protocol.encode(protocol.EXIT, {"code": code}))


def begin(shim: Shim, peer: Peer, message: dict[str, Any]) -> None:
    """Fork, enter, execute; answers with the pid or raises StartError."""
    process: dict[str, Any] = message["process"]
    mine, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    terminal = bool(message.get("tty"))
    ends, ours = ((), ()) if terminal else _pipes(bool(message.get("stdin")))
    entered = namespaces.open_all(shim.pid)
    root = os.open(f"/proc/{shim.pid}/root", os.O_PATH | os.O_CLOEXEC)
    syscalls.prctl(syscalls.PR_SET_CHILD_SUBREAPER, 1)  # of the process that enters, whose parent ends
    pid = os.fork()
    if pid == 0:
        signal.set_wakeup_fd(-1)
        mine.close()
        enter.run(
            process,
            theirs,
            cgroup=shim.cgroup,
            seccomp=shim.launch.get("seccomp"),
            namespaces=entered,
            root=root,
            linux=shim.config["linux"],
            stdio=ends,
            terminal=terminal,
            window=message.get("window"),
        )
    theirs.close()
    for fd in {*ends, root, *(fd for fd, _ in entered)}:
        os.close(fd)
    try:
        pid = userns.follow(mine, pid)
    except StartError:
        for fd in ours:
            if fd >= 0:
                os.close(fd)
        mine.close()
        raise
    master = _await_exec(mine, pid, ours)
    running = Exec(shim, peer, pid, master, detached=bool(message.get("detach")))
    if terminal:
        running.sources.append(Source(shim, master, "stdout", running.deliver))
        running.stdin = Terminal(shim, os.dup(master))
    else:
        for fd, stream in zip(ours[1:], ("stdout", "stderr"), strict=True):
            running.sources.append(Source(shim, fd, stream, running.deliver))
        if ours[0] >= 0:
            running.stdin = Sink(shim, ours[0])
    if running.stdin:
        peer.input = running.stdin.take
    shim.execs[pid] = running
    peer.send(protocol.encode(protocol.JSON, {"pid": pid}))


def _pipes(stdin: bool) -> tuple[tuple[int, ...], tuple[int, ...]]:
    if stdin:
        theirs_in, mine_in = os.pipe2(os.O_CLOEXEC)
    else:
        theirs_in, mine_in = os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC), -1
    mine_out, theirs_out = os.pipe2(os.O_CLOEXEC)
    mine_err, theirs_err = os.pipe2(os.O_CLOEXEC)
    return (theirs_in, theirs_out, theirs_err), (mine_in, mine_out, mine_err)


def _await_exec(channel: socket.socket, pid: int, ours: tuple[int, ...]) -> int:
    """Wait for the exec; returns the terminal's master or -1."""
    master = -1
    while True:
        message, fds, _, _ = socket.recv_fds(channel, 8192, 1)
        if not message:
            channel.close()
            return master
        if fds:
            master = fds[0]
            continue
        channel.close()
        os.waitpid(pid, 0)
        for fd in (*ours, master):
            if fd >= 0:
                os.close(fd)
        report = json.loads(message)
        raise StartError(report["error"], report.get("code", 125))
