"""What happened to this node's containers, in Docker's words, kept for a while and told to who listens.

The last `KEPT` events are in memory, as with Docker: a listener may ask for what was. A restarted agent begins anew.
One that does not read loses events, not the node its memory; it is told, and can ask again from the last it has.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator

from pycompose.proto.refusal import HistoryError
from pycompose.proto.v1 import access_pb2, service_pb2, task_pb2

KEPT = 1000
WAITING = 10_000


class _Listener:
    """Events that one listener has not read yet; `full`: it lost those after them."""

    def __init__(self) -> None:
        self.queue: asyncio.Queue[access_pb2.ContainerEvent] = asyncio.Queue()
        self.full = False

    def put(self, event: access_pb2.ContainerEvent) -> None:
        self.full = self.full or self.queue.qsize() >= WAITING
        if not self.full:
            self.queue.put_nowait(event)


class Events:
    """The node's events."""

    def __init__(self) -> None:
        self._kept: deque[access_pb2.ContainerEvent] = deque(maxlen=KEPT)
        self._listeners: set[_Listener] = set()

    def tell(self, task: task_pb2.Task, spec: service_pb2.TaskSpec, action: str, **attributes: str) -> None:
        """Note that something happened to a task's container."""
        event = access_pb2.ContainerEvent(
            task_id=task.id, project=task.project, service_name=task.service_name, action=action
        )
        event.time.FromNanoseconds(time.time_ns())
        event.attributes.update(spec.container.labels)
        event.attributes.update({"image": spec.container.image, "name": task.name, **attributes})
        if task.slot:
            event.attributes["com.docker.compose.container-number"] = str(task.slot)
        self._kept.append(event)
        for listener in self._listeners:
            listener.put(event)

    async def listen(
        self, since_ns: int | None = None, until_ns: int | None = None
    ) -> AsyncIterator[access_pb2.ContainerEvent]:
        """Yield events as they happen, first those since `since_ns`; end at `until_ns` (both since the epoch).

        Raises:
            HistoryError: the listener read so slowly that events were lost after the last one that it was given.
        """
        listener = _Listener()
        self._listeners.add(listener)
        try:
            if since_ns is not None:
                for event in list(self._kept):
                    if since_ns <= event.time.ToNanoseconds() <= (until_ns or time.time_ns()):
                        yield event
            while until_ns is None or time.time_ns() < until_ns:
                if listener.full and listener.queue.empty():
                    raise HistoryError(f"events were read too slowly: {WAITING} waited, and later ones were lost")
                left = None if until_ns is None else (until_ns - time.time_ns()) / 1e9
                try:
                    event = await asyncio.wait_for(listener.queue.get(), left)
                except TimeoutError:
                    return
                if until_ns is None or event.time.ToNanoseconds() <= until_ns:
                    yield event
        finally:
            self._listeners.discard(listener)
