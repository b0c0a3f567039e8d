"""TaskAccessService: logs, exec, attach, signals, pause, usage of this node's containers."""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections.abc import AsyncIterator
from pathlib import Path

from pycompose.proto.v1 import access_pb2
from pycompose.worker.access.base import Context
from pycompose.worker.access.files import FileCalls
from pycompose.worker.access.forwarding import ForwardCalls
from pycompose.worker.access.reading import ReadingCalls
from pycompose.worker.access.streams import StreamCalls
from pycompose.worker.agent.runner import signal_number
from pycompose.worker.runtime.errors import RuntimeFault
from pycompose.worker.volumes import VolumeError


class TaskCalls(FileCalls, StreamCalls, ReadingCalls, ForwardCalls):
    """All calls of TaskAccessService; here: signals, pause, processes, usage, ports, volumes."""

    async def SignalTask(
        self, request: access_pb2.SignalTaskRequest, context: Context
    ) -> access_pb2.SignalTaskResponse:
        """Signal a container's first process."""
        runner = await self._running(request.task_id)
        number = signal_number(request.signal or "SIGKILL")
        await self._agent.runtime.kill(runner.id, number)
        runner.happened("kill", signal=str(number))
        return access_pb2.SignalTaskResponse()

    async def PauseTask(self, request: access_pb2.PauseTaskRequest, context: Context) -> access_pb2.PauseTaskResponse:
        """Freeze a container."""
        await self._freeze(request.task_id, paused=True)
        return access_pb2.PauseTaskResponse()

    async def UnpauseTask(
        self, request: access_pb2.UnpauseTaskRequest, context: Context
    ) -> access_pb2.UnpauseTaskResponse:
        """Thaw a container."""
        await self._freeze(request.task_id, paused=False)
        return access_pb2.UnpauseTaskResponse()

    async def _freeze(self, task_id: str, *, paused: bool) -> None:
        runner = await self._running(task_id)
        runtime = self._agent.runtime
        await (runtime.pause(runner.id) if paused else runtime.resume(runner.id))
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
        runner = await self._runner(request.task_id)
        response = access_pb2.ListProcessesResponse()
        runner.happened("top")
        with contextlib.suppress(RuntimeFault):
            for pid in sorted(await self._agent.runtime.processes(runner.id)):
                with contextlib.suppress(OSError):
                    _describe(pid, response.processes.add())
        return response

    async def _sample(self, task_id: str) -> access_pb2.TaskStats:
        """Return what a container uses now. Raises RuntimeFault."""
        usage = await self._agent.runtime.stats(task_id)
        runner = self._agent.runners.get(task_id)
        own = runner is not None and runner.record.pid and runner.spec.network_mode != "host"
        received, sent = interface_bytes(runner.record.pid) if runner is not None and own else (0, 0)
        machine_memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
        sample = access_pb2.TaskStats(
            task_id=task_id,
            memory_bytes=usage.memory_bytes,
            memory_limit_bytes=min(usage.memory_limit, machine_memory),
            network_received_bytes=received,
            network_sent_bytes=sent,
            block_read_bytes=usage.read_bytes,
            block_written_bytes=usage.write_bytes,
            pids=usage.pids,
            online_cpus=os.cpu_count() or 1,
        )
        sample.time.FromNanoseconds(time.time_ns())
        sample.cpu_time.FromNanoseconds(usage.cpu_ns)
        return sample

    async def WatchStats(
        self, request: access_pb2.WatchStatsRequest, context: Context
    ) -> AsyncIterator[access_pb2.WatchStatsResponse]:
        """Send a sample of each container a second."""
        while True:
            response = access_pb2.WatchStatsResponse()
            for task_id in request.task_ids:
                with contextlib.suppress(RuntimeFault):
                    response.stats.append(await self._sample(task_id))
            yield response
            if request.once:
                return
            await asyncio.sleep(1)


def interface_bytes(pid: int) -> tuple[int, int]:
    """Return bytes received and sent on all interfaces but the loopback (proc_pid_net(5)); zeros when it has ended."""
    received = sent = 0
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/net/dev").read_text().splitlines()[2:]:
            name, _, numbers = line.partition(":")
            if name.strip() != "lo":
                fields = numbers.split()
                received, sent = received + int(fields[0]), sent + int(fields[8])
    return received, sent


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
