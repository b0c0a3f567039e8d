"""The runtime as the agent sees it: asyncio in front, files and shims behind.

``Runtime`` owns the zygote and the state directory (``STATE/ID/`` per container: config.json,
launch.json, state.json, shim.sock). It holds one connection (``watch``) to each live shim; what it
knows beyond that is on disk, so a new agent calls ``recover()`` and continues.
"""

from __future__ import annotations

import asyncio
import builtins
import contextlib
import json
import logging
import os
import shutil
import signal as signals
import socket
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from pycompose.worker.runtime import cgroups, protocol, seccomp, state
from pycompose.worker.runtime.errors import ConfigError, NoSuchContainer, RuntimeFault, ShimLost, StartError, WrongState
from pycompose.worker.runtime.model import ContainerState, ExitStatus, LogOptions, Rootfs, Usage
from pycompose.worker.runtime.oci import OciConfig
from pycompose.worker.runtime.sessions import Session
from pycompose.worker.runtime.signalling import heeds
from pycompose.worker.runtime.zygote_process import Zygote

__all__ = ["ContainerState", "ExitStatus", "LogOptions", "Rootfs", "Runtime", "Usage"]

log = logging.getLogger(__name__)
_WORDS = "shim.error"
OnExit = Callable[[str, ExitStatus], None]


class Runtime:
    """Async context manager.

    Args:
        state_dir: directory of the containers; 0700.
        cgroup_parent: absolute cgroup path below which containers are put, such as ``/pycompose``; "": they have none.
        on_exit: called in the event loop with (container id, status) whenever a container has ended.
    """

    def __init__(self, state_dir: Path, cgroup_parent: str = "/pycompose", on_exit: OnExit | None = None) -> None:
        self.state_dir, self.cgroup_parent, self.on_exit = state_dir, cgroup_parent, on_exit
        self.zygote = Zygote()
        self._watches: dict[str, asyncio.Task[ExitStatus]] = {}
        self._filters: dict[str, str] = {}

    async def __aenter__(self) -> Runtime:
        self.state_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        await self.zygote.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        for task in self._watches.values():
            task.cancel()
        await asyncio.gather(*self._watches.values(), return_exceptions=True)
        self._watches.clear()
        await self.zygote.close()

    # -- life cycle -------------------------------------------------------------------------

    async def create(
        self,
        container_id: str,
        config: OciConfig,
        rootfs: Rootfs,
        *,
        log: LogOptions | None = None,
        open_stdin: bool = False,
    ) -> None:
        """Write down a container; nothing runs yet. The id must be new.

        Raises:
            WrongState: the id is taken.
            ConfigError: the configuration's seccomp profile cannot be compiled.
        """
        directory = self._directory(container_id)
        try:
            os.mkdir(directory, 0o700)
        except FileExistsError:
            raise WrongState(f"container {container_id} exists already; delete it first") from None
        try:
            os.mkdir(f"{directory}/rootfs")
            launch = self._launch(container_id, directory, config, rootfs, log, open_stdin)
            state.write_atomically(f"{directory}/config.json", json.dumps(config))
            state.write_atomically(f"{directory}/launch.json", json.dumps(launch))
            initial = {"id": container_id, "status": "created", "run": 0, "pid": 0, "exit": None}
            state.save(directory, initial | {"cgroup": launch["cgroup"]})
        except BaseException:
            shutil.rmtree(directory, ignore_errors=True)
            raise

    def _launch(
        self,
        container_id: str,
        directory: str,
        config: OciConfig,
        rootfs: Rootfs,
        log: LogOptions | None,
        open_stdin: bool,
    ) -> dict[str, Any]:
        linux = dict(config.get("linux") or {})
        profile = linux.pop("seccomp", None)
        if profile and seccomp.notifies(profile):
            raise ConfigError("linux.seccomp: SCMP_ACT_NOTIFY is for pycompose-runtime; a node has no one to listen")
        return {
            "config": {**config, "linux": linux},
            "rootfs": rootfs.as_dict(),
            "mountpoint": f"{directory}/rootfs",
            "cgroup": linux.get("cgroupsPath")
            or (f"{self.cgroup_parent}/{container_id}" if self.cgroup_parent else ""),
            "seccomp": seccomp.compiled(profile, self.state_dir / ".seccomp") if profile else None,
            "log": log.as_dict() if log else None,
            "open_stdin": open_stdin,
            "new_keyring": f"_ses.{container_id}",
        }

    async def start(self, container_id: str, joins: Mapping[str, str] | None = None) -> int:
        """Start the container, also again after it has ended; returns the pid of its first process.

        Args:
            container_id: as created.
            joins: paths of other containers' namespaces to enter in this run, by kind (pid, ipc).

        Raises:
            StartError: with ``exit_code`` 127 (no such program), 126 (not executable) or 125.
            WrongState: it is running.
        """
        directory = self._directory(container_id)
        known = self._load(container_id)
        if known["status"] == "running":
            raise WrongState(f"container {container_id} is running already (pid {known['pid']})")
        if joins:
            _join(f"{directory}/launch.json", joins)
        state.save(directory, known | {"status": "created", "run": known["run"] + 1, "exit": None})
        with contextlib.suppress(FileNotFoundError):
            os.unlink(f"{directory}/{_WORDS}")
        for attempt in (1, 2):
            mine, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            mine.setblocking(False)
            await self.zygote.fork(directory, theirs)
            answer = await asyncio.get_running_loop().sock_recv(mine, protocol.LIMIT)
            if answer:
                break
            mine.close()
            await asyncio.to_thread(_kill_cgroup, known["cgroup"])  # what the shim had begun
            # A zygote that was killed took the request along; a shim that fell leaves its last words.
            if attempt == 2 or os.path.exists(f"{directory}/{_WORDS}") or state.claimed(directory):
                raise StartError(f"the shim of {container_id} ended at its start: {_last_words(directory)}")
        report = protocol.decode(answer)
        if "error" in report:
            mine.close()
            raise StartError(report["error"], report.get("code", 125))
        self._watch(container_id, mine)
        return int(report["pid"])

    def _watch(self, container_id: str, connection: socket.socket) -> None:
        task = asyncio.create_task(self._follow(container_id, connection), name=f"watch {container_id[:12]}")
        self._watches[container_id] = task

    async def _follow(self, container_id: str, connection: socket.socket) -> ExitStatus:
        """Wait for the shim's last message, or find out what happened without it."""
        loop = asyncio.get_running_loop()
        told: dict[str, Any] | None = None
        try:
            while message := await loop.sock_recv(connection, protocol.LIMIT):
                if message[:1] == protocol.EXIT:
                    told = protocol.decode(message)
                    break
        except ConnectionError:
            pass
        finally:
            connection.close()
        status = await self._settle(container_id, told)
        if self.on_exit:
            self.on_exit(container_id, status)
        return status

    async def _settle(self, container_id: str, told: dict[str, Any] | None = None) -> ExitStatus:
        """The exit status of a container whose shim is gone: on disk, or `told` by the shim when the disk was full.

        One that died without a word is recorded as killed.
        """
        directory = self._directory(container_id)
        known = self._load(container_id)
        if known["status"] != "running" and known.get("exit"):
            return ExitStatus.from_dict(known["exit"])
        await asyncio.to_thread(_kill_cgroup, known["cgroup"])
        now = time.time_ns()
        record = told or {
            "code": 137,
            "signal": int(signals.SIGKILL),
            "oom_killed": False,
            "started_ns": known.get("started_ns") or now,
            "finished_ns": now,
            "error": f"the container's shim was lost: {_last_words(directory)}",
        }
        with contextlib.suppress(OSError):
            state.save(directory, known | {"status": "stopped", "pid": 0, "exit": record})
        return ExitStatus.from_dict(record)

    async def wait(self, container_id: str) -> ExitStatus:
        """The exit status of the present run, or of the last one."""
        task = self._watches.get(container_id)
        if task is not None:
            return await asyncio.shield(task)
        known = self._load(container_id)
        if known["status"] == "running":
            await self._reconnect(container_id)
            return await asyncio.shield(self._watches[container_id])
        if not known.get("exit"):
            raise WrongState(f"container {container_id} was never started")
        return ExitStatus.from_dict(known["exit"])

    async def kill(self, container_id: str, signal: int, *, all: bool = False) -> None:
        """Send a signal to the first process, or to all processes of the container."""
        self._running(container_id)
        await self._ask(container_id, {"op": "kill", "signal": int(signal), "all": all})

    async def stop(self, container_id: str, signal: int, grace: float) -> ExitStatus:
        """Ask the container to end, and after ``grace`` seconds make it end.

        When its PID 1 neither catches nor blocks the signal the kernel would drop it
        (pid_namespaces(7)), so the container is killed at once.
        """
        known = self._load(container_id)
        if known["status"] != "running":
            return await self.wait(container_id)
        waiting = asyncio.ensure_future(self.wait(container_id))
        await asyncio.to_thread(self._thaw, known["cgroup"])
        with contextlib.suppress(ShimLost, WrongState):
            if grace > 0 and heeds(known["pid"], signal):
                await self.kill(container_id, signal)
                done, _ = await asyncio.wait({waiting}, timeout=grace)
                if done:
                    return waiting.result()
            await self.kill(container_id, signals.SIGKILL)
        return await waiting

    async def pause(self, container_id: str) -> None:
        """Freeze all processes of the container."""
        known = self._running(container_id)
        await asyncio.to_thread(cgroups.at(known["cgroup"]).freeze, True)
        state.write_atomically(f"{self._directory(container_id)}/paused", "")

    async def resume(self, container_id: str) -> None:
        """Let a frozen container go on."""
        known = self._running(container_id)
        await asyncio.to_thread(cgroups.at(known["cgroup"]).freeze, False)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(f"{self._directory(container_id)}/paused")

    def _thaw(self, cgroup: str) -> None:
        with contextlib.suppress(RuntimeFault):
            cgroups.at(cgroup).freeze(False)

    async def delete(self, container_id: str, *, force: bool = False) -> None:
        """Release everything the runtime holds for the container (not its rootfs layers, not its log).

        Raises:
            WrongState: it runs and ``force`` is not given.
        """
        known = self._load(container_id)
        if known["status"] == "running":
            if not force:
                raise WrongState(f"container {container_id} is running; stop it, or delete with force")
            await self.stop(container_id, signals.SIGKILL, 0)
        task = self._watches.pop(container_id, None)
        if task is not None:
            await asyncio.gather(task, return_exceptions=True)
        await asyncio.to_thread(_release, known["cgroup"], self._directory(container_id))

    # -- looking ----------------------------------------------------------------------------

    async def state(self, container_id: str) -> ContainerState:
        """What is known about a container now."""
        known = self._load(container_id)
        paused = known["status"] == "running" and os.path.exists(f"{self._directory(container_id)}/paused")
        return ContainerState(
            id=container_id,
            status="paused" if paused else known["status"],
            pid=known["pid"],
            run=known["run"],
            exit=ExitStatus.from_dict(known["exit"]) if known.get("exit") else None,
            started_ns=known.get("started_ns") or 0,
        )

    async def list(self) -> builtins.list[ContainerState]:
        """All containers of the state directory."""
        ids = sorted(entry.name for entry in os.scandir(self.state_dir) if not entry.name.startswith("."))
        found = []
        for each in ids:
            with contextlib.suppress(NoSuchContainer):
                found.append(await self.state(each))
        return found

    async def recover(self) -> builtins.list[ContainerState]:
        """After a restart of the agent: reconnect to live shims, learn what ended meanwhile, end what lost its shim."""
        for entry in list(os.scandir(self.state_dir)):
            if entry.name.startswith("."):
                continue
            if not os.path.exists(f"{entry.path}/{state.NAME}"):  # create was interrupted
                await asyncio.to_thread(shutil.rmtree, entry.path, True)
                continue
            known = await self._once_started(entry.name)
            if known["status"] == "created" and known["run"]:  # its shim was lost before it ran, with the agent
                await asyncio.to_thread(_kill_cgroup, known["cgroup"])
            if known["status"] == "running" and entry.name not in self._watches:
                await self._reconnect(entry.name)
        return await self.list()

    async def _once_started(self, container_id: str) -> dict[str, Any]:
        """The container's state, after a shim that the former agent's zygote has just forked has written it."""
        known = self._load(container_id)
        while known["status"] == "created" and state.claimed(self._directory(container_id)):
            await asyncio.sleep(0.02)
            known = self._load(container_id)
        return known

    async def _reconnect(self, container_id: str) -> None:
        try:
            connection = await self._connect(container_id)
            await asyncio.get_running_loop().sock_sendall(connection, protocol.encode(protocol.JSON, {"op": "watch"}))
        except (ShimLost, OSError):
            await self._settle(container_id)
            known = self._load(container_id)

            async def ended() -> ExitStatus:
                return ExitStatus.from_dict(known["exit"])

            self._watches[container_id] = asyncio.create_task(ended())
            return
        self._watch(container_id, connection)

    async def stats(self, container_id: str) -> Usage:
        """Consumption now."""
        known = self._running(container_id)
        return Usage(**await asyncio.to_thread(cgroups.at(known["cgroup"]).usage))

    async def processes(self, container_id: str) -> builtins.list[int]:
        """Process ids (the machine's numbers) inside the container."""
        return cgroups.at(self._running(container_id)["cgroup"]).processes()

    async def update(self, container_id: str, resources: dict[str, Any]) -> None:
        """Change limits (OCI ``linux.resources``) of a running container."""
        await asyncio.to_thread(cgroups.at(self._running(container_id)["cgroup"]).update, resources)

    # -- streams ----------------------------------------------------------------------------

    async def exec(
        self,
        container_id: str,
        process: dict[str, Any],
        *,
        tty: bool = False,
        stdin: bool = False,
        window: tuple[int, int] | None = None,
        detach: bool = False,
    ) -> Session:
        """Run a further process (OCI ``process``) in the container; ``window`` is (rows, columns).

        When the session is closed, or this agent ends, before the process has, the process is hung up; with
        ``detach`` it goes on.

        Raises:
            StartError: with ``exit_code`` 127, 126 or 125.
        """
        self._running(container_id)
        request = {"op": "exec", "process": process, "tty": tty, "stdin": stdin, "window": window, "detach": detach}
        return await self._session(container_id, request)

    async def attach(self, container_id: str, *, from_start: bool = False) -> Session:
        """The container's own streams from now on; several may be attached.

        Args:
            container_id: it runs.
            from_start: also a terminal's output before, if nobody has attached yet and it is not much: the session's
                ``from_start`` says so.
        """
        self._running(container_id)
        return await self._session(container_id, {"op": "attach", "from_start": from_start})

    async def resize(self, container_id: str, rows: int, columns: int) -> None:
        """Set the size of the container's terminal."""
        await self._ask(container_id, {"op": "resize", "rows": rows, "columns": columns})

    # -- shims ------------------------------------------------------------------------------

    def _directory(self, container_id: str) -> str:
        if not container_id or "/" in container_id or container_id.startswith("."):
            raise NoSuchContainer(f"{container_id!r} is not a container id")
        return f"{self.state_dir}/{container_id}"

    def _load(self, container_id: str) -> dict[str, Any]:
        try:
            return state.load(self._directory(container_id))
        except (FileNotFoundError, NotADirectoryError):
            raise NoSuchContainer(f"no container {container_id} in {self.state_dir}") from None

    def _running(self, container_id: str) -> dict[str, Any]:
        known = self._load(container_id)
        if known["status"] != "running":
            raise WrongState(f"container {container_id} is not running ({known['status']})")
        return known

    async def _connect(self, container_id: str) -> socket.socket:
        for _ in range(50):
            try:
                return protocol.connect(self._directory(container_id))
            except BlockingIOError:  # its backlog is full
                await asyncio.sleep(0.01)
            except OSError as error:
                raise ShimLost(f"the shim of container {container_id} does not answer: {error.strerror}") from error
        raise ShimLost(f"the shim of container {container_id} is busy")

    async def _session(self, container_id: str, request: dict[str, Any]) -> Session:
        connection = await self._connect(container_id)
        loop = asyncio.get_running_loop()
        try:
            message = protocol.encode(protocol.JSON, request)
            if len(message) > protocol.LIMIT:
                raise StartError(f"arguments and environment are longer than {protocol.LIMIT} bytes", 126)
            try:
                await loop.sock_sendall(connection, message)
                answer = await loop.sock_recv(connection, protocol.LIMIT)
            except OSError:  # it closed the connection with our request unread
                answer = b""
            if not answer:
                raise ShimLost(f"container {container_id} ended")
            report = protocol.decode(answer)
            if "error" in report:
                raise StartError(report["error"], report.get("code", 125))
        except BaseException:
            connection.close()
            raise
        own = request["op"] == "attach"
        session = Session(connection, report.get("pid", 0), lambda beside: self._ask(container_id, beside), own=own)
        session.from_start, session.at_ns = report.get("from_start", False), report.get("at_ns", 0)
        return session

    async def _ask(self, container_id: str, request: dict[str, Any]) -> None:
        session = await self._session(container_id, request)
        session.close()


def _join(path: str, joins: Mapping[str, str]) -> None:
    """Write down which namespaces the next run enters."""
    with open(path) as file:
        launch = json.load(file)
    linux = launch["config"]["linux"]
    others = [entry for entry in linux["namespaces"] if entry["type"] not in joins]
    linux["namespaces"] = [*others, *({"type": kind, "path": place} for kind, place in joins.items())]
    state.write_atomically(path, json.dumps(launch))


def _kill_cgroup(path: str) -> None:
    cgroup = cgroups.at(path)
    for _ in range(200):
        if not cgroup.processes():
            break
        with contextlib.suppress(RuntimeFault):
            cgroup.freeze(False)
        cgroup.kill()
        time.sleep(0.005)
    cgroup.remove()


def _release(cgroup: str, directory: str) -> None:
    _kill_cgroup(cgroup)
    shutil.rmtree(directory, True)


def _last_words(directory: str) -> str:
    try:
        return Path(directory, _WORDS).read_text().strip()
    except OSError:
        return "no reason known (was it killed?)"
