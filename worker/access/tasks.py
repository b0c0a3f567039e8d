"""TaskAccessService: logs, exec, attach, signals, pause, usage of this node's containers."""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import grpc

from pycompose.proto.v1 import access_pb2
from pycompose.worker.access.files import FileCalls
from pycompose.worker.agent import hooks
from pycompose.worker.agent.runner import Runner, signal_number
from pycompose.worker.runtime import logs
from pycompose.worker.runtime.errors import RuntimeFault, StartError
from pycompose.worker.runtime.sessions import Session
from pycompose.worker.volumes import VolumeError

if TYPE_CHECKING:
    from pycompose.worker.agent.agent import Agent

Context = grpc.aio.ServicerContext[Any, Any]
STREAMS = {"stdout": access_pb2.OUTPUT_STREAM_STDOUT, "stderr": access_pb2.OUTPUT_STREAM_STDERR}


class TaskCalls(FileCalls):
    """Serves one node's tasks."""

    def __init__(self, agent: Agent) -> None:
        self._agent = agent

    async def _runner(self, task_id: str, context: Context) -> Runner:
        # a node that has just started does not know its containers yet
        await self._agent.recovered.wait()
        runner = self._agent.runners.get(task_id)
        if runner is None:
            await context.abort(grpc.StatusCode.NOT_FOUND, f"no such container here: {task_id[:12]}")
            raise AssertionError
        return runner

    async def SignalTask(
        self, request: access_pb2.SignalTaskRequest, context: Context
    ) -> access_pb2.SignalTaskResponse:
        """Signal a container's first process."""
        runner = await self._runner(request.task_id, context)
        try:
            number = signal_number(request.signal or "SIGKILL")
            await self._agent.runtime.kill(runner.id, number)
            runner.happened("kill", signal=str(number))
        except Exception as error:
            await context.abort(grpc.StatusCode.FAILED_PRECONDITION, f"{runner.task.name}: {error}")
        return access_pb2.SignalTaskResponse()

    async def PauseTask(self, request: access_pb2.PauseTaskRequest, context: Context) -> access_pb2.PauseTaskResponse:
        """Freeze a container."""
        await self._freeze(request.task_id, context, paused=True)
        return access_pb2.PauseTaskResponse()

    async def UnpauseTask(
        self, request: access_pb2.UnpauseTaskRequest, context: Context
    ) -> access_pb2.UnpauseTaskResponse:
        """Thaw a container."""
        await self._freeze(request.task_id, context, paused=False)
        return access_pb2.UnpauseTaskResponse()

    async def _freeze(self, task_id: str, context: Context, *, paused: bool) -> None:
        runner = await self._runner(task_id, context)
        runtime = self._agent.runtime
        try:
            await (runtime.pause(runner.id) if paused else runtime.resume(runner.id))
        except RuntimeFault as error:
            await context.abort(grpc.StatusCode.FAILED_PRECONDITION, f"{runner.task.name}: {error}")
        runner.record.paused = paused
        runner.tell(runner.record.state)
        runner.happened("pause" if paused else "unpause")

    async def ProbePorts(
        self, request: access_pb2.ProbePortsRequest, context: Context
    ) -> access_pb2.ProbePortsResponse:
        """Say who holds ports."""
        response = access_pb2.ProbePortsResponse()
        for one in request.ports:
            response.problems.append(self._agent.network.probe(one.port, one.protocol or "tcp", one.host_ip or None))
        return response

    async def MeasureVolumes(
        self, request: access_pb2.MeasureVolumesRequest, context: Context
    ) -> access_pb2.MeasureVolumesResponse:
        """Return how much room volumes take."""
        response = access_pb2.MeasureVolumesResponse()
        for name in request.volumes:
            with contextlib.suppress(VolumeError):
                usage = await self._agent.volumes.measure(name)
                if usage is not None:
                    response.usages.add(volume=name, bytes=usage[0], entries=usage[1])
        return response

    async def ListProcesses(
        self, request: access_pb2.ListProcessesRequest, context: Context
    ) -> access_pb2.ListProcessesResponse:
        """Return a container's processes (proc(5))."""
        runner = await self._runner(request.task_id, context)
        response = access_pb2.ListProcessesResponse()
        runner.happened("top")
        with contextlib.suppress(RuntimeFault):
            for pid in sorted(await self._agent.runtime.processes(runner.id)):
                with contextlib.suppress(OSError):
                    _describe(pid, response.processes.add())
        return response

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

    async def WatchStats(
        self, request: access_pb2.WatchStatsRequest, context: Context
    ) -> AsyncIterator[access_pb2.WatchStatsResponse]:
        """Send a sample of each container a second."""
        while True:
            response = access_pb2.WatchStatsResponse()
            for task_id in request.task_ids:
                with contextlib.suppress(RuntimeFault):
                    usage = await self._agent.runtime.stats(task_id)
                    sample = response.stats.add(
                        task_id=task_id,
                        memory_bytes=usage.memory_bytes,
                        memory_limit_bytes=usage.memory_limit,
                        pids=usage.pids,
                        block_read_bytes=usage.read_bytes,
                        block_written_bytes=usage.write_bytes,
                    )
                    sample.time.FromNanoseconds(time.time_ns())
                    sample.cpu_time.FromNanoseconds(usage.cpu_ns)
            yield response
            if request.once:
                return
            await asyncio.sleep(1)


def _describe(pid: int, process: access_pb2.Process) -> None:
    """Fill in a process from /proc/PID/{stat,status,cmdline} (proc(5))."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    uid = Path(f"/proc/{pid}").stat().st_uid
    words = Path(f"/proc/{pid}/cmdline").read_bytes().rstrip(b"\0").split(b"\0")
    ticks = os.sysconf("SC_CLK_TCK")
    booted = time.time() - time.clock_gettime(time.CLOCK_BOOTTIME)
    process.user, process.pid, process.parent_pid = str(uid), pid, int(fields[1])
    process.started_at.FromNanoseconds(int((booted + int(fields[19]) / ticks) * 1e9))
    process.cpu_time.FromNanoseconds(int((int(fields[11]) + int(fields[12])) / ticks * 1e9))
    process.command = b" ".join(words).decode("utf-8", "replace")
