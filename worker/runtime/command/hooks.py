"""Hooks: programs that run around a container's lifecycle, with its state on standard input.

Written with fork and execve alone, since ``createContainer`` and ``startContainer`` hooks run in the
container's first process, where nothing may be imported or looked up. Source: runtime-spec config.md,
"POSIX-platform Hooks".
"""

from __future__ import annotations

import json
import os
import select
import signal
import time

from pycompose.worker.runtime.errors import StepError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, NoReturn

#: Bytes of a failed hook's output that its error quotes.
OUTPUT = 2048


def run_all(kind: str, hooks: list[dict[str, Any]], state: dict[str, Any]) -> None:
    """Run hooks one after another.

    Args:
        kind: the list's name in the configuration, for messages.
        hooks: OCI hooks: path, args, env, timeout (s).
        state: the OCI state that each gets on its standard input.

    Raises:
        StepError: the first one that failed; the ones after it are not run.
    """
    for number, hook in enumerate(hooks):
        run(f"hook {kind}[{number}] {hook['path']}", hook, state)


def run(name: str, hook: dict[str, Any], state: dict[str, Any]) -> None:
    """Run one hook to its end.

    Raises:
        StepError: it cannot be executed, ends with another status than 0, or takes longer than its timeout.
    """
    text = json.dumps(state).encode()
    stdin, feed = os.pipe2(os.O_CLOEXEC)
    output, stdout = os.pipe2(os.O_CLOEXEC)
    pid = os.fork()
    if pid == 0:
        _execute(hook, stdin, stdout)
    os.close(stdin)
    os.close(stdout)
    try:
        said, status = _follow(pid, feed, text, output, hook.get("timeout"))
    finally:
        os.close(output)
    if status is None:
        raise StepError(f"{name}: no end within its timeout of {hook['timeout']} s")
    if status != 0:
        how = f"signal {os.WTERMSIG(status)}" if os.WIFSIGNALED(status) else f"status {os.WEXITSTATUS(status)}"
        words = said.decode("utf-8", "replace").strip().replace("\n", "; ")
        raise StepError(f"{name}: ended with {how}" + (f": {words}" if words else ""))


def _follow(pid: int, feed: int, text: bytes, output: int, timeout: int | None) -> tuple[bytes, int | None]:
    """Feed the state and read the output until the hook ends; returns (end of output, status or None: too long)."""
    os.set_blocking(feed, False)
    ended = os.pidfd_open(pid)
    poll = select.poll()
    poll.register(ended, select.POLLIN)
    poll.register(output, select.POLLIN)
    poll.register(feed, select.POLLOUT)
    deadline = None if timeout is None else time.monotonic() + timeout
    said = b""
    try:
        while True:
            left = None if deadline is None else max(0.0, deadline - time.monotonic())
            events = dict(poll.poll(None if left is None else left * 1000))
            if feed in events:
                text = _feed(feed, text)
                if not text:
                    poll.unregister(feed)
                    os.close(feed)
                    feed = -1
            if output in events:
                piece = os.read(output, 65536)
                said = (said + piece)[-OUTPUT:]
                if not piece:
                    poll.unregister(output)
            if ended in events:
                return said, os.waitpid(pid, 0)[1]
            if not events and left == 0:
                os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, 0)
                return said, None
    finally:
        os.close(ended)
        if feed >= 0:
            os.close(feed)


def _feed(fd: int, text: bytes) -> bytes:
    """Write what fits; returns what is left. A hook that does not read its input is no error."""
    try:
        return text[os.write(fd, text) :]
    except BlockingIOError:
        return text
    except OSError:
        return b""


def _execute(hook: dict[str, Any], stdin: int, stdout: int) -> NoReturn:
    try:
        for number, fd in enumerate((stdin, stdout, stdout)):
            os.dup2(fd, number)
        for number in (signal.SIGPIPE, signal.SIGTERM, signal.SIGINT):
            signal.signal(number, signal.SIG_DFL)
        environment = dict(pair.encode().split(b"=", 1) for pair in hook.get("env") or () if "=" in pair)
        os.execve(os.fsencode(hook["path"]), hook.get("args") or [hook["path"]], environment)
    except OSError as error:
        os.write(2, (error.strerror or "").encode())
    finally:
        os._exit(127)
