"""Joining a one-off container: its output from the first byte, the caller's input, its exit status."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable, Iterator

from google.protobuf.timestamp_pb2 import Timestamp

from pycompose.compose.cli.display import Display
from pycompose.compose.cli.errors import CliError, Exit
from pycompose.compose.cli.follow import hopeless
from pycompose.compose.cli.logprint import LogPrinter
from pycompose.compose.cli.stopping import kill
from pycompose.compose.cli.watching import read_log, see
from pycompose.compose.client import ApiError, Client, ClientError
from pycompose.compose.client.session import Session, terminal_size
from pycompose.compose.client.streams import Ended, Streams
from pycompose.compose.plan.observed import Observed
from pycompose.compose.plan.progress import failure, stop_done
from pycompose.proto.v1 import access_pb2, service_pb2, task_pb2

_STREAMS = {access_pb2.OUTPUT_STREAM_STDOUT: "stdout", access_pb2.OUTPUT_STREAM_STDERR: "stderr"}


class LeftError(Exception):
    """The user left; the container goes on running."""


_ENDED_ALREADY = ("FAILED_PRECONDITION", "NOT_FOUND", "CANCELLED", "INTERNAL")
"""How input is refused by a container that has just ended (INTERNAL: by gRPC, when the call ends under a write)."""


class Attachment:
    """One foreground `run`.

    Without a terminal the output is read from the log, which misses nothing; input goes over an attachment. With one,
    both go over the attachment, which begins with what the program wrote before: kept for us, or else from the log.

    Args:
        client: the node.
        streams: gets "watch" items of the service, and interrupts.
        observed: what the watch says.
        service: its only task is joined.
        tty: the container has a terminal, and so has the caller.
        stdin: send standard input.
        outputs: which of the container's streams are printed.
        since: print nothing that was written before; None: from the first byte.
        keys: what a user of a terminal types to leave.
        proxy: pass interrupts on; if not, the first one leaves.
    """

    def __init__(
        self,
        client: Client,
        streams: Streams,
        observed: Observed,
        service: service_pb2.Service,
        *,
        tty: bool,
        stdin: bool,
        outputs: frozenset[str] = frozenset(("stdout", "stderr")),
        since: Timestamp | None = None,
        keys: bytes = b"",
        proxy: bool = True,
    ) -> None:
        self._client, self._streams, self._observed = client, streams, observed
        self._service, self._tty, self._stdin = service, tty, stdin
        self._display = Display()
        self._printer = LogPrinter(prefix=False, split=True, at_once=True)
        self._outputs, self._since, self._keys, self._proxy = outputs, since, keys, proxy
        self._task: task_pb2.Task | None = None
        self._interrupts = 0

    def run(self, begun: Callable[[task_pb2.Task], None] = lambda _: None) -> int:
        """Stay until the container ends; return its exit status.

        Args:
            begun: is told the task once it was started, or could not be.

        Raises:
            CliError: it could not be started (125 to 127 as Docker has them).
            LeftError: the user left.
        """
        task = self._until(lambda one: one.status.run > 0 or bool(failure(one)))
        begun(task)
        why = failure(task)
        if why and (task.status.run == 0 or task.status.error):
            raise CliError(f"container {task.name}: {why}", task.status.exit_code or 125)
        if self._tty and not stop_done(task):
            return self._terminal(task)
        return self._piped(task)

    def _terminal(self, task: task_pb2.Task) -> int:
        size = terminal_size() or access_pb2.TerminalSize(rows=24, columns=80)
        start = access_pb2.AttachStart(task_id=task.id, stdin=self._stdin, size=size, from_start=self._since is None)
        session = Session(
            self._client.access.Attach,
            access_pb2.AttachRequest,
            start,
            stdin=self._stdin,
            tty=True,
            forward=lambda name: kill(self._client, [task.id], name),
            detach_keys=self._keys,
            proxy=self._proxy,
            begun=lambda started: self._print_earlier(task.id, started),
        )
        try:
            if session.run().left:
                raise LeftError
        except ApiError as error:
            if error.code != "FAILED_PRECONDITION":
                raise
            # it ended before anybody could join it: the rest is in its log
            self._print(access_pb2.ReadLogsRequest(task_ids=[task.id], since=self._since, follow=True, until_exit=True))
        # the watch has the truth about how it ended
        return self._status()

    def _print_earlier(self, task_id: str, started: access_pb2.AttachStarted) -> None:
        """Print what was written before the streams were joined and does not follow."""
        if not started.from_start:
            self._print(access_pb2.ReadLogsRequest(task_ids=[task_id], until=started.at, since=self._since))

    def _print(self, request: access_pb2.ReadLogsRequest) -> None:
        for answer in self._client.access.ReadLogs(request):
            self._printer.entries(answer.entries)
        self._printer.flush()

    def _piped(self, task: task_pb2.Task) -> int:
        if self._stdin and not stop_done(task):
            threading.Thread(target=self._send_input, args=(task.id,), daemon=True).start()
        read_log(self._client, self._streams, "log", task.id, self._since, until_exit=True)
        open_ = True
        while open_:
            item = self._streams.get(None)
            if item is None:
                continue
            if item[0] == "log" and isinstance(item[1], Ended):
                if item[1].error is not None:
                    raise item[1].error
                self._printer.flush()
                open_ = False
            else:
                self._take(*item)
        return self._status()

    def _send_input(self, task_id: str) -> None:
        start = access_pb2.AttachStart(task_id=task_id, stdin=True)
        calls = _Input(self._client, start)
        try:
            calls.run()
        except ClientError as error:
            if getattr(error, "code", "") not in _ENDED_ALREADY:
                print(f"warning: input was lost: {error}", file=sys.stderr)

    def _status(self) -> int:
        ended = self._until(stop_done)
        return ended.status.exit_code

    def _until(self, done: Callable[[task_pb2.Task], bool]) -> task_pb2.Task:
        """Wait for the task to be as `done` says; return it."""
        while True:
            for task in self._observed.of(self._service.id):
                self._task = task
                if done(task):
                    return task
                if why := self._never(task):
                    raise CliError("\n".join(why))
            gone = self._observed.synchronized and self._task is not None
            if gone and self._task is not None and self._task.id not in self._observed.tasks:
                return self._task
            item = self._streams.get(None)
            if item is not None:
                self._take(*item)

    def _never(self, task: task_pb2.Task) -> list[str]:
        """Return why a task waits for what can never be."""
        waits = task.status.state == task_pb2.TASK_STATE_PENDING and task.service_id in self._observed.services
        return hopeless(self._observed, task.service_id) if waits else []

    def _take(self, name: str, item: object) -> None:
        if name == "watch":
            see(item, self._observed, self._display, "the container goes on running")
        elif name == "interrupt" and not self._proxy:
            raise LeftError
        elif name == "interrupt":
            self._interrupts += 1
            if self._task is not None:
                kill(self._client, [self._task.id], "SIGINT" if self._interrupts == 1 else "SIGKILL")
        elif isinstance(item, access_pb2.ReadLogsResponse):
            self._printer.entries(entry for entry in item.entries if _STREAMS[entry.stream] in self._outputs)


def begun(streams: Streams, observed: Observed, service: service_pb2.Service) -> task_pb2.Task:
    """Wait until a service's only container was started; return its task.

    Raises:
        CliError: it could not be started.
        Exit: interrupted.
    """
    seen: task_pb2.Task | None = None
    while True:
        there = observed.of(service.id)
        seen = there[0] if there else seen
        why = failure(seen) if seen is not None else ""
        if seen is not None and seen.status.run == 0 and why:
            raise CliError(f"container {seen.name}: {why}", seen.status.exit_code or 125)
        # one that removes itself may have come and gone between two looks
        gone = observed.synchronized and seen is not None and not there
        if seen is not None and (seen.status.run > 0 or gone):
            if why and seen.status.error and seen.status.exit_code in (125, 126, 127):
                raise CliError(f"container {seen.name}: {why}", seen.status.exit_code)
            return seen
        if seen is not None and seen.status.state == task_pb2.TASK_STATE_PENDING and service.id in observed.services:
            reasons = hopeless(observed, service.id)
            if reasons:
                raise CliError("\n".join(reasons))
        item = streams.get(None)
        if item is not None and item[0] == "interrupt":
            raise Exit(130)
        if item is not None and item[0] == "watch":
            see(item[1], observed, Display("quiet"), "the container goes on starting")


class _Input:
    """Standard input to a container, in a thread: no signals, no output."""

    def __init__(self, client: Client, start: access_pb2.AttachStart) -> None:
        self._client, self._start = client, start

    def run(self) -> None:
        """Send until the end of the input, then stay until the container ends."""
        done = threading.Event()

        def requests() -> Iterator[access_pb2.AttachRequest]:
            yield access_pb2.AttachRequest(start=self._start)
            while data := os.read(0, 64 << 10):
                yield access_pb2.AttachRequest(stdin=data)
            yield access_pb2.AttachRequest(stdin_closed=access_pb2.StdinClosed())
            done.wait()

        try:
            for _ in self._client.access.Attach(requests()):
                pass
        finally:
            done.set()
