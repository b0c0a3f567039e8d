"""``python -m bench.simulate``: thousands of workers against three managers: what the managers use, what they keep up.

The workers are real sessions of the dispatcher over real gRPC, without containers (`bench.workers`), in a few
processes; the managers are real processes with an etcd member each. Told are: how soon all workers are there, how soon
all tasks run, how many sessions broke and nodes were lost while nothing was asked, and what the managers used.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import grpc

from bench.daemons import IMAGE, until
from bench.managers import Managers, Usage, usage
from pycompose.proto.v1 import control_pb2, control_pb2_grpc, node_pb2, service_pb2, task_pb2

REPLICAS = 500
OPTIONS = [("grpc.max_receive_message_length", -1)]


class Pool:
    """Processes of simulated workers; a context manager."""

    def __init__(self, targets: list[str], workers: int, processes: int) -> None:
        self._targets, self._workers, self._processes = targets, workers, processes
        self._running: list[subprocess.Popen[str]] = []
        self._last: dict[int, dict[str, int]] = {}

    def __enter__(self) -> Pool:
        size = -(-self._workers // self._processes)
        for number in range(self._processes):
            count = min(size, self._workers - number * size)
            words = ["setpriv", "--pdeathsig", "KILL", sys.executable, "-m", "bench.workers"]
            words += [str(number * size), str(count), *self._targets]
            process = subprocess.Popen(words, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True)
            self._running.append(process)
            threading.Thread(target=self._read, args=(number, process), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        for process in self._running:
            process.kill()
            process.wait()

    def _read(self, number: int, process: subprocess.Popen[str]) -> None:
        assert process.stdout is not None
        for line in process.stdout:
            self._last[number] = json.loads(line)

    def count(self, what: str) -> int:
        """Sum over the processes: "sessions", "broken", "tasks" (that they have now) or "started"."""
        return sum(each[what] for each in self._last.values())


@dataclass
class Phase:
    """What one phase took: seconds, cores of the managers and of their members, bytes of the managers."""

    what: str
    seconds: float
    cores: float
    member_cores: float
    memory: int

    def __str__(self) -> str:
        return (
            f"{self.what:44} {self.seconds:7.1f} s   managers {self.cores:4.2f} cores, {self.memory / 1e6:5.0f} MB"
            f"   etcd {self.member_cores:4.2f} cores"
        )


class Simulation:
    """Managers and their workers.

    Args:
        folder: for the managers' files.
        workers, tasks, members: how many; 0 members: one manager on SQLite.
        processes: of workers.
    """

    def __init__(self, folder: Path, workers: int, tasks: int, members: int = 3, processes: int = 2) -> None:
        self.workers, self.tasks = workers, tasks
        self._stack = ExitStack()
        self._managers = Managers(folder, members)
        self._processes = processes
        self.phases: list[Phase] = []

    def __enter__(self) -> Simulation:
        self._stack.enter_context(self._managers)
        self._channel = self._stack.enter_context(grpc.insecure_channel(self._managers.all[0].target, options=OPTIONS))
        self.control = control_pb2_grpc.ControlServiceStub(self._channel)
        targets = [manager.target for manager in self._managers.all]
        self._before = self._used()
        self.pool = self._stack.enter_context(Pool(targets, self.workers, self._processes))
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def _used(self) -> tuple[Usage, Usage]:
        managers = self._managers.all
        return usage([each.process for each in managers]), usage([each.member for each in managers])

    def done(self, what: str) -> Phase:
        """End a phase; the next one begins."""
        (own, member), before = self._used(), self._before
        seconds = own.at - before[0].at
        cores = [
            (after.cpu_seconds - then.cpu_seconds) / seconds for after, then in zip((own, member), before, strict=True)
        ]
        phase = Phase(what, seconds, cores[0], cores[1], own.memory_bytes)
        self.phases.append(phase)
        self._before = own, member
        return phase

    def lost_nodes(self) -> list[str]:
        """Return nodes that are not ready, by a manager's word."""
        token, found, count = "", [], 0
        while True:
            answer = self.control.ListNodes(control_pb2.ListNodesRequest(page_token=token))
            count += len(answer.nodes)
            found += [each.id for each in answer.nodes if each.status.state != node_pb2.NODE_STATE_READY]
            token = answer.next_page_token
            if not token:
                return found + ["missing"] * (self.workers - count)

    def join(self, seconds: float) -> Phase:
        """Wait until all workers have a session, and all nodes are ready."""
        until(lambda: self.pool.count("sessions") == self.workers, seconds, 0.2, f"{self.workers} workers are there")
        until(lambda: not self.lost_nodes(), seconds, 0.5, f"{self.workers} nodes are ready")
        return self.done(f"{self.workers} workers joined")

    def hold(self, seconds: float) -> tuple[Phase, int, int]:
        """Ask nothing for a while; returns also how many sessions broke and how many nodes were lost."""
        broken = self.pool.count("broken")
        time.sleep(seconds)
        lost = len(self.lost_nodes())
        return self.done("heartbeats held, nothing asked"), self.pool.count("broken") - broken, lost

    def run(self, seconds: float) -> Phase:
        """Wait until all tasks are assigned, and the managers know that they run."""
        services = [self._create(f"s{number}", number * REPLICAS) for number in range(-(-self.tasks // REPLICAS))]
        until(lambda: self.pool.count("tasks") == self.tasks, seconds, 0.1, f"{self.tasks} tasks are assigned")
        until(lambda: self._running(services) == self.tasks, seconds, 0.2, f"{self.tasks} tasks are known to run")
        phase = self.done(f"{self.tasks} tasks assigned and reported")
        assert self.pool.count("started") == self.tasks, "a task was started twice"
        return phase

    def _create(self, name: str, before: int) -> str:
        spec = service_pb2.ServiceSpec(name=name)
        spec.replicated.replicas = min(REPLICAS, self.tasks - before)
        spec.task.container.image = IMAGE
        return str(self.control.CreateService(control_pb2.CreateServiceRequest(spec=spec)).service.id)

    def _running(self, services: list[str]) -> int:
        count = 0
        for service in services:
            tasks = self.control.ListTasks(control_pb2.ListTasksRequest(service_ids=[service])).tasks
            count += sum(task.status.state == task_pb2.TASK_STATE_RUNNING for task in tasks)
        return count


def main() -> int:
    """Run as the command line asks; returns 1 when a session broke or a node was lost."""
    parser = argparse.ArgumentParser(prog="bench.simulate", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--workers", type=int, default=5000)
    parser.add_argument("--tasks", type=int, default=10_000)
    parser.add_argument("--managers", type=int, default=3, help="each with an etcd member; 0: one on SQLite")
    parser.add_argument("--processes", type=int, default=2, help="of workers")
    parser.add_argument("--hold", type=float, default=60, metavar="SECONDS", help="how long nothing is asked")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="pycompose-simulate-") as folder:
        with Simulation(Path(folder), asked.workers, asked.tasks, asked.managers, asked.processes) as simulation:
            print(f"{os.cpu_count()} cores, Linux {os.uname().release}; managers: {asked.managers or 1}")
            print(simulation.join(1200), flush=True)
            phase, broken, lost = simulation.hold(asked.hold)
            print(f"{phase}\n  sessions broken: {broken}, nodes lost: {lost}", flush=True)
            phase = simulation.run(1200)
            print(f"{phase}\n  {asked.tasks / phase.seconds:.0f} tasks a second, until all are known to run")
    return 1 if broken or lost else 0


if __name__ == "__main__":
    sys.exit(main())
