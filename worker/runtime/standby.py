"""The beginning of a shim: a fresh fork of the zygote that waits for its container, and what is left when it falls."""

from __future__ import annotations

import contextlib
import os
import socket

from pycompose.worker.runtime import container, pages, protocol, spare, state, syscalls
from pycompose.worker.runtime.shim import Shim

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn


def stand_by(channel: socket.socket, lesson: spare.Lesson | None) -> NoReturn:
    """A shim in a fresh fork, for a container that is yet to come; never returns.

    Args:
        channel: gives the container's directory (UTF-8) with one connected descriptor (SOCK_SEQPACKET), for the
            answer to the start and then the exit; its end means that no shim is needed.
        lesson: which pages are copied ahead; None: ``channel`` is told once the container runs.
    """
    os.setsid()
    fd = channel.detach()
    if fd != 3:
        os.dup2(fd, 3, inheritable=False)
    syscalls.close_range(4, 0x7FFFFFFF)
    null = os.open("/dev/null", os.O_RDWR)
    for number in range(3):
        os.dup2(null, number)
    os.close(null)
    syscalls.set_process_name(b"pycompose-spare")
    with contextlib.suppress(OSError):
        container.oom_score(-999)
    channel = socket.socket(fileno=3)
    first = spare.First(lesson, 3)
    pages.copy((lesson or {}).get("shim", ()))
    message, fds, _, _ = socket.recv_fds(channel, 4096, 1)
    if message:
        syscalls.set_process_name(b"pycompose-shim")
        if lesson is not None:
            channel.close()
        _run(message.decode(), fds[0], first, None if lesson is not None else channel)
    os._exit(0)


def _run(directory: str, control: int, first: spare.First, pupil: socket.socket | None) -> None:
    """The life of a shim with its container. ``directory`` holds ``launch.json`` and ``state.json``."""
    try:
        peer = socket.socket(fileno=control)
        claim = state.claim(directory)
        if claim is None:
            peer.send(protocol.encode(protocol.JSON, {"error": "the container is being started already", "code": 125}))
            os._exit(0)
        Shim(directory, peer, claim, first, pupil).live()
    except BaseException as error:
        _last_words(directory, error)


def _last_words(directory: str, error: BaseException) -> None:
    """A fault of the shim itself: leave the reason beside the state, for the agent to report."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    where = f"{trace.tb_frame.f_code.co_name}:{trace.tb_lineno}" if trace else "?"
    with contextlib.suppress(OSError), open(f"{directory}/shim.error", "w") as file:
        file.write(f"{type(error).__name__}: {error} (in {where})\n")
