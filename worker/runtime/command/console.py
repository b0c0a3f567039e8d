"""Terminals of ``run`` and ``exec``: handed to a console socket, or joined to the caller's own.

Source: runc's docs/terminals.md (the console socket gets one message with the master's descriptor).
"""

from __future__ import annotations

import array
import contextlib
import fcntl
import os
import select
import signal
import socket
import sys
import termios
import tty

from pycompose.worker.runtime.errors import ConfigError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

#: Signals that the caller's runtime passes on to the container.
FORWARDED = (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2)


def hand_over(path: str, master: int) -> None:
    """Send a terminal's master to whoever listens on the console socket, and close it here.

    Raises:
        ConfigError: nobody does.
    """
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.connect(path)
            fds = array.array("i", [master])
            connection.sendmsg([b"/dev/ptmx"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, fds)])
    except OSError as error:
        raise ConfigError(f"--console-socket {path}: {(error.strerror or '').lower()}") from None
    finally:
        os.close(master)


def check(*, terminal: bool, detached: bool, console_socket: str) -> None:
    """Which of terminal, ``--detach`` and ``--console-socket`` go together.

    Raises:
        ConfigError: these do not.
    """
    if terminal and detached and not console_socket:
        raise ConfigError("process.terminal with a detached container needs --console-socket")
    if console_socket and not (terminal and detached):
        raise ConfigError("--console-socket is for a detached container with process.terminal")


class Joined:
    """The caller's terminal in raw mode, joined to a container's terminal for as long as that runs."""

    def __init__(self, master: int) -> None:
        self.master = master
        self.saved = termios.tcgetattr(0) if os.isatty(0) else None

    def __enter__(self) -> Joined:
        if self.saved:
            tty.setraw(0)
            self.resize()
        return self

    def __exit__(self, *_: object) -> None:
        if self.saved:
            termios.tcsetattr(0, termios.TCSADRAIN, self.saved)
        os.close(self.master)

    def resize(self) -> None:
        """Give the container's terminal the size of the caller's."""
        with contextlib.suppress(OSError):
            size = fcntl.ioctl(0, termios.TIOCGWINSZ, b"\0" * 8)
            fcntl.ioctl(self.master, termios.TIOCSWINSZ, size)

    def copy_output(self) -> bool:
        """Move one piece from the container to the caller; False at the end."""
        try:
            data = os.read(self.master, 65536)
        except OSError:  # EIO: no process has it open any more
            return False
        while data:
            data = data[os.write(1, data) :]
        return True

    def copy_input(self) -> bool:
        """Move one piece from the caller to the container; False at the end."""
        data = os.read(0, 65536)
        while data:
            data = data[os.write(self.master, data) :]
            return True
        return False


def wait(pid: int, send: Callable[[int], None], joined: Joined | None) -> int:
    """Wait for a child, passing on signals and, with a terminal, input and output; returns its exit status.

    Args:
        pid: a child of this process (also one adopted as a subreaper).
        send: sends a signal to the container's process.
        joined: the terminals, if there are any.
    """
    wakeup, waker = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    signal.set_wakeup_fd(waker, warn_on_full_buffer=False)
    for each in (*FORWARDED, signal.SIGWINCH):
        signal.signal(each, lambda *_: None)
    ended = os.pidfd_open(pid)
    poll = select.poll()
    for fd in (ended, wakeup, *((joined.master, 0) if joined else ())):
        poll.register(fd, select.POLLIN)
    try:
        while True:
            for fd, _ in poll.poll():
                if fd == wakeup:
                    _pass_on(os.read(wakeup, 64), send, joined)
                elif fd != ended:
                    assert joined
                    if not (joined.copy_output() if fd == joined.master else joined.copy_input()):
                        poll.unregister(fd)
                else:
                    while joined and select.select([joined.master], [], [], 0)[0] and joined.copy_output():
                        pass
                    return status(os.waitpid(pid, 0)[1])
    finally:
        os.close(ended)
        sys.stdout.flush()


def _pass_on(numbers: bytes, send: Callable[[int], None], joined: Joined | None) -> None:
    for number in numbers:
        if number != signal.SIGWINCH:
            send(number)
        elif joined:
            joined.resize()


def status(wait_status: int) -> int:
    """128 + n for a signal, else the exit status."""
    return 128 + os.WTERMSIG(wait_status) if os.WIFSIGNALED(wait_status) else os.WEXITSTATUS(wait_status)
