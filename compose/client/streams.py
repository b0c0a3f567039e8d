"""Streams read in threads, all into one queue, so that a command waits in one place for everything.

A reader puts (name, answer) for each answer, and (name, Ended) when its stream ended. A stream that is kept is opened
again when the node went away under it (its supervisor starts the manager again within a second): (name, Lost) and
(name, Back) tell so; only a node that stays away ends it.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from typing import Any

from pycompose.compose.client.connection import Client
from pycompose.compose.client.errors import ClientError, NodeError
from pycompose.proto.v1 import control_pb2

PATIENCE = 15.0
PAUSE = 0.2


@dataclass(frozen=True)
class Ended:
    """A stream's last item; `error` says why when it did not end well."""

    error: ClientError | None = None


@dataclass(frozen=True)
class Lost:
    """The node went away under a kept stream."""


@dataclass(frozen=True)
class Back:
    """A kept stream goes on."""


class Streams:
    """A queue and the streams that feed it."""

    def __init__(self) -> None:
        self._queue: SimpleQueue[tuple[str, Any]] = SimpleQueue()
        self._calls: list[Any] = []
        self._closed = False

    def add(self, name: str, call: Any) -> None:
        """Read a stream until it ends."""
        self._calls.append(call)
        threading.Thread(target=self._read, args=(name, call), daemon=True).start()

    def keep(self, name: str, opening: Callable[[Any], Any]) -> None:
        """Read a stream until it ends, and open it again whenever the node comes back within PATIENCE seconds.

        Args:
            name: of its items.
            opening: opens the stream; is given the last answer that was read, None at first.
        """
        threading.Thread(target=self._read_kept, args=(name, opening), daemon=True).start()

    def put(self, name: str, item: Any = None) -> None:
        """Put an item; safe in a signal handler."""
        self._queue.put((name, item))

    def get(self, timeout: float | None) -> tuple[str, Any] | None:
        """Return the next item, None when `timeout` seconds went by without one."""
        try:
            return self._queue.get(timeout=timeout)
        except Empty:
            return None

    def close(self) -> None:
        """End all streams."""
        self._closed = True
        for call in list(self._calls):
            call.cancel()

    def _read_kept(self, name: str, opening: Callable[[Any], Any]) -> None:
        last, lost = None, 0.0
        while not self._closed:
            call = opening(last)
            self._calls.append(call)
            try:
                for answer in call:
                    if lost:
                        self._queue.put((name, Back()))
                        lost = 0.0
                    last = answer
                    self._queue.put((name, answer))
                self._queue.put((name, Ended()))
                return
            except NodeError as error:
                if not lost:
                    lost = time.monotonic()
                    self._queue.put((name, Lost()))
                elif time.monotonic() - lost > PATIENCE:
                    self._queue.put((name, Ended(error)))
                    return
            except ClientError as error:
                self._queue.put((name, Ended(error)))
                return
            finally:
                self._calls.remove(call)
            time.sleep(PAUSE)

    def _read(self, name: str, call: Any) -> None:
        try:
            for answer in call:
                self._queue.put((name, answer))
        except ClientError as error:
            self._queue.put((name, Ended(error)))
        else:
            self._queue.put((name, Ended()))


def watch(client: Client, project: str, service_ids: Sequence[str] = ()) -> Any:
    """Return a watch of a project's services and tasks: as they are, then each change."""
    kinds = [control_pb2.OBJECT_KIND_SERVICE, control_pb2.OBJECT_KIND_TASK]
    return client.control.Watch(control_pb2.WatchRequest(kinds=kinds, project=project, service_ids=service_ids))
