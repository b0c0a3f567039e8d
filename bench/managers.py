"""Managers without nodes: the processes alone, on SQLite or each with an etcd member, on this machine's loopback."""

from __future__ import annotations

import os
import secrets
import socket
import subprocess
import sys
import time
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime
from ipaddress import ip_address
from pathlib import Path

import grpc

from bench.daemons import until
from pycompose.manager.backend import Backend
from pycompose.manager.ca import Authority, Subject
from pycompose.manager.member import IDENTITY, Settings
from pycompose.proto.peer import Role
from pycompose.proto.tls import Identity, new_request
from pycompose.proto.v1 import control_pb2, control_pb2_grpc

HOST = "127.0.0.1"


def free_ports(count: int) -> list[int]:
    """Return ports of loopback that nobody listens on."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind((HOST, 0))
        return [int(each.getsockname()[1]) for each in sockets]


@dataclass
class Manager:
    """One manager's processes; `member` is its etcd, where it has one."""

    folder: Path
    process: subprocess.Popen[bytes] | None = None
    member: subprocess.Popen[bytes] | None = None

    @property
    def target(self) -> str:
        """The socket of its API, for gRPC."""
        return f"unix:{self.folder}/run/api.sock"

    def start(self) -> None:
        """Start what does not run."""
        if (self.folder / "state" / "manager" / "member.json").exists() and self.member is None:
            self.member = self._run("pycompose.manager.member")
        if self.process is None:
            self.process = self._run("pycompose.manager")

    def _run(self, module: str) -> subprocess.Popen[bytes]:
        places = {"PYCOMPOSE_STATE_DIR": f"{self.folder}/state", "PYCOMPOSE_RUN_DIR": f"{self.folder}/run"}
        with open(self.folder / "log", "ab") as log:
            command = ["setpriv", "--pdeathsig", "KILL", sys.executable, "-m", module]
            return subprocess.Popen(command, env=os.environ | places, stdin=subprocess.DEVNULL, stdout=log, stderr=log)

    def kill(self) -> None:
        """End both at once (SIGKILL)."""
        for process in (self.process, self.member):
            if process is not None:
                process.kill()
                process.wait()
        self.process = self.member = None

    def answers(self) -> bool:
        """Whether it answers a linearizable read; one that ended is started again, as its supervisor would."""
        if self.process is not None and self.process.poll() is not None:
            self.process = None
            self.start()
        with grpc.insecure_channel(self.target, options=[("grpc.use_local_subchannel_pool", 1)]) as channel:
            try:
                request = control_pb2.ListNodesRequest(page_size=1)
                control_pb2_grpc.ControlServiceStub(channel).ListNodes(request, timeout=1)
                return True
            except grpc.RpcError:
                return False


@dataclass
class Managers:
    """Some managers of one store; a context manager. `members`: 0: SQLite, which one manager alone can use."""

    folder: Path
    members: int = 0
    all: list[Manager] = field(default_factory=list)

    def __enter__(self) -> Managers:
        for number in range(self.members or 1):
            manager = Manager(self.folder / f"m{number}")
            (manager.folder / "state" / "manager").mkdir(parents=True)
            (manager.folder / "run").mkdir()
            self.all.append(manager)
        if self.members:
            self._provision()
        try:
            for manager in self.all:
                manager.start()
            for manager in self.all:
                until(manager.answers, 60, 0.1, f"a manager answers (its log is {manager.folder}/log)")
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        for manager in self.all:
            manager.kill()

    def _provision(self) -> None:
        ports = free_ports(2 * self.members)
        authority = Authority.create("simulated", datetime.now(UTC))
        data_key = secrets.token_bytes(32)
        peers = {f"m{number}": f"{HOST}:{ports[2 * number]}" for number in range(self.members)}
        for number, manager in enumerate(self.all):
            folder, name, client = manager.folder / "state" / "manager", f"m{number}", f"{HOST}:{ports[2 * number + 1]}"
            key, request = new_request()
            subject = Subject(Role.MANAGER, name, "simulated", [ip_address(HOST)])
            Identity(authority.sign(request, subject, datetime.now(UTC)), key, authority.pem).store(folder / IDENTITY)
            (folder / "key").write_bytes(data_key)
            Settings(name, client, peers[name], peers, token="simulated").save(folder)
            Backend("etcd", (client,), name=name).save(folder)


@dataclass(frozen=True)
class Usage:
    """What processes have used: seconds of one core, and bytes that are theirs alone or their share (PSS)."""

    cpu_seconds: float
    memory_bytes: int
    at: float


def usage(processes: list[subprocess.Popen[bytes] | None]) -> Usage:
    """Return what they have used until now (proc(5): stat, smaps_rollup)."""
    ticks = memory = 0
    for process in processes:
        if process is None:
            continue
        fields = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
        ticks += int(fields[11]) + int(fields[12])
        for line in Path(f"/proc/{process.pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                memory += int(line.split()[1]) * 1024
    return Usage(ticks / os.sysconf("SC_CLK_TCK"), memory, time.monotonic())
