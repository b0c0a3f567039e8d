"""Clients that read and write through all managers at once, watch, and keep a history of what they saw.

They run in a thread with a loop of its own. They reach each manager by its unix socket, and so stay attached to one
that is cut off from the others. Registers are configs: created, read, and replaced under their version.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import random
import threading
import time
from collections import defaultdict
from collections.abc import Coroutine, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import grpc
import grpc.aio

from cluster.linearizable import REFUSED, UNKNOWN, Held, Operation, Read, Swap
from cluster.watched import Seen, Watcher
from pycompose.proto.v1 import control_pb2, control_pb2_grpc, meta_pb2, secret_pb2

Answer = TypeVar("Answer")
#: Of one call; what takes longer has an unknown outcome.
CALL_SECONDS = 2.0
PAUSE_SECONDS = (0.005, 0.04)
PROBE_SECONDS = 0.25
KINDS = (control_pb2.OBJECT_KIND_CONFIG, control_pb2.OBJECT_KIND_TASK, control_pb2.OBJECT_KIND_NODE)


class Load:
    """Args: sockets: api.sock of each manager by its host's name; writers: how many clients."""

    def __init__(self, sockets: Mapping[str, Path], writers: int = 6) -> None:
        self._sockets, self._writers = dict(sockets), writers
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self.history: list[Operation] = []
        self.watchers: list[Watcher] = []
        #: By task and run: where and when each start was, as watchers were told. More than one: started twice.
        self.starts: dict[tuple[str, int], set[tuple[str, int, int]]] = defaultdict(set)
        #: When a node was said to be in a state (seconds of time.monotonic), its id, the state.
        self.nodes: list[tuple[float, str, int]] = []
        #: What went wrong last, for people.
        self.problem = ""
        self._tasks: list[asyncio.Task[None]] = []
        self._watching: list[asyncio.Task[None]] = []
        self._stubs: dict[str, control_pb2_grpc.ControlServiceAsyncStub] = {}
        self._channels: list[grpc.aio.Channel] = []
        self._random = random.Random(1)
        self._numbers = 0

    def __enter__(self) -> Load:
        self._thread.start()
        self._do(self._open())
        return self

    def __exit__(self, *_: object) -> None:
        self._do(self._close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _do(self, work: Coroutine[Any, Any, Answer], seconds: float = 120) -> Answer:
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return future.result(seconds)
        except concurrent.futures.TimeoutError:
            future.cancel()
            raise AssertionError(f"not within {seconds} s; {self.problem}") from None

    async def _open(self) -> None:
        for name, path in self._sockets.items():
            options = [("grpc.min_reconnect_backoff_ms", 100), ("grpc.max_reconnect_backoff_ms", 300)]
            options += [("grpc.initial_reconnect_backoff_ms", 100), ("grpc.use_local_subchannel_pool", 1)]
            channel = grpc.aio.insecure_channel(f"unix:{path}", options=options)
            self._channels.append(channel)
            self._stubs[name] = control_pb2_grpc.ControlServiceStub(channel)  # type: ignore[assignment]

    async def _close(self) -> None:
        for task in (*self._tasks, *self._watching):
            task.cancel()
        await asyncio.gather(*self._tasks, *self._watching, return_exceptions=True)
        for channel in self._channels:
            await channel.close(None)

    @property
    def names(self) -> list[str]:
        """The managers' hosts."""
        return list(self._stubs)

    # One round.

    def begin(self, keys: Sequence[str]) -> None:
        """Let the clients write these registers, which are not there yet."""
        self.history = []

        async def work() -> None:
            self._tasks = [asyncio.create_task(self._client(f"client {n}", list(keys))) for n in range(self._writers)]
            self._tasks += [asyncio.create_task(self._probe(name)) for name in self._stubs]

        self._do(work())

    def accepted(self, since: float, seconds: float = 60) -> float:
        """Wait for a write that is asked for after `since` to be acknowledged; returns how long after `since` it was.

        Raises AssertionError: none was.
        """
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            times = [
                each.returned
                for each in list(self.history)
                if each.called >= since and isinstance(each.asked, Swap) and isinstance(each.answered, int)
            ]
            if times:
                return min(times) - since
            time.sleep(0.01)
        raise AssertionError(f"no write was accepted for {seconds} s")

    def end(self, keys: Sequence[str]) -> list[Operation]:
        """Stop writing, read every register through every manager, remove them; returns the history."""
        self._do(self._end(list(keys)))
        return self.history

    async def _end(self, keys: list[str]) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks = []
        keys += sorted({each.key for each in self.history} - set(keys))
        for key in keys:
            for name in self._stubs:
                while not await self._read("reader", name, key):
                    self.problem = f"{key} cannot be read at {name}: {self.problem}"
                    await asyncio.sleep(0.1)
        for key in keys:
            await self._remove(key)

    async def _remove(self, key: str) -> None:
        while True:
            stub = self._stubs[self._random.choice(list(self._stubs))]
            try:
                found = await stub.GetConfig(control_pb2.GetConfigRequest(config=key), timeout=CALL_SECONDS)
                request = control_pb2.RemoveConfigRequest(config_id=found.config.id)
                await stub.RemoveConfig(request, timeout=CALL_SECONDS)
            except grpc.aio.AioRpcError as error:
                if error.code() == grpc.StatusCode.NOT_FOUND:
                    return
                self.problem = f"{key} cannot be removed: {error.code()} {error.details()}"
                await asyncio.sleep(0.1)

    # One client.

    async def _client(self, who: str, keys: list[str]) -> None:
        chance = random.Random(who)
        while True:
            key, manager = chance.choice(keys), chance.choice(list(self._stubs))
            found = await self._read(who, manager, key)
            if found and chance.random() < 0.7:
                await self._swap(who, chance.choice(list(self._stubs)), key, found[0])
            await asyncio.sleep(chance.uniform(*PAUSE_SECONDS))

    async def _probe(self, manager: str) -> None:
        """Write a new register each PROBE_SECONDS, whether the one before was answered or not."""
        async with asyncio.TaskGroup() as group:
            while True:
                self._numbers += 1
                group.create_task(self._swap("probe", manager, f"probe-{self._numbers}", None))
                await asyncio.sleep(PROBE_SECONDS)

    async def _read(self, who: str, manager: str, key: str) -> tuple[secret_pb2.Config | None] | None:
        """Read a register; None: no answer."""
        called = time.monotonic()
        config: secret_pb2.Config | None = None
        answer = None
        try:
            request = control_pb2.GetConfigRequest(config=key)
            config = (await self._stubs[manager].GetConfig(request, timeout=CALL_SECONDS)).config
            answer = Held(config.spec.data.decode(), config.meta.version.number)
        except grpc.aio.AioRpcError as error:
            if error.code() != grpc.StatusCode.NOT_FOUND:
                self.problem = f"{error.code()} {error.details()}"
                return None
        self.history.append(Operation(key, Read(), answer, called, time.monotonic(), f"{who} at {manager}"))
        return (config,)

    async def _swap(self, who: str, manager: str, key: str, found: secret_pb2.Config | None) -> None:
        self._numbers += 1
        value = f"{self._numbers}"
        spec = secret_pb2.ConfigSpec(name=key, data=value.encode())
        stub = self._stubs[manager]
        called, returned = time.monotonic(), UNKNOWN
        answer: int | str | None = None
        config: secret_pb2.Config
        try:
            if found is None:
                create = control_pb2.CreateConfigRequest(spec=spec)
                config = (await stub.CreateConfig(create, timeout=CALL_SECONDS)).config
            else:
                update = control_pb2.UpdateConfigRequest(config_id=found.id, version=found.meta.version, spec=spec)
                config = (await stub.UpdateConfig(update, timeout=CALL_SECONDS)).config
            answer, returned = config.meta.version.number, time.monotonic()
        except grpc.aio.AioRpcError as error:
            if error.code() in (grpc.StatusCode.ABORTED, grpc.StatusCode.ALREADY_EXISTS):
                answer, returned = REFUSED, time.monotonic()
        except asyncio.CancelledError:
            self._took(key, found, value, None, called, UNKNOWN, who, manager)
            raise
        self._took(key, found, value, answer, called, returned, who, manager)

    def _took(
        self,
        key: str,
        found: secret_pb2.Config | None,
        value: str,
        answer: int | str | None,
        called: float,
        returned: float,
        who: str,
        manager: str,
    ) -> None:
        asked = Swap(found.meta.version.number if found is not None else 0, value)
        self.history.append(Operation(key, asked, answer, called, returned, f"{who} at {manager}"))

    # Watching.

    def watch(self) -> None:
        """Begin one watcher of registers and tasks at each manager; one that is cut off goes on at the next manager."""

        async def work() -> None:
            for name in self._stubs:
                watcher = Watcher(f"the watcher at {name}", -1)
                self.watchers.append(watcher)
                self._watching.append(asyncio.create_task(self._watch(watcher, name)))

        self._do(work())

    async def _watch(self, watcher: Watcher, manager: str) -> None:
        names = list(self._stubs)
        place: meta_pb2.Version | None = None
        while True:
            request = control_pb2.WatchRequest(kinds=KINDS, after=place)
            waiting: list[control_pb2.ObjectEvent] = []
            try:
                async for answer in self._stubs[manager].Watch(request):
                    waiting += answer.events
                    if answer.HasField("version"):
                        place = answer.version
                        self._heard(waiting)
                        _note(watcher, [each for each in waiting if each.HasField("config")], place.number)
                        waiting = []
            except grpc.aio.AioRpcError as error:
                if error.code() == grpc.StatusCode.OUT_OF_RANGE:
                    raise RuntimeError(f"{watcher.name} cannot go on after {place}: {error.details()}") from None
            manager = names[(names.index(manager) + 1) % len(names)]
            await asyncio.sleep(0.05)

    def _heard(self, events: Sequence[control_pb2.ObjectEvent]) -> None:
        for each in events:
            if each.HasField("node") and each.type != control_pb2.EVENT_TYPE_EXISTING:
                self.nodes.append((time.monotonic(), each.node.id, each.node.status.state))
            status = each.task.status
            if each.HasField("task") and status.pid:
                self.starts[each.task.id, status.run].add(
                    (each.task.node_id, status.pid, status.started_at.ToNanoseconds())
                )

    def caught_up(self, key: str, seconds: float = 60) -> None:
        """Write once more; wait until each watcher was told of it."""
        number = self._do(self._written(key))
        deadline = time.monotonic() + seconds
        while any(watcher.complete < number for watcher in self.watchers):
            for task in self._watching:
                if task.done():
                    task.result()
            behind = {watcher.name: watcher.complete for watcher in self.watchers}
            assert time.monotonic() < deadline, f"watchers wait for {number}: {behind}"
            time.sleep(0.05)

    async def _written(self, key: str) -> int:
        while True:
            for stub in self._stubs.values():
                with contextlib.suppress(grpc.aio.AioRpcError):
                    spec = secret_pb2.ConfigSpec(name=key, data=b"last")
                    request = control_pb2.CreateConfigRequest(spec=spec)
                    return int((await stub.CreateConfig(request, timeout=CALL_SECONDS)).config.meta.version.number)
            key += "+"

    # Reading for the test itself.

    def call(self, manager: str, method: str, request: Any, seconds: float = CALL_SECONDS) -> Any:
        """Make one call at one manager. Raises grpc.aio.AioRpcError."""

        async def work() -> Any:
            return await getattr(self._stubs[manager], method)(request, timeout=seconds)

        return self._do(work())

    def answers(self, manager: str) -> bool:
        """Whether the manager answers a linearizable read."""
        return self.states(manager) is not None

    def states(self, manager: str) -> list[int] | None:
        """The nodes' states as a manager has them; None: it does not answer."""
        with contextlib.suppress(grpc.aio.AioRpcError):
            nodes = self.call(manager, "ListNodes", control_pb2.ListNodesRequest()).nodes
            return [node.status.state for node in nodes]
        return None


def _note(watcher: Watcher, events: Sequence[control_pb2.ObjectEvent], number: int) -> None:
    """Take note of a whole change."""
    if watcher.begun < 0:
        assert all(each.type == control_pb2.EVENT_TYPE_EXISTING for each in events)
        watcher.begun = number
        watcher.existing = {each.config.spec.name: each.config.spec.data.decode() for each in events}
    else:
        for each in events:
            gone = each.type == control_pb2.EVENT_TYPE_REMOVED
            value = None if gone else each.config.spec.data.decode()
            version = number if gone else each.config.meta.version.number
            watcher.events.append(Seen(version, each.config.spec.name, value))
    watcher.complete = number


def acknowledged(history: Sequence[Operation]) -> list[Seen]:
    """Return what the writers were told of."""
    return [
        Seen(each.answered, each.key, each.asked.value)
        for each in history
        if isinstance(each.asked, Swap) and isinstance(each.answered, int)
    ]
