"""Logs of containers, and what happens to them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable

from pycompose.proto.refusal import InvalidError
from pycompose.proto.v1 import access_pb2
from pycompose.worker.access.base import Calls, Context
from pycompose.worker.agent.runner import Runner
from pycompose.worker.runtime.logs import Reader, Span, merged

STREAMS = {"stdout": access_pb2.OUTPUT_STREAM_STDOUT, "stderr": access_pb2.OUTPUT_STREAM_STDERR}


class ReadingCalls(Calls):
    """ReadLogs, WatchEvents."""

    async def ReadLogs(
        self, request: access_pb2.ReadLogsRequest, context: Context
    ) -> AsyncIterator[access_pb2.ReadLogsResponse]:
        """Send log lines, merged by time."""
        if not request.task_ids:
            raise InvalidError([("task_ids", "the id of a task is needed")])
        runners = [await self._runner(task_id) for task_id in dict.fromkeys(request.task_ids)]
        span = Span(
            count=request.tail if request.HasField("tail") else None,
            since=request.since.ToNanoseconds() if request.HasField("since") else 0,
            until=request.until.ToNanoseconds() if request.HasField("until") else None,
            follow=request.follow,
        )
        ends = [_end_of(runner, request.until_exit) for runner in runners]
        readers = [(r.id, Reader(r.log_path, span, end)) for r, end in zip(runners, ends, strict=True)]
        async for batch in merged(readers):
            response = access_pb2.ReadLogsResponse()
            for task_id, (nanoseconds, stream, data) in batch:
                entry = response.entries.add(task_id=task_id, stream=STREAMS[stream], data=data)
                entry.time.FromNanoseconds(nanoseconds)
            yield response

    async def WatchEvents(
        self, request: access_pb2.WatchEventsRequest, context: Context
    ) -> AsyncIterator[access_pb2.WatchEventsResponse]:
        """Send what happens to containers."""
        since = request.since.ToNanoseconds() if request.HasField("since") else None
        until = request.until.ToNanoseconds() if request.HasField("until") else None
        async for event in self._agent.events.listen(since, until):
            wanted = not request.task_ids or event.task_id in request.task_ids
            if wanted and request.project in ("", event.project):
                yield access_pb2.WatchEventsResponse(events=[event])


def _end_of(runner: Runner, until_exit: bool) -> Callable[[], bool]:
    """Return what tells whether a container's log has ended."""
    return lambda: runner.done or (until_exit and not runner.running and runner.record.finished_ns > 0)
