"""A terminal (or pipe) joined to a program in a container: exec and attach.

Standard input is read in a thread and sent as it comes; answers are written as they come. With a terminal of its own
the program gets the caller's in raw mode, its size at the start and at each change. Without one, Ctrl-C is forwarded
as a signal. Nothing of ours is printed in between.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from queue import SimpleQueue
from types import FrameType
from typing import Any

from pycompose.compose.client.errors import ClientError
from pycompose.proto.v1 import access_pb2

CHUNK = 64 << 10
WAITING = 8


@dataclass(frozen=True)
class Outcome:
    """How a session ended: the program's exit status, and why it could not start ("" when it did).

    `left`: the user typed the detach keys, or interrupted a session that does not pass signals on; the program goes on.
    """

    status: int
    error: str = ""
    left: bool = False


class Leaving:
    """Looks for a sequence of keys in what is typed.

    Args:
        keys: the sequence; empty: there is none.
    """

    def __init__(self, keys: bytes) -> None:
        self._keys, self._seen = keys, 0

    def take(self, data: bytes) -> tuple[bytes, bool]:
        """Return what is to be passed on, and whether the sequence is complete; a begun one is held back."""
        passed = bytearray()
        for byte in data if self._keys else ():
            if byte == self._keys[self._seen]:
                self._seen += 1
                if self._seen == len(self._keys):
                    return bytes(passed), True
                continue
            passed += self._keys[: self._seen]
            self._seen = 1 if byte == self._keys[0] else 0
            if not self._seen:
                passed.append(byte)
        return (bytes(passed) if self._keys else data), False


class Session:
    """One exec or attach.

    Args:
        call: the stub's method.
        message: ExecRequest or AttachRequest.
        start: its first message.
        stdin: whether to send standard input.
        tty: whether the program has a terminal.
        forward: given a signal's name, when it is not sent in the stream (attach).
        output: whether to write what the program writes.
        detach_keys: what a user of a terminal types to leave.
        proxy: whether signals are passed on; if not, an interrupt ends the session.
        begun: hears the first answer, before any output is written.
    """

    def __init__(
        self,
        call: Callable[[Iterator[Any]], Any],
        message: type[access_pb2.ExecRequest] | type[access_pb2.AttachRequest],
        start: Any,
        *,
        stdin: bool,
        tty: bool,
        forward: Callable[[str], None] | None = None,
        output: bool = True,
        detach_keys: bytes = b"",
        proxy: bool = True,
        begun: Callable[[Any], None] = lambda started: None,
    ) -> None:
        self._begun = begun
        self._call, self._message, self._start = call, message, start
        self._stdin, self._tty, self._forward, self._output = stdin, tty, forward, output
        self._leaving = Leaving(detach_keys if tty else b"")
        self._proxy = proxy
        self._requests: SimpleQueue[Any] = SimpleQueue()
        # input is read no faster than it goes out: a program that does not read it holds up our own standard input
        self._room = threading.Semaphore(WAITING)
        self._answers: Any = None
        self._left = False

    def run(self) -> Outcome:
        """Run until the program ends.

        Raises:
            ClientError: the request was refused, or the connection broke.
        """
        self._requests.put(self._message(start=self._start))
        outcome: Outcome | None = None
        with self._terminal():
            try:
                self._answers = self._call(self._outgoing())
                for answer in self._answers:
                    kind = answer.WhichOneof("message")
                    if kind == "started":
                        if getattr(self._start, "detach", False):
                            return Outcome(0)
                        self._begun(answer.started)
                        self._begin()
                    elif kind in ("stdout", "stderr"):
                        if self._output:
                            _write(1 if kind == "stdout" else 2, getattr(answer, kind))
                    elif kind == "exited":
                        outcome = Outcome(answer.exited.exit_code, answer.exited.error)
            except ClientError:
                # input that was still on its way when the program ended is refused by the one who passes it on
                if outcome is None:
                    raise
            finally:
                self._requests.put(None)
        if self._left:
            return Outcome(0, left=True)
        return outcome or Outcome(1, "the connection ended before the program did")

    def _leave(self) -> None:
        self._left = True
        self._answers.cancel()

    def _begin(self) -> None:
        if self._stdin:
            threading.Thread(target=self._read_stdin, daemon=True).start()
        if self._tty:
            self._resize()

    def _outgoing(self) -> Iterator[Any]:
        while (request := self._requests.get()) is not None:
            yield request
            if request.WhichOneof("message") == "stdin":
                self._room.release()

    def _read_stdin(self) -> None:
        while True:
            try:
                data = os.read(0, CHUNK)
            except OSError:
                data = b""
            if not data:
                self._requests.put(self._message(stdin_closed=access_pb2.StdinClosed()))
                return None
            data, leave = self._leaving.take(data)
            if data:
                self._room.acquire()
                self._requests.put(self._message(stdin=data))
            if leave:
                return self._leave()

    def _resize(self) -> None:
        size = terminal_size()
        if size is not None:
            self._requests.put(self._message(resize=size))

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        name = signal.Signals(number).name
        if number == signal.SIGWINCH:
            self._resize()
        elif not self._proxy:
            self._leave()
        elif self._forward is not None:
            self._forward(name)
        else:
            self._requests.put(access_pb2.ExecRequest(signal=name))

    @contextmanager
    def _terminal(self) -> Iterator[None]:
        """Raw mode and signals, put back at the end."""
        numbers = [signal.SIGINT, signal.SIGTERM] + ([signal.SIGWINCH] if self._tty else [])
        before = {number: signal.signal(number, self._on_signal) for number in numbers}
        raw = self._tty and self._stdin and sys.stdin.isatty()
        if raw:
            import termios
            import tty

            saved = termios.tcgetattr(0)
            tty.setraw(0)
        try:
            yield
        finally:
            if raw:
                termios.tcsetattr(0, termios.TCSADRAIN, saved)
            for number, handler in before.items():
                signal.signal(number, handler)


def terminal_size() -> access_pb2.TerminalSize | None:
    """Return the size of the caller's terminal; None when there is none."""
    for stream in (1, 0, 2):
        try:
            size = os.get_terminal_size(stream)
        except OSError:
            continue
        return access_pb2.TerminalSize(rows=size.lines, columns=size.columns)
    return None


def _write(stream: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(stream, view) :]
