"""The handler of TaskAccessService and ImageService: finds the worker, or the workers, and passes the call on."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from typing import Any

import grpc

from pycompose.manager.control.api import ServicerContext
from pycompose.manager.routing import merging
from pycompose.manager.routing.forward import alone, forward, words_of
from pycompose.manager.routing.holders import Holders
from pycompose.manager.routing.requests import METHODS, About, about, parse
from pycompose.manager.routing.workers import Workers
from pycompose.proto.refusal import UnreachableError
from pycompose.proto.v1 import access_pb2

#: Samples of usage come each second.
STATS_SECONDS = 0.3


class Router(grpc.GenericRpcHandler):
    """Passes calls on to `workers`."""

    def __init__(self, workers: Workers) -> None:
        self._workers, self._holders = workers, Holders(workers)

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> Any:
        """Return the handler of one call, None when it is not ours."""
        method = handler_call_details.method
        if method not in METHODS:
            return None

        async def serve(requests: AsyncIterator[bytes], context: ServicerContext) -> AsyncIterator[bytes]:
            stream = aiter(requests)
            first = await anext(stream, b"")
            message = parse(method, first)
            try:
                async with contextlib.aclosing(self._answers(method, message, first, stream)) as answers:
                    async for response in answers:
                        yield response
            except _Failed as failed:
                error = failed.error
                trailing = tuple((key, value) for key, value in error.trailing_metadata() or ())
                await context.abort(error.code(), words_of(error, failed.where), trailing)

        return grpc.stream_stream_rpc_method_handler(serve)

    async def _answers(
        self, method: str, message: Any, first: bytes, rest: AsyncIterator[bytes]
    ) -> AsyncGenerator[bytes, None]:
        what = about(method, message)
        name = method.rpartition("/")[2]
        if name == "InspectImage" and not what.node_id:
            yield await self._image(method, message.image, first)
            return
        places = await self._places(what)
        if len(places) == 1 and sum(map(len, places.values())) == len(what.tasks):
            (node_id,) = places
            async with contextlib.aclosing(self._one(node_id, method, _chained(first, rest))) as responses:
                async for response in responses:
                    yield response
            return
        if name == "ReadLogs":
            answers = self._logs(method, message, places)
        elif name == "WatchStats":
            answers = self._stats(method, message, places)
        elif name == "WatchEvents":
            answers = self._events(method, message, places)
        else:
            answers = self._summed(method, message, places)
        async with contextlib.aclosing(answers):
            async for answer in answers:
                yield answer.SerializeToString()

    async def _places(self, what: About) -> dict[str, list[str]]:
        """Return the nodes that a call goes to ("": this machine), with the tasks that it is about there."""
        if what.everywhere:
            return {node_id: [] for node_id in self._workers.answering()}
        if not what.tasks:
            return {self._workers.node(what.node_id): []}
        found = await self._workers.of_tasks(what.tasks)
        there = {node_id: tasks for node_id, tasks in found.items() if not self._workers.is_down(node_id)}
        if not there:
            name = self._workers.name(next(iter(found)))
            raise UnreachableError(f"node {name}, which has the container, is down; look at `pycompose node ls`")
        return there

    async def _one(self, node_id: str, method: str, requests: AsyncIterator[bytes]) -> AsyncGenerator[bytes, None]:
        channel = await self._workers.channel(node_id)
        try:
            async with contextlib.aclosing(forward(channel, method, requests)) as responses:
                async for response in responses:
                    yield response
        except grpc.aio.AioRpcError as error:
            raise _Failed(error, self._workers.name(node_id)) from None

    async def _image(self, method: str, reference: str, request: bytes) -> bytes:
        """Return an image as this machine has it, or else as another node does."""
        try:
            return await self._answer("", method, request)
        except _Failed as failed:
            if failed.error.code() is not grpc.StatusCode.NOT_FOUND:
                raise
            for holder in await self._holders.of(reference):
                return await self._answer(holder.node_id, method, request)
            raise

    async def _answer(self, node_id: str, method: str, request: bytes) -> bytes:
        async with contextlib.aclosing(self._one(node_id, method, alone(request))) as answers:
            return await anext(answers)

    async def _items(self, node_id: str, method: str, request: Any, kind: Any, field: str) -> AsyncGenerator[Any, None]:
        """Yield the items of a worker's answers: the repeated `field` of messages of `kind`."""
        async with contextlib.aclosing(self._one(node_id, method, alone(request.SerializeToString()))) as answers:
            async for data in answers:
                yield getattr(kind.FromString(data), field)

    def _streams(
        self, method: str, message: Any, places: dict[str, list[str]], kind: Any, field: str
    ) -> Sequence[merging.Stream]:
        """Return a stream of items a node; each node is asked about its own tasks."""
        streams = []
        for node_id, tasks in places.items():
            request = type(message)()
            request.CopyFrom(message)
            if tasks:
                del request.task_ids[:]
                request.task_ids.extend(tasks)
            streams.append(self._items(node_id, method, request, kind, field))
        return streams

    async def _logs(self, method: str, message: Any, places: dict[str, list[str]]) -> AsyncGenerator[Any, None]:
        streams = self._streams(method, message, places, access_pb2.ReadLogsResponse, "entries")
        hold = merging.HOLD_SECONDS if message.follow else None
        async with contextlib.aclosing(merging.by_time(streams, _entry_time, hold)) as merged:
            async for items in merged:
                yield access_pb2.ReadLogsResponse(entries=items)

    async def _events(self, method: str, message: Any, places: dict[str, list[str]]) -> AsyncGenerator[Any, None]:
        streams = self._streams(method, message, places, access_pb2.WatchEventsResponse, "events")
        async with contextlib.aclosing(merging.by_time(streams, _entry_time)) as merged:
            async for items in merged:
                yield access_pb2.WatchEventsResponse(events=items)

    async def _stats(self, method: str, message: Any, places: dict[str, list[str]]) -> AsyncGenerator[Any, None]:
        streams = self._streams(method, message, places, access_pb2.WatchStatsResponse, "stats")
        async with contextlib.aclosing(merging.together(streams, None if message.once else STATS_SECONDS)) as merged:
            async for items in merged:
                yield access_pb2.WatchStatsResponse(stats=items)

    async def _summed(self, method: str, message: Any, places: dict[str, list[str]]) -> AsyncGenerator[Any, None]:
        """Ask all nodes at once, and make one answer of theirs."""

        async def ask(node_id: str) -> list[bytes]:
            return [data async for data in self._one(node_id, method, alone(message.SerializeToString()))]

        found = await asyncio.gather(*map(ask, places), return_exceptions=True)
        answers = []
        for node_id, answer in zip(places, found, strict=True):
            if isinstance(answer, BaseException):
                if not node_id or not isinstance(answer, _Failed):
                    raise answer
                continue  # a node that was lost just now has nothing to say about its ports and volumes
            answers.append((self._workers.name(node_id), answer[0]))
        yield SUMS[method.rpartition("/")[2]](answers)


class _Failed(Exception):
    """A worker's call ended with an error. `where`: name of its node."""

    def __init__(self, error: grpc.aio.AioRpcError, where: str) -> None:
        super().__init__(error.details())
        self.error, self.where = error, where


async def _chained(first: bytes, rest: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    yield first
    async for request in rest:
        yield request


def _entry_time(item: Any) -> int:
    return int(item.time.ToNanoseconds())


def sum_probes(answers: Sequence[tuple[str, bytes]]) -> access_pb2.ProbePortsResponse:
    """A published port is the whole cluster's: it is free when it is free on every node."""
    found = [(name, access_pb2.ProbePortsResponse.FromString(data).problems) for name, data in answers]
    several = len(found) > 1
    total = access_pb2.ProbePortsResponse()
    for place in range(len(found[0][1])):
        bad = [(name, problems[place]) for name, problems in found if problems[place]]
        words = f"on {bad[0][0]}: {bad[0][1]}" if bad and several else bad[0][1] if bad else ""
        total.problems.append(words)
    return total


def sum_volumes(answers: Sequence[tuple[str, bytes]]) -> access_pb2.MeasureVolumesResponse:
    """A volume's room is what it takes on all nodes."""
    sizes: dict[str, list[int]] = {}
    for _, data in answers:
        for usage in access_pb2.MeasureVolumesResponse.FromString(data).usages:
            size = sizes.setdefault(usage.volume, [0, 0])
            size[0] += usage.bytes
            size[1] += usage.entries
    total = access_pb2.MeasureVolumesResponse()
    for name, (size_bytes, entries) in sizes.items():
        total.usages.add(volume=name, bytes=size_bytes, entries=entries)
    return total


SUMS: dict[str, Callable[[Sequence[tuple[str, bytes]]], Any]] = {
    "ProbePorts": sum_probes,
    "MeasureVolumes": sum_volumes,
}


def add_router(server: grpc.aio.Server, workers: Workers) -> None:
    """Serve task access and images on `server`."""
    server.add_generic_rpc_handlers((Router(workers),))
