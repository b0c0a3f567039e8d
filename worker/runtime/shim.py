"""One run of one container, watched from outside of it: stdio, log, exit status, exec.

Forked by the zygote, single-threaded, one epoll loop. It needs
neither agent nor zygote: when they are gone it goes on, and whoever comes later connects to
``shim.sock`` in the container's directory (``protocol``). It ends with the container, after the
exit status is in ``state.json``; a shim that is lost takes its container with it (PR_SET_PDEATHSIG).
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import socket
import time

from pycompose.worker.runtime import (
    cgroups,
    container,
    namespaces,
    owning,
    pages,
    protocol,
    shim_exec,
    spare,
    state,
    syscalls,
    userns,
)
from pycompose.worker.runtime.errors import StartError
from pycompose.worker.runtime.jsonlog import JsonLog
from pycompose.worker.runtime.shim_peers import Peer
from pycompose.worker.runtime.shim_streams import Streams, reap

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

#: A shim whose container has ended goes when its peers have read all, or after so many seconds.
LINGER_SECONDS = 60.0


class Shim:
    """State of one shim. ``handlers`` maps each watched descriptor to what reads it.

    ``first``: the process that waits to be the container's; ``pupil``: who is to hear which pages it took.
    """

    def __init__(
        self, directory: str, control: socket.socket, claim: int, first: spare.First, pupil: socket.socket | None
    ) -> None:
        self.first, self.pupil = first, pupil
        self.directory, self.claim = directory, claim
        self.launch: dict[str, Any] = json.loads(state.read(f"{directory}/launch.json"))
        self.known = state.load(directory)
        self.known.update(shim=os.getpid(), shim_start=state.start_time(os.getpid()))
        self.config: dict[str, Any] = self.launch["config"]
        self.cgroup = cgroups.at(self.launch["cgroup"])
        self.poll = select.epoll()
        self.handlers: dict[int, Callable[[int], object]] = {}
        self.timers: list[tuple[float, Callable[[], object]]] = []
        self.peers: set[Peer] = set()
        self.execs: dict[int, shim_exec.Exec] = {}
        self.streams = Streams(self)
        self.pid = self.pid_start = 0
        self.taken: list[tuple[int, int]] = []
        self.status: int | None = None
        self.listener: socket.socket | None = None
        self.started_ns = 0
        log = self.launch.get("log")
        self.log = JsonLog(log["path"], log["max_bytes"], log["max_files"]) if log else None
        self.control = Peer(self, control)
        self.control.role = "watch"
        namespaces_wanted = self.config["linux"]["namespaces"]
        self.own_pids = any(entry["type"] == "pid" and not entry.get("path") for entry in namespaces_wanted)

    # -- the loop ---------------------------------------------------------------------------

    def watch(self, fd: int, handler: Callable[[int], object], events: int = select.EPOLLIN) -> None:
        self.handlers[fd] = handler
        self.poll.register(fd, events)

    def unwatch(self, fd: int) -> None:
        if self.handlers.pop(fd, None) is not None:
            with contextlib.suppress(OSError):
                self.poll.unregister(fd)

    def later(self, seconds: float, work: Callable[[], object]) -> None:
        """Do something after a time."""
        self.timers.append((time.monotonic() + seconds, work))

    def turn(self) -> None:
        """Wait for something and handle it; handlers get the events (epoll_ctl(2))."""
        timeout = max(0.0, min(self.timers, key=lambda timer: timer[0])[0] - time.monotonic()) if self.timers else None
        for fd, events in self.poll.poll(timeout):
            handler = self.handlers.get(fd)
            if handler is not None:
                handler(events)
        if self.timers:
            now = time.monotonic()
            due = [work for moment, work in self.timers if moment <= now]
            self.timers = [timer for timer in self.timers if timer[0] > now]
            for work in due:
                work()

    def _woken(self, _: int) -> None:
        os.read(self.wakeup, 512)
        self.reap()

    def live(self) -> None:
        """Start the container, serve until it has ended, leave its exit status."""
        self.wakeup, waker = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.set_wakeup_fd(waker, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, _noticed)
        self.watch(self.wakeup, self._woken)
        try:
            self.start()
        except BaseException as error:
            code = getattr(error, "exit_code", 125)
            message = str(error) if not isinstance(error, OSError) or not error.errno else f"start: {error}"
            self.failed(message, code)
            return
        while self.status is None:
            self.turn()
        self.ended()
        self.linger()

    # -- start ------------------------------------------------------------------------------

    def start(self) -> None:
        """Fork the container's first process and wait until it has executed its program, or failed."""
        if self.known["run"] > 1:
            with contextlib.suppress(OSError):
                self.cgroup.remove()  # of a run whose shim was lost
        terminal = bool(self.config["process"].get("terminal"))
        stdio = None if terminal else self.streams.make_pipes(bool(self.launch.get("open_stdin")))
        self.plan = namespaces.Plan(self.config["linux"]["namespaces"])
        prepared = spare.fits(self.plan) and self.first.give(self.directory, stdio)
        if prepared:
            self.pid = self.first.pid
        else:
            self.first.dismiss()
        self.cgroup.create((self.config.get("linux") or {}).get("resources") or {})
        if prepared:
            self.first.go()
            self.channel = self.first.channel
        else:
            self._fork(stdio)
        for fd in set(stdio or ()):
            os.close(fd)
        self._listen()  # while the container is being made: nobody knows of it yet
        self._await_exec(self.channel)
        self._teach()

    def _fork(self, stdio: tuple[int, int, int] | None) -> None:
        """Fork the first process, for want of a prepared one."""
        mine, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        apart = self.plan.user is None and not owning.machines_root()
        if not self.own_pids or self.plan.user is not None or apart:
            syscalls.prctl(syscalls.PR_SET_CHILD_SUBREAPER, 1)
        syscalls.prctl(syscalls.PR_SET_DUMPABLE, 0)
        with contextlib.nullcontext() if apart else namespaces.for_children(self.plan):
            pid = os.fork()
            if pid == 0:
                signal.set_wakeup_fd(-1)
                mine.close()
                theirs.setblocking(True)
                if apart:
                    self._go_apart(theirs)
                container.run(self.launch, theirs, stdio)
        theirs.close()
        if self.plan.user is not None or apart:
            pid = userns.follow(mine, pid)
        self.pid, self.channel = pid, mine

    def _go_apart(self, channel: socket.socket) -> None:
        """Enter the first process's namespaces in a process between, where the shim could not come back from them."""
        try:
            namespaces.enter_for_children(self.plan)
        except BaseException as error:
            container.report(channel, error, "make namespaces")
            os._exit(125)
        userns.split(channel)

    def _teach(self) -> None:
        """Tell the zygote which pages a start copies."""
        if self.pupil is not None:
            with contextlib.suppress(OSError):
                if self.taken:
                    lesson = {"shim": pages.copied(), "first": self.taken}
                    self.pupil.send(protocol.encode(protocol.JSON, lesson))
                self.pupil.close()
            self.pupil = None

    def _await_exec(self, channel: socket.socket) -> None:
        """Read the child's reports until exec closes its end (success) or it names an error."""
        while True:
            message, fds, _, _ = socket.recv_fds(channel, protocol.LIMIT if self.pupil else 8192, 1)
            if not message:
                break
            report = json.loads(message)
            if "pages" in report:
                self.taken = report["pages"]
            elif fds:
                self.streams.take_terminal(fds[0])
            else:
                os.waitpid(self.pid, 0)
                raise StartError(report["error"], report.get("code", 125))
        channel.close()
        self.started_ns = time.time_ns()
        self.pid_start = state.start_time(self.pid)
        if self.pid_start == 0:
            raise StartError("the container's first process was killed before it ran its program", 125)
        self._save("running")
        self.control.send(protocol.encode(protocol.JSON, {"pid": self.pid, "started_ns": self.started_ns}))

    def _listen(self) -> None:
        if self.listener is None:
            self.listener = protocol.listen(self.directory)
            self.watch(self.listener.fileno(), self._accept)

    def _accept(self, _: int) -> None:
        assert self.listener is not None
        with contextlib.suppress(BlockingIOError):
            connection, _address = self.listener.accept()
            Peer(self, connection)

    def _save(self, status: str, exit_: dict[str, Any] | None = None) -> None:
        self.known.update(status=status, pid=self.pid, pid_start=self.pid_start, exit=exit_, started_ns=self.started_ns)
        state.save(self.directory, self.known)

    def failed(self, message: str, code: int) -> None:
        """The start failed: leave nothing but the reason."""
        if self.pid:
            with contextlib.suppress(OSError):
                os.kill(self.pid, signal.SIGKILL)
                os.waitpid(self.pid, 0)
        with contextlib.suppress(OSError):
            self.cgroup.remove()
        now = time.time_ns()
        self._gone()
        self._save("stopped", exit_record(code << 8, False, now, now, message))
        state.release(self.claim)
        self.control.send(protocol.encode(protocol.JSON, {"error": message, "code": code}))

    def _gone(self) -> None:
        self.pid = self.pid_start = 0
        with contextlib.suppress(OSError):
            os.unlink(f"{self.directory}/{protocol.SOCKET_NAME}")

    # -- end --------------------------------------------------------------------------------

    def reap(self) -> None:
        for pid, status in reap():
            if pid == self.pid:
                self.status = status
            elif pid in self.execs:
                self.execs.pop(pid).ended(status)

    def ended(self) -> None:
        """PID 1 is gone: end the rest, read what is left in the pipes, write the exit status, tell everyone."""
        finished = time.time_ns()
        if not self.own_pids:
            self._kill_rest()
        while self.execs:  # the kernel has killed them with PID 1
            pid, each = self.execs.popitem()
            with contextlib.suppress(ChildProcessError):
                each.ended(os.waitpid(pid, 0)[1])
        self.streams.drain()
        if self.log:
            self.log.close(finished)
        oom = self.cgroup.oom_kills() > 0
        with contextlib.suppress(OSError):
            self.cgroup.remove()
        record = exit_record(self.status or 0, oom, self.started_ns, finished)
        self._gone()
        with contextlib.suppress(OSError):  # a full disk: those who listen hear it all the same
            self._save("stopped", record)
        state.release(self.claim)
        for peer in list(self.peers):
            if peer.role in ("watch", "attach"):
                peer.finish(protocol.encode(protocol.EXIT, record))

    def linger(self) -> None:
        """Wait for those who have not read all yet, for a while."""
        if self.listener is not None:
            self.unwatch(self.listener.fileno())
        for peer in list(self.peers):
            if not peer.ending:
                peer.close()
        over: list[bool] = []
        self.later(LINGER_SECONDS, lambda: over.append(True))
        while self.peers and not over:
            self.turn()

    def _kill_rest(self) -> None:
        for _ in range(100):
            if not self.cgroup.processes():
                return
            with contextlib.suppress(OSError):
                self.cgroup.kill()
            time.sleep(0.002)
            self.reap()

    # -- requests ---------------------------------------------------------------------------

    def request(self, peer: Peer, message: dict[str, Any]) -> None:
        """The first message of a connection."""
        operation = message.get("op")
        try:
            if operation in ("watch", "attach"):
                peer.role = str(operation)
                early = (self.streams.early if message.get("from_start") else None) or []
                whole = bool(message.get("from_start")) and self.streams.early is not None
                report = {"pid": self.pid, "started_ns": self.started_ns, "from_start": whole, "at_ns": time.time_ns()}
                peer.send(protocol.encode(protocol.JSON, report))
                if operation == "attach":
                    self.streams.join(peer, early)
            elif operation == "exec":
                shim_exec.begin(self, peer, message)
            else:
                self._simple(str(operation), message)
                peer.send(protocol.encode(protocol.JSON, {}))
        except Exception as error:
            code = getattr(error, "exit_code", 125)
            peer.send(protocol.encode(protocol.JSON, {"error": str(error), "code": code}))

    def _simple(self, operation: str, message: dict[str, Any]) -> None:
        if operation == "kill":
            if message.get("all") and message["signal"] == signal.SIGKILL:
                self.cgroup.kill()
                return
            for pid in self.cgroup.processes() if message.get("all") else [self.pid]:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, message["signal"])
        elif operation == "resize":
            self.streams.resize(message["rows"], message["columns"])
        elif operation in ("exec_signal", "exec_resize"):
            running = self.execs.get(message["pid"])
            if running is None:
                raise ValueError("the program has ended")
            if operation == "exec_signal":
                running.signal(message["signal"])
            else:
                running.resize(message["rows"], message["columns"])
        else:
            raise ValueError(f"unknown operation {operation!r}")


def exit_record(status: int, oom: bool, started_ns: int, finished_ns: int, error: str = "") -> dict[str, Any]:
    """What ``state.json`` keeps of an exit; ``status`` as of wait(2)."""
    killed = os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0
    return {
        "code": 128 + killed if killed else os.WEXITSTATUS(status),
        "signal": killed,
        "oom_killed": oom,
        "started_ns": started_ns,
        "finished_ns": finished_ns,
        "error": error,
    }


def _noticed(_number: int, _frame: object) -> None:
    """SIGCHLD only has to wake the loop."""
