"""The zygote as the agent holds it: one process that forks shims, replaced when it was killed."""

from __future__ import annotations

import asyncio
import logging
import socket
import sys

from pycompose.worker.runtime.errors import RuntimeFault

log = logging.getLogger(__name__)


class Zygote:
    """The process and the channel to it. Start it before use, and close it."""

    def __init__(self) -> None:
        self._process: asyncio.subprocess.Process | None = None
        self._channel: socket.socket | None = None
        self._lock = asyncio.Lock()
        self._keeper: asyncio.Task[None] | None = None

    @property
    def pid(self) -> int:
        """The process; 0 before the start."""
        return self._process.pid if self._process else 0

    async def start(self) -> None:
        """Start it, and keep one alive from now on.

        Raises:
            RuntimeFault: it ends at once.
        """
        await self._begin()
        self._keeper = asyncio.create_task(self._keep(), name="keep the zygote")

    async def close(self) -> None:
        """Let it end; shims that it forked go on."""
        if self._keeper:
            self._keeper.cancel()
            await asyncio.gather(self._keeper, return_exceptions=True)
        if self._channel:
            self._channel.close()
        if self._process:
            await self._process.wait()

    async def fork(self, directory: str, theirs: socket.socket) -> None:
        """Ask for a shim.

        Args:
            directory: of the container.
            theirs: the shim's end of its channel; closed here.

        Raises:
            RuntimeFault: no zygote lives long enough to be asked.
        """
        deaths = 0
        try:
            while deaths < 3:
                try:
                    assert self._channel is not None
                    socket.send_fds(self._channel, [directory.encode()], [theirs.fileno()])
                    return
                except BlockingIOError:  # it is busy
                    await asyncio.sleep(0.005)
                except ConnectionError:  # it was killed
                    assert self._process is not None
                    await self._process.wait()
                    await self._make_live()
                    deaths += 1
            raise RuntimeFault("the zygote ends as soon as it is started")
        finally:
            theirs.close()

    async def _keep(self) -> None:
        """Replace it when it was killed; containers do not care."""
        while True:
            assert self._process is not None
            status = await self._process.wait()
            log.warning("the zygote ended with %d; it starts again", status)
            try:
                await self._make_live()
            except (OSError, RuntimeFault) as error:
                log.error("%s", error)
                await asyncio.sleep(1)

    async def _make_live(self) -> None:
        """Make a new one unless the present one lives."""
        async with self._lock:
            if self._process is None or self._process.returncode is not None:
                await self._begin()

    async def _begin(self) -> None:
        mine, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        mine.setblocking(False)
        self._process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-s", "-m", "pycompose.worker.runtime.zygote", str(theirs.fileno())),
            pass_fds=(theirs.fileno(),),
            stdin=asyncio.subprocess.DEVNULL,
        )
        theirs.close()
        if self._channel is not None:
            self._channel.close()
        self._channel = mine
        if await asyncio.get_running_loop().sock_recv(mine, 64) != b"ready":
            raise RuntimeFault("the zygote did not start; its reason is on standard error")
