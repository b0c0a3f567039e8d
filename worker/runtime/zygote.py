"""The zygote: a small process with the runtime imported, which forks shims when asked.

``python -m pycompose.worker.runtime.zygote FD``: FD is a SOCK_SEQPACKET socket to the agent.
A request is the container's directory (UTF-8) with one descriptor, the shim's first
connection. It goes to a shim that was forked ahead and waits for it; then the next is forked. The
first shim tells which pages its start copied, so that later ones copy them while they wait (``pages``).
The zygote answers nothing: the shim does. It ends when the agent closes the socket or dies; shims live
on, adopted by the machine's init, and the one that waits ends.

Forking here instead of in the agent keeps gRPC and threads out of every fork; ``gc.freeze``
keeps the collector from touching, and so copying, the pages that all shims share.
"""

from __future__ import annotations

import contextlib
import gc
import os
import select
import signal
import socket
import sys

from pycompose.worker.runtime import cgroups, owning, protocol, sealing, standby, syscalls
from pycompose.worker.runtime.errors import StepError
from pycompose.worker.runtime.shim_streams import deafen

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pycompose.worker.runtime.spare import Lesson


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
    owning.machines_root()  # known before any fork
    with contextlib.suppress(StepError):
        cgroups.at("/")  # its module is loaded before any fork, and what is mounted is known
    channel.send(b"ready")
    lesson: Lesson | None = None
    teachers: list[socket.socket] = []
    spare = _spare(lesson)
    while True:
        for ready in select.select([channel, *teachers], [], [])[0]:
            if ready is channel:
                message, fds, _, _ = socket.recv_fds(channel, 4096, 1)
                if not message:
                    return 0
                used = _hand_over(spare, message, fds, lesson)
                if lesson is None:
                    teachers.append(used)
                else:
                    used.close()
            else:
                lesson = _learn(ready) or lesson
                teachers.remove(ready)
                ready.close()
                spare.close()  # it was forked without
            spare = _spare(lesson)


def _hand_over(spare: socket.socket, message: bytes, fds: list[int], lesson: Lesson | None) -> socket.socket:
    """Let a shim have a container; returns the connection to the one that took it."""
    while True:
        try:
            socket.send_fds(spare, [message], fds)
            break
        except OSError:  # it was killed
            spare.close()
            spare = _spare(lesson)
    for fd in fds:
        os.close(fd)
    return spare


def _learn(teacher: socket.socket) -> Lesson | None:
    """What a shim that was forked without a lesson has to tell; None when its container did not start."""
    try:
        message = teacher.recv(protocol.LIMIT)
    except OSError:
        message = b""
    found: Lesson | None = protocol.decode(message) if message else None
    return found


def _spare(lesson: Lesson | None) -> socket.socket:
    """Fork a shim ahead of its container; returns the connection by which it gets one."""
    mine, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    if os.fork() == 0:
        standby.stand_by(theirs, lesson)
    theirs.close()
    return mine


if __name__ == "__main__":
    sys.exit(main(sys.argv))
