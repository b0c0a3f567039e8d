"""Streams read in threads, all into one queue, so that a command waits in one place for everything.

A reader puts (name, answer) for each answer, and (name, exception or None) when its stream ended.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from typing import Any

from pycompose.compose.client.connection import Client
from pycompose.compose.client.errors import ClientError
from pycompose.proto.v1 import control_pb2


@dataclass(frozen=True)
class Ended:
    """A stream's last item; `error` says why when it did not end well."""

    error: ClientError | None = None


class Streams:
    """A queue and the streams that feed it."""

    def __init__(self) -> None:
        self._queue: SimpleQueue[tuple[str, Any]] = SimpleQueue()
        self._calls: list[Any] = []

    def add(self, name: str, call: Any) -> None:
        """Read a stream until it ends."""
        self._calls.append(call)
        threading.Thread(target=self._read, args=(name, call), daemon=True).start()

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
        for call in self._calls:
            call.cancel()

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
