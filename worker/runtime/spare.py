"""A shim, and with it the first process of its container, both forked before there is a container.

The shim forks the other at once, into a pid namespace that is new, and both wait, with the pages that they will write
to copied (``pages``). When a container comes the first process reads its configuration while the shim makes the
cgroup, and goes on when it is told that the cgroup is there. A container that shares a pid namespace, or has a user or
time namespace, has no use for it: then it is dismissed, and its shim forks another one.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket

from pycompose.worker.runtime import container, namespaces, owning, pages, state, syscalls, userns

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, NoReturn

    from pycompose.worker.runtime.namespaces import Plan
    from pycompose.worker.runtime.root import Progress

    #: Pages that a shim ("shim") and a first process ("first") copy: (address, bytes) each.
    Lesson = dict[str, list[tuple[int, int]]]

_GO = b"go"


class First:
    """The process that waits, as its shim has it."""

    def __init__(self, lesson: Lesson | None, keep: int) -> None:
        """Fork it. ``lesson``: what to copy ahead; None: it is to tell. ``keep``: a descriptor that is not its own."""
        self.channel, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        returns = owning.machines_root()  # others may not enter their own pid namespace again: it is the machine's
        if returns:
            syscalls.unshare(syscalls.CLONE_NEWPID)
        else:
            syscalls.prctl(syscalls.PR_SET_CHILD_SUBREAPER, 1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # the zygote's children are not waited for
        self.pid = os.fork()
        if self.pid == 0:
            self.channel.close()
            os.close(keep)
            if not returns:
                syscalls.unshare(syscalls.CLONE_NEWPID)
                userns.split(theirs)
            _wait(theirs, lesson)
        theirs.close()
        if not returns:
            self.pid = userns.follow(self.channel, self.pid)
            return
        namespaces.join_path("/proc/self/ns/pid", syscalls.CLONE_NEWPID)  # later children are in this one's own

    def give(self, directory: str, stdio: tuple[int, int, int] | None) -> bool:
        """Let it have the container in ``directory``; False when it was killed."""
        try:
            socket.send_fds(self.channel, [directory.encode()], stdio or ())
        except OSError:
            return False
        return True

    def go(self) -> None:
        """The cgroup is there. One that was killed meanwhile is found out by its exit."""
        with contextlib.suppress(OSError):
            self.channel.send(_GO)

    def dismiss(self) -> None:
        """End it."""
        self.channel.close()
        with contextlib.suppress(ProcessLookupError, ChildProcessError):
            os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)


def fits(plan: Plan) -> bool:
    """Whether a container with these namespaces can begin as a process that waited."""
    alone = plan.children_new == syscalls.CLONE_NEWPID and not plan.children_join
    return alone and plan.user is None and not plan.time_offsets


class _Steps(container.Stages):
    def __init__(self, *, tells: bool) -> None:
        self._tells = tells

    def entering(self, progress: Progress) -> None:
        if progress.channel.recv(len(_GO)) != _GO:
            os._exit(0)  # the shim is gone

    def built(self, progress: Progress) -> None:
        if self._tells:
            progress.channel.send(json.dumps({"pages": pages.copied()}).encode())


def _wait(channel: socket.socket, lesson: Lesson | None) -> NoReturn:
    """The life of a first process before and with its container."""
    syscalls.prctl(syscalls.PR_SET_PDEATHSIG, signal.SIGKILL)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # the zygote ignores it, and what is forked here is waited for
    syscalls.set_process_name(b"pycompose-first")
    pages.copy((lesson or {}).get("first", ()))
    message, fds, _, _ = socket.recv_fds(channel, 4096, 3)
    if not message:
        os._exit(0)
    syscalls.set_process_name(b"pycompose-shim")
    try:
        launch: dict[str, Any] = json.loads(state.read(f"{message.decode()}/launch.json"))
    except BaseException as error:
        container.report(channel, error, "read the container's configuration")
        os._exit(125)
    stdio = (fds[0], fds[1], fds[2]) if fds else None
    container.run(launch, channel, stdio, _Steps(tells=lesson is None))
