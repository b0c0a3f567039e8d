"""From fork to exec of a further process in a container that runs: the child of ``shim_exec`` and of ``exec``.

It joins the cgroup and the namespaces of the container's first process by descriptors that were opened
before the fork, then goes through the same last stage as the first process did.
"""

from __future__ import annotations

import os
import socket

from pycompose.worker.runtime import container, paths, state, syscalls, userns
from pycompose.worker.runtime.errors import StartError
from pycompose.worker.runtime.root import Progress

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, NoReturn

    from pycompose.worker.runtime.cgroups import Cgroup


def run(
    process: dict[str, Any],
    channel: socket.socket,
    *,
    cgroup: Cgroup,
    seccomp: str | None,
    namespaces: list[tuple[int, int]],
    root: int,
    linux: dict[str, Any],
    stdio: tuple[int, ...],
    terminal: bool = False,
    window: tuple[int, int] | None = None,
    preserve_fds: int = 0,
) -> NoReturn:
    """The child: never returns. Its errors go to ``channel``, which exec closes.

    Args:
        process: OCI ``process``.
        channel: gets ``{"error", "code"}``, or the terminal's master.
        cgroup: the container's.
        seccomp: path of the compiled filter.
        namespaces: descriptors and kinds, in the order to enter them.
        root: the root of the container's first process; the mount namespace's own is another one where the node runs
            in a chroot(2).
        linux: the container's OCI ``linux``, for the mappings of its user namespace.
        stdio: descriptors for 0, 1, 2; unused with a terminal.
        terminal: open a terminal in the container and make it 0, 1, 2.
        window: its rows and columns.
        preserve_fds: descriptors from 3 on that the program keeps.
    """
    progress = Progress(channel)
    try:
        progress.step = "prepare the process"
        user = container.Identity(process)
        program = state.read(seccomp) if seccomp else b""
        progress.step = "join the cgroup"
        cgroup.join()
        container.oom_score(process.get("oomScoreAdj"))
        privileged = os.geteuid() == 0
        for number, fd in enumerate(stdio):
            os.dup2(fd, number)
        progress.step = "enter the container's namespaces"
        for fd, kind in namespaces:
            if kind == syscalls.CLONE_NEWUSER:
                userns.raise_limits(user.rlimits)
                if privileged and linux.get("uidMappings") and linux.get("gidMappings"):
                    container.own_streams(*userns.outside(linux, user.uid, user.gid))
                userns.enter(fd)
            else:
                syscalls.setns(fd, kind)
        os.fchdir(root)
        os.chroot(".")
        # Only now is there a process that the container's own see: with CAP_SYS_PTRACE they could lead it.
        userns.split(channel)
        os.setsid()
        if terminal:
            progress.step = "open a terminal"
            _terminal(channel, user.uid, window)
        container.enter_program(process, user, program, None, progress, first_fd=3 + preserve_fds)
    except BaseException as error:
        container.report(channel, error, progress.step)
    os._exit(125)


def _terminal(channel: socket.socket, uid: int, window: tuple[int, int] | None) -> None:
    size = {"height": window[0], "width": window[1]} if window else None
    inside = os.open("/", os.O_PATH | os.O_CLOEXEC)
    master = paths.open_in_root(inside, b"/dev/pts/ptmx", os.O_RDWR | os.O_NOCTTY)
    if os.fstat(master).st_rdev != os.makedev(5, 2):
        raise StartError("/dev/pts/ptmx is not a terminal multiplexer", 125)
    slave = container.open_slave(master, size)
    os.fchown(slave, uid, -1)
    socket.send_fds(channel, [b"{}"], [master])
    os.close(master)
    container.take_terminal(slave)
