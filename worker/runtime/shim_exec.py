"""A further process in a running container, forked by its shim.

What the child does is ``enter``'s. No Python starts: a health probe costs a fork and an exec.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket

from pycompose.worker.runtime import container, enter, namespaces, protocol
from pycompose.worker.runtime.errors import StartError
from pycompose.worker.runtime.shim_streams import Peer, Sink, Source

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from pycompose.worker.runtime.shim import Shim


class Exec:
    """One running exec and the connection that owns its streams."""

    def __init__(self, shim: Shim, peer: Peer, pid: int, terminal: int) -> None:
        self.shim, self.peer, self.pid, self.terminal = shim, peer, pid, terminal
        self.sources: list[Source] = []
        self.stdin: Sink | None = None
        peer.role, peer.input = "exec", self.input

    def deliver(self, stream: str, data: bytes) -> None:
        self.peer.send((protocol.STDOUT if stream == "stdout" else protocol.STDERR) + data)

    def input(self, kind: bytes, message: bytes) -> None:
        if kind == protocol.STDIN and self.stdin:
            self.stdin.write(message[1:])
        elif kind == protocol.CLOSE and self.stdin:
            self.stdin.write(b"\x04") if self.terminal >= 0 else self.stdin.close()
        elif kind == protocol.WINDOW and self.terminal >= 0:
            with contextlib.suppress(OSError):
                container.set_window(self.terminal, *protocol.decode(message))
        elif kind == protocol.SIGNAL:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, protocol.decode(message))

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
    pid = os.fork()
    if pid == 0:
        signal.set_wakeup_fd(-1)
        enter.run(
            process,
            theirs,
            cgroup=shim.cgroup,
            seccomp=shim.launch.get("seccomp"),
            namespaces=entered,
            stdio=ends,
            terminal=terminal,
            window=message.get("window"),
        )
    theirs.close()
    for fd in {*ends, root, *(fd for fd, _ in entered)}:
        os.close(fd)
    master = _await_exec(mine, pid, ours)
    running = Exec(shim, peer, pid, master)
    if terminal:
        running.sources.append(Source(shim, master, "stdout", running.deliver))
        running.stdin = Sink(shim, os.dup(master))
    else:
        for fd, stream in zip(ours[1:], ("stdout", "stderr"), strict=True):
            running.sources.append(Source(shim, fd, stream, running.deliver))
        if ours[0] >= 0:
            running.stdin = Sink(shim, ours[0])
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
