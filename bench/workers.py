"""``python -m bench.workers FIRST COUNT SOCKET…``: so many workers in one process: real sessions, no containers.

A worker says hello, keeps its heartbeats, and says of each task that it is given that it runs, and of each that is
taken away that it is gone: one batch of statuses for one batch of assignments. A session that ends is begun anew at
another manager. Numbers of sessions, broken sessions and tasks are printed each second, as JSON.
"""

from __future__ import annotations

import asyncio
import json
import random
import sys
from collections.abc import AsyncIterator, Sequence
from typing import Any

import grpc
import grpc.aio

from pycompose.proto.v1 import dispatcher_pb2, node_pb2, task_pb2

METHOD = "/pycompose.v1.DispatcherService/Session"
STREAMS_PER_CHANNEL = 250
#: Hellos at once: a worker that finds no room waits, as a crowd at a door.
HELLOS = 64
BEAT = dispatcher_pb2.SessionRequest(heartbeat=dispatcher_pb2.Heartbeat()).SerializeToString()


class Counts:
    """What this process has."""

    def __init__(self) -> None:
        self.sessions = self.broken = self.tasks = self.started = 0


class Worker:
    """One simulated worker."""

    def __init__(
        self, number: int, channels: Sequence[grpc.aio.Channel], counts: Counts, door: asyncio.Semaphore
    ) -> None:
        self.node_id = f"simulated{number:06d}".ljust(25, "0")
        self._channels, self._counts, self._door = channels, counts, door
        self._number = number
        self._statuses: dict[str, dispatcher_pb2.TaskStatusUpdate] = {}
        self._news: list[dispatcher_pb2.TaskStatusUpdate] = []
        self._wake = asyncio.Event()
        self._period = 1.0

    async def run(self) -> None:
        """Hold a session, for ever."""
        while True:
            await self._door.acquire()
            self._waiting = True
            try:
                channel = self._channels[self._number % len(self._channels)]
                call: Any = channel.stream_stream(METHOD, None, dispatcher_pb2.SessionResponse.FromString)
                async for response in call(self._requests()):
                    self._hear(response)
            except grpc.aio.AioRpcError:
                pass
            if self._waiting:
                self._let_in()
            else:
                self._counts.sessions -= 1
            self._counts.broken += 1
            self._number += 1
            await asyncio.sleep(random.uniform(0.1, 1.0))

    def _let_in(self) -> None:
        self._waiting = False
        self._door.release()

    def _hear(self, response: dispatcher_pb2.SessionResponse) -> None:
        kind = response.WhichOneof("message")
        if kind == "accepted":
            self._period = response.accepted.heartbeat_period.ToNanoseconds() / 1e9
            self._counts.sessions += 1
            if self._waiting:
                self._let_in()
        elif kind == "assignments":
            self._assigned(response.assignments)

    def _assigned(self, batch: dispatcher_pb2.AssignmentBatch) -> None:
        for change in batch.changes:
            if change.WhichOneof("object") != "task":
                continue
            task = change.task
            gone = change.remove or task.desired_state == task_pb2.DESIRED_STATE_REMOVED
            known = self._statuses.get(task.id)
            if gone != (known is None):
                state = task_pb2.TASK_STATE_REMOVE if gone else task_pb2.TASK_STATE_RUNNING
                status = task_pb2.TaskStatus(state=state, run=1, run_request=task.run_request)
                update = dispatcher_pb2.TaskStatusUpdate(task_id=task.id, status=status)
                if gone:
                    del self._statuses[task.id]
                else:
                    self._statuses[task.id] = update
                    self._counts.started += 1
                self._counts.tasks += -1 if gone else 1
                self._news.append(update)
        if self._news:
            self._wake.set()

    async def _requests(self) -> AsyncIterator[bytes]:
        description = node_pb2.NodeDescription(hostname=self.node_id[:15], platform="linux/amd64")
        description.resources.nano_cpus, description.resources.memory_bytes = 4 * 10**9, 8 << 30
        hello = dispatcher_pb2.SessionHello(node_id=self.node_id, description=description)
        hello.status.tasks.extend(self._statuses.values())
        yield dispatcher_pb2.SessionRequest(hello=hello).SerializeToString()
        while True:
            try:
                async with asyncio.timeout(self._period * random.uniform(0.8, 1.2)):
                    await self._wake.wait()
            except TimeoutError:
                yield BEAT
                continue
            self._wake.clear()
            news, self._news = self._news, []
            batch = dispatcher_pb2.StatusBatch(tasks=news)
            yield dispatcher_pb2.SessionRequest(status=batch).SerializeToString()


async def simulate(first: int, count: int, targets: Sequence[str]) -> None:
    """Run the workers for ever."""
    options = [("grpc.use_local_subchannel_pool", 1), ("grpc.max_receive_message_length", -1)]
    options += [("grpc.initial_reconnect_backoff_ms", 100), ("grpc.max_reconnect_backoff_ms", 1000)]
    rounds = max(1, -(-count // (STREAMS_PER_CHANNEL * len(targets))))
    channels = [grpc.aio.insecure_channel(target, options=options) for _ in range(rounds) for target in targets]
    counts, door = Counts(), asyncio.Semaphore(HELLOS)
    workers = [asyncio.create_task(Worker(first + each, channels, counts, door).run()) for each in range(count)]
    while True:
        sys.stdout.write(json.dumps(vars(counts)) + "\n")
        sys.stdout.flush()
        done, _ = await asyncio.wait(workers, timeout=1.0, return_when=asyncio.FIRST_EXCEPTION)
        for each in done:
            each.result()


if __name__ == "__main__":
    asyncio.run(simulate(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3:]))
