"""`up` in the foreground: output of all containers until they end or the user does.

The first Ctrl-C stops the containers in the order of their dependencies, the second kills them.

::

    DetachError    the user leaves, the containers stay
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass

from google.protobuf.timestamp_pb2 import Timestamp

from pycompose.compose.cli import menu
from pycompose.compose.cli.display import Display
from pycompose.compose.cli.errors import Exit
from pycompose.compose.cli.follow import Goal, converge, warnings_of
from pycompose.compose.cli.logprint import LogPrinter, short_name
from pycompose.compose.cli.settings import settings
from pycompose.compose.cli.stopping import stop
from pycompose.compose.cli.syncing import Syncing
from pycompose.compose.cli.watching import read_log, see
from pycompose.compose.client import Client
from pycompose.compose.client.streams import Ended, Streams
from pycompose.compose.labels import PRE_START_OF
from pycompose.compose.plan.observed import Observed
from pycompose.compose.plan.progress import leaving, stopped
from pycompose.proto.v1 import access_pb2, control_pb2, task_pb2

INTERRUPTED = 130
DRAIN_SECONDS = 0.3


class DetachError(Exception):
    """The user leaves; the containers go on running."""


@dataclass(frozen=True)
class AttachOptions:
    """What to print and when to end; `only` empty: all services.

    `watching` begins a session of watch, which puts its lines into the streams, and `rebuild` does what it asks for;
    with `watch_at_start` that is done once the services are up, else by a key. With `detaches` Ctrl-C leaves the
    containers running: a cluster is no program of one terminal.
    """

    abort_on_exit: bool = False
    abort_on_failure: bool = False
    exit_code_from: str | None = None
    only: frozenset[str] = frozenset()
    without: frozenset[str] = frozenset()
    colour: bool = False
    prefix: bool = True
    timestamps: bool = False
    stop_timeout: int | None = None
    detaches: bool = False
    watching: Callable[[Streams], Syncing] | None = None
    rebuild: Callable[[str], None] = lambda _: None
    watch_at_start: bool = False


class Attached:
    """One attached `up`.

    Progress stays below the output while there is any. Ctrl-C stops the containers, in a quicker way the second time;
    Ctrl-\\ leaves them running, as does a terminal that is closed.
    """

    def __init__(
        self, client: Client, streams: Streams, project: str, options: AttachOptions, display: Display
    ) -> None:
        self._client, self._streams, self._project = client, streams, project
        self._options, self._display = options, display
        self._observed = _Listening(self._seen)
        self._printer = LogPrinter(
            colour=options.colour, prefix=options.prefix, timestamps=options.timestamps, around=self._above
        )
        self._since = Timestamp()
        self._since.FromNanoseconds(time.time_ns())
        self._ids: set[str] = set()
        self._reading: set[str] = set()
        self._runs: dict[str, int] = {}
        self._exits: list[task_pb2.Task] = []
        self._session: Syncing | None = None

    def run(self, goal: Goal, services: dict[str, str]) -> int:
        """Print until the end; return the exit status.

        Args:
            goal: which services must come up.
            services: ids by name.

        Raises:
            Detach: the user leaves.
        """
        self._ids = set(services.values())
        try:
            converge(self._client, self._streams, self._observed, goal, self._display, self._other)
            self._display.freeze()
            for line in warnings_of(self._observed, self._ids):
                settings().warn(line)
            if self._options.watch_at_start:
                self._watch()
            while True:
                if self._exits:
                    status = self._judge()
                    if status is not None:
                        return self._stop(status)
                if self._all_over():
                    self._drain()
                    self._printer.flush()
                    return self._exit_code(0)
                item = self._streams.get(None)
                if item is not None:
                    self._take(*item)
        except Exit as end:
            if end.status != INTERRUPTED:
                raise
            if self._options.detaches:
                raise DetachError from None
            return self._stop(INTERRUPTED)
        finally:
            if self._session is not None:
                self._session.close()

    def _watch(self) -> None:
        """Begin to follow files, or end it."""
        if self._session is not None:
            self._session.close()
            self._session = None
            self._display.note("watching ended")
            return
        if self._options.watching is None:
            self._display.note("nothing to watch; say what to do with changed files in develop.watch of a service")
            return
        self._session = self._options.watching(self._streams)
        self._display.note("watching")

    @contextmanager
    def _above(self) -> Iterator[None]:
        """Print above the live view, where both go to one terminal."""
        with self._display.flow() if sys.stdout.isatty() else nullcontext():
            yield

    def _take(self, name: str, item: object) -> None:
        if name == "watch":
            see(item, self._observed, self._display, "the containers go on running")
        elif name == "interrupt":
            raise Exit(INTERRUPTED)
        else:
            self._other(name, item)

    def _other(self, name: str, item: object) -> None:
        """Print what a log stream gave."""
        if name == "quit" or (name, item) == ("key", "d"):
            raise DetachError
        if (name, item) == ("key", "w"):
            self._watch()
        elif name == "key":
            text = menu.shown(str(item), self._observed, self._ids)
            if text is not None:
                self._display.note(text)
        elif name == "say":
            self._display.note(str(item))
        elif name == "rebuild":
            self._options.rebuild(str(item))
        if isinstance(item, Ended):
            self._printer.flush(name.removeprefix("log "))
            self._reading.discard(name.removeprefix("log "))
        elif isinstance(item, access_pb2.ReadLogsResponse):
            self._printer.entries(item.entries)

    def _seen(self, task: task_pb2.Task) -> None:
        """Look at a changed task: read its output once it exists, say when it ended."""
        if task.service_id not in self._ids:
            return
        status, options = task.status, self._options
        wanted = (not options.only or task.service_name in options.only) and task.service_name not in options.without
        if not self._printer.knows(task.id) and wanted:
            self._printer.know(task.id, short_name(task.name, self._project), task.service_name)
        if wanted and status.run > 0 and task.id not in self._reading:
            self._reading.add(task.id)
            read_log(self._client, self._streams, f"log {task.id}", task.id, self._since)
        ended = status.state in (task_pb2.TASK_STATE_COMPLETE, task_pb2.TASK_STATE_FAILED, task_pb2.TASK_STATE_SHUTDOWN)
        # one that is being restarted by request has not ended
        new = self._runs.get(task.id, 0) < status.run and task.run_request <= status.run_request
        if ended and new and status.finished_at.ToNanoseconds() >= self._since.ToNanoseconds():
            self._runs[task.id] = status.run
            self._exits.append(task)

    def _judge(self) -> int | None:
        """Print who exited; return a status when that ends everything."""
        self._drain()
        exits, self._exits = self._exits, []
        for task in exits:
            code = task.status.exit_code
            self._printer.flush(task.id)
            if self._printer.knows(task.id):
                again = ", will be started again" if task.status.HasField("next_restart_at") else ""
                self._printer.line(task.id, f"exited with code {code}{again}")
            if code == 0 and self._is_init(task):
                continue  # its end is what its service waits for
            if self._options.abort_on_exit or (self._options.abort_on_failure and code != 0):
                return self._exit_code(code)
        return None

    def _is_init(self, task: task_pb2.Task) -> bool:
        service = self._observed.services.get(task.service_id)
        return service is not None and PRE_START_OF in service.spec.task.container.labels

    def _exit_code(self, default: int) -> int:
        name = self._options.exit_code_from
        for task in self._observed.tasks.values():
            if task.service_name == name and task.service_id in self._ids and task.status.HasField("exit_code"):
                return task.status.exit_code
        return default

    def _all_over(self) -> bool:
        if not self._observed.synchronized:
            return False
        mine = [task for task in self._observed.tasks.values() if task.service_id in self._ids and not leaving(task)]
        if not any(one in self._observed.services for one in self._ids):
            return True
        return bool(mine) and all(stopped(task) for task in mine)

    def _drain(self) -> None:
        """Print what is still on its way from containers that ended."""
        end = time.monotonic() + DRAIN_SECONDS
        while (left := end - time.monotonic()) > 0:
            item = self._streams.get(left)
            if item is None:
                return
            if item[0] in ("interrupt", "quit"):
                self._streams.put(item[0])
                return
            self._take(*item)

    def _stop(self, status: int) -> int:
        """Stop everything; return the exit status."""
        self._display.freeze()
        if status == INTERRUPTED:
            print("\nGracefully stopping… (press Ctrl+C again to force)", file=sys.stderr)
        with self._display.another("Stopping") as self._display:
            stop(
                self._client,
                self._streams,
                self._observed,
                self._ids,
                self._display,
                self._options.stop_timeout,
                self._other,
            )
            self._judge()
            self._printer.flush()
        return self._exit_code(status) if status != INTERRUPTED else status


class _Listening(Observed):
    """Tells of each task that changed."""

    def __init__(self, seen: Callable[[task_pb2.Task], None]) -> None:
        super().__init__()
        self._seen = seen

    def apply(self, answer: control_pb2.WatchResponse) -> list[control_pb2.ObjectEvent]:
        events = super().apply(answer)
        for event in events:
            if event.WhichOneof("object") == "task":
                self._seen(event.task)
        return events
