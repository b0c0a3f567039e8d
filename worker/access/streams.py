"""Exec and attach: a client's stream joined to a program's.

Output is read as the client takes it. Input is passed on as the program reads it: up to PENDING bytes wait here, so
that signals and sizes behind them arrive; beyond, the client waits too.
"""

from __future__ import annotations

import asyncio
import secrets
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from pycompose.proto import vocabulary
from pycompose.proto.refusal import InvalidError
from pycompose.proto.v1 import access_pb2
from pycompose.worker.access.base import Calls, Context, begin
from pycompose.worker.agent import hooks
from pycompose.worker.runtime.errors import RuntimeFault, StartError
from pycompose.worker.runtime.sessions import Session

PENDING = 1024 * 1024
LOST = 137


class StreamCalls(Calls):
    """Exec, Attach."""

    async def Exec(
        self, requests: AsyncIterator[access_pb2.ExecRequest], context: Context
    ) -> AsyncIterator[access_pb2.ExecResponse]:
        """Run a program in a container."""
        start, rest = await begin(requests)
        check_start(start)
        runner = await self._running(start.task_id)
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
                runner.id, process, tty=start.tty, stdin=start.stdin, window=window, detach=start.detach
            )
        except RuntimeFault as error:
            failed = access_pb2.ExecExited(error=str(error))
            failed.exit_code = error.exit_code if isinstance(error, StartError) else 126
            yield access_pb2.ExecResponse(exited=failed)
            return
        exec_id = secrets.token_hex(32)
        for action in ("exec_create", "exec_start"):
            runner.happened(f"{action}: {' '.join(start.args)}", execID=exec_id)
        try:
            yield access_pb2.ExecResponse(started=access_pb2.ExecStarted(pid=session.pid))
            if start.detach:
                return
            async with fed(rest, session) as feed:
                async for name, data in session:
                    yield access_pb2.ExecResponse(**{name: data})  # type: ignore[arg-type]
                    feed.check()
                code = await session.wait()
            exited = access_pb2.ExecExited(exit_code=LOST if code is None else code)
            runner.happened("exec_die", execID=exec_id, exitCode=str(exited.exit_code))
            yield access_pb2.ExecResponse(exited=exited)
        finally:
            session.close()

    async def Attach(
        self, requests: AsyncIterator[access_pb2.AttachRequest], context: Context
    ) -> AsyncIterator[access_pb2.AttachResponse]:
        """Join a container's own streams."""
        start, rest = await begin(requests)
        check_size(start)
        runner = await self._running(start.task_id)
        session = await self._agent.runtime.attach(runner.id, from_start=start.from_start)
        runner.happened("attach")
        try:
            tty = runner.spec.container.tty
            started = access_pb2.AttachStarted(tty=tty, from_start=session.from_start)
            started.at.FromNanoseconds(session.at_ns)
            yield access_pb2.AttachResponse(started=started)
            if start.HasField("size") and tty:
                await session.resize(start.size.rows, start.size.columns)
            async with fed(rest, session) as feed:
                async for name, data in session:
                    yield access_pb2.AttachResponse(**{name: data})  # type: ignore[arg-type]
                    feed.check()
                code = await session.wait()
            known = runner.record.exit_code if code is None else code
            exited = access_pb2.ExecExited(exit_code=LOST if known is None else known)
            yield access_pb2.AttachResponse(exited=exited)
        finally:
            session.close()


def check_start(start: access_pb2.ExecStart) -> None:
    """Check what to run. Raises InvalidError."""
    wrong = []
    if not start.args:
        wrong.append(("start.args", "a program is needed"))
    if start.working_dir and not start.working_dir.startswith("/"):
        wrong.append(("start.working_dir", f"{start.working_dir!r} is not absolute; begin it with /"))
    texts = [("args", text) for text in start.args] + [("env", text) for text in start.env]
    wrong += [(f"start.{field}", "has a NUL character; leave it out") for field, text in texts if "\0" in text]
    wrong += [("start.env", f"{text!r} has no name; write it like KEY=value") for text in start.env if text[:1] == "="]
    if wrong:
        raise InvalidError(wrong)
    check_size(start)


def check_size(start: Any) -> None:
    """Check a terminal's size (struct winsize, ioctl_tty(2)). Raises InvalidError."""
    if start.size.rows > 0xFFFF or start.size.columns > 0xFFFF:
        raise InvalidError([("start.size", "is larger than 65535 rows or columns")])


class Feed:
    """Input on its way to a program: what waits, and what is wrong with the client's messages."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._waiting: deque[bytes | None] = deque()
        self._size = 0
        self._changed = asyncio.Condition()
        self._wrong: InvalidError | None = None

    def check(self) -> None:
        """Raises InvalidError when the client sent something wrong."""
        if self._wrong is not None:
            raise self._wrong

    async def read(self, requests: AsyncIterator[Any]) -> None:
        """Take the client's messages."""
        async for request in requests:
            try:
                await self._take(request)
            except InvalidError as error:
                self._wrong = error
                self._session.leave()
                return

    async def _take(self, request: Any) -> None:
        kind = request.WhichOneof("message")
        if kind == "stdin":
            await self._put(request.stdin)
        elif kind == "stdin_closed":
            await self._put(None)
        elif kind == "resize":
            check_size(access_pb2.ExecStart(size=request.resize))
            await self._session.resize(request.resize.rows, request.resize.columns)
        elif kind == "signal":
            number = vocabulary.signal_number(request.signal)
            if number is None:
                raise InvalidError([("signal", f"there is no signal {request.signal!r}; see signal(7)")])
            await self._session.signal(number)
        else:
            raise InvalidError([("message", "only the first message is a start; then input, sizes and signals")])

    async def _put(self, data: bytes | None) -> None:
        async with self._changed:
            await self._changed.wait_for(lambda: self._size < PENDING)
            self._waiting.append(data)
            self._size += len(data or b"")
            self._changed.notify_all()

    async def write(self) -> None:
        """Pass input on as the program reads it."""
        while True:
            async with self._changed:
                await self._changed.wait_for(lambda: bool(self._waiting))
                data = self._waiting.popleft()
            if data is None:
                await self._session.close_stdin()
                return
            await self._session.write(data)
            async with self._changed:
                self._size -= len(data)
                self._changed.notify_all()


@asynccontextmanager
async def fed(requests: AsyncIterator[Any], session: Session) -> AsyncIterator[Feed]:
    """Pass a client's input on while the block runs. Raises InvalidError at its end for a wrong message."""
    feed = Feed(session)
    tasks = [asyncio.create_task(feed.read(requests)), asyncio.create_task(feed.write())]
    try:
        yield feed
        feed.check()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


__all__ = ["StreamCalls"]
