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

    async def ReadLogs(
        self, request: access_pb2.ReadLogsRequest, context: Context
    ) -> AsyncIterator[access_pb2.ReadLogsResponse]:
        """Send log lines; with several tasks, as they come."""
        runners = [await self._runner(task_id, context) for task_id in request.task_ids]
        queue: asyncio.Queue[access_pb2.LogEntry | None] = asyncio.Queue(1000)
        readers = [asyncio.create_task(self._read(runner, request, queue)) for runner in runners]
        left = len(readers)
        try:
            while left:
                entry = await queue.get()
                entries = []
                while True:
                    if entry is None:
                        left -= 1
                    else:
                        entries.append(entry)
                    if queue.empty() or len(entries) >= 200:
                        break
                    entry = queue.get_nowait()
                if entries:
                    yield access_pb2.ReadLogsResponse(entries=entries)
        finally:
            for reader in readers:
                reader.cancel()

    async def _read(
        self, runner: Runner, request: access_pb2.ReadLogsRequest, queue: asyncio.Queue[access_pb2.LogEntry | None]
    ) -> None:
        def ended() -> bool:
            return runner.done or (request.until_exit and not runner.running and runner.record.finished_ns > 0)

        entries = logs.read(
            runner.log_path,
            count=request.tail if request.HasField("tail") else None,
            since=request.since.ToNanoseconds() if request.HasField("since") else 0,
            until=request.until.ToNanoseconds() if request.HasField("until") else None,
            follow=request.follow,
            ended=ended,
        )
        try:
            async for nanoseconds, stream, data in entries:
                entry = access_pb2.LogEntry(task_id=runner.id, stream=STREAMS[stream], data=data)
                entry.time.FromNanoseconds(nanoseconds)
                await queue.put(entry)
        finally:
            await queue.put(None)

    async def Exec(
        self, requests: AsyncIterator[access_pb2.ExecRequest], context: Context
    ) -> AsyncIterator[access_pb2.ExecResponse]:
        """Run a program in a container."""
        stream = aiter(requests)
        start = (await anext(stream)).start
        runner = await self._runner(start.task_id, context)
        if not runner.running:
            await context.abort(grpc.StatusCode.FAILED_PRECONDITION, f"container {runner.task.name} does not run")
        try:
            process = hooks.process(
                runner,
                start.args,
                env=start.env,
                user=start.user,
                working_dir=start.working_dir,
                privileged=start.privileged,
                tty=start.tty,
            )
            window = (start.size.rows, start.size.columns) if start.HasField("size") else None
            session = await self._agent.runtime.exec(
                runner.id, process, tty=start.tty, stdin=start.stdin, window=window
            )
        except RuntimeFault as error:
            code = error.exit_code if isinstance(error, StartError) else 126
            yield access_pb2.ExecResponse(exited=access_pb2.ExecExited(exit_code=code, error=str(error)))
            return
        yield access_pb2.ExecResponse(started=access_pb2.ExecStarted(pid=session.pid))
        exec_id = secrets.token_hex(32)
        for action in ("exec_create", "exec_start"):
            runner.happened(f"{action}: {' '.join(start.args)}", execID=exec_id)
        if start.detach:
            self._agent.spawn(_left(session))
            return
        writer = asyncio.create_task(_feed(stream, session))
        try:
            async for name, data in session:
                yield access_pb2.ExecResponse(**{name: data})  # type: ignore[arg-type]
            code_found = await session.wait()
            exited = access_pb2.ExecExited(exit_code=code_found if code_found is not None else 137)
            runner.happened("exec_die", execID=exec_id, exitCode=str(exited.exit_code))
            yield access_pb2.ExecResponse(exited=exited)
        finally:
            writer.cancel()
            session.close()

    async def Attach(
        self, requests: AsyncIterator[access_pb2.AttachRequest], context: Context
    ) -> AsyncIterator[access_pb2.AttachResponse]:
        """Join a container's own streams."""
        stream = aiter(requests)
        start = (await anext(stream)).start
        runner = await self._runner(start.task_id, context)
        try:
            session = await self._agent.runtime.attach(runner.id)
        except RuntimeFault as error:
            await context.abort(grpc.StatusCode.FAILED_PRECONDITION, str(error))
            return
        runner.happened("attach")
        yield access_pb2.AttachResponse(started=access_pb2.AttachStarted(tty=runner.spec.container.tty))
        if start.HasField("size") and runner.spec.container.tty:
            await session.resize(start.size.rows, start.size.columns)
        writer = asyncio.create_task(_feed(stream, session))
        try:
            async for name, data in session:
                yield access_pb2.AttachResponse(**{name: data})  # type: ignore[arg-type]
            code = await session.wait()
            if code is None:
                code = runner.record.exit_code if runner.record.exit_code is not None else 137
            yield access_pb2.AttachResponse(exited=access_pb2.ExecExited(exit_code=code))
        finally:
            writer.cancel()
            session.close()

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


async def _left(session: Session) -> None:
    """Read what a program writes whose client has left, so that it is not held up."""
    async for _ in session:
        pass
    session.close()


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


async def _feed(requests: AsyncIterator[Any], session: Session) -> None:
    """Carry input of a client to the process."""
    async for request in requests:
        match request.WhichOneof("message"):
            case "stdin":
                await session.write(request.stdin)
            case "stdin_closed":
                await session.close_stdin()
            case "resize":
                await session.resize(request.resize.rows, request.resize.columns)
            case "signal":
                await session.signal(signal_number(request.signal))
