"""The zygote: a small process with the runtime imported, which forks shims when asked.

``python -m pycompose.worker.runtime.zygote FD``: FD is a SOCK_SEQPACKET socket to the agent.
A request is the container's directory (UTF-8) with one descriptor, the shim's first
connection. It goes to a shim that was forked ahead and waits for it; then the next is forked. The
zygote answers nothing: the shim does. It ends when the agent closes the socket or dies; shims live
on, adopted by the machine's init, and the one that waits ends.

Forking here instead of in the agent keeps gRPC and threads out of every fork; ``gc.freeze``
keeps the collector from touching, and so copying, the pages that all shims share.
"""

from __future__ import annotations

import contextlib
import gc
import os
import signal
import socket
import sys

from pycompose.worker.runtime import cgroups, sealing, shim, syscalls
from pycompose.worker.runtime.errors import StepError
from pycompose.worker.runtime.shim_streams import deafen


def main(arguments: list[str]) -> int:
    """Serve until the agent is gone."""
    os.set_inheritable(int(arguments[1]), True)
    sealing.seal()
    channel = socket.socket(fileno=int(arguments[1]))
    syscalls.prctl(syscalls.PR_SET_PDEATHSIG, signal.SIGKILL)
    syscalls.prctl(syscalls.PR_SET_DUMPABLE, 0)
    syscalls.set_process_name(b"pycompose-zyg")
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # shims need no reaping here
    deafen()
    gc.collect()
    gc.disable()
    gc.freeze()
    with contextlib.suppress(StepError):
        cgroups.at("/")  # its module is loaded before any fork, and what is mounted is known
    channel.send(b"ready")
    spare = _spare()
    while True:
        message, fds, _, _ = socket.recv_fds(channel, 4096, 1)
        if not message:
            return 0
        while True:
            try:
                socket.send_fds(spare, [message], fds)
                break
            except OSError:  # it was killed
                spare = _spare()
        for fd in fds:
            os.close(fd)
        spare.close()
        spare = _spare()


def _spare() -> socket.socket:
    """Fork a shim ahead of its container; returns the connection by which it gets one."""
    mine, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    if os.fork() == 0:
        shim.stand_by(theirs)
    theirs.close()
    return mine


if __name__ == "__main__":
    sys.exit(main(sys.argv))
