"""10,000 containers that run, are entered, fail and are killed: nothing of them stays, and the daemons do not grow.

All of it goes through the API, in several lanes at once, as a busy node has it. `make soak` does the whole count.
"""

from __future__ import annotations

import queue
import re
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from node import residue
from node.conftest import shared
from node.test_access import Api, api
from node.test_rounds import quiet, settled
from node.whole import IMAGE, Node, until

from pycompose.proto.v1 import access_pb2, control_pb2, network_pb2, secret_pb2, service_pb2, task_pb2

__all__ = ["api", "shared"]
LANES = 4
NETWORK = SECRET = "endurance"
WARM_UP = 40
SAMPLES = 20
#: KiB a cycle (ATTACKS I04 allows 5): what a leak of one object a container would exceed over 10,000 of them.
SLOPE = 1.0
#: Growth that is no slope yet, in a short run: an allocator's arenas, a database's pages.
ARENAS = 6 << 10
KINDS = ("run", "exec", "fail", "kill")
COMMANDS = {"run": ("true",), "exec": ("sleep", "1000"), "fail": ("sh", "-c", "exit 3"), "kill": ("sleep", "1000")}
ENDS = {
    "run": task_pb2.TASK_STATE_COMPLETE,
    "exec": task_pb2.TASK_STATE_RUNNING,
    "fail": task_pb2.TASK_STATE_FAILED,
    "kill": task_pb2.TASK_STATE_RUNNING,
}


class Lane:
    """Containers one after another."""

    def __init__(self, api: Api) -> None:
        self.api = api

    def cycle(self, number: int) -> None:
        """One container from its creation until nothing of it is left."""
        kind = KINDS[number % len(KINDS)]
        spec = service_pb2.ServiceSpec(name=f"cycle-{number}")
        spec.task.container.image = IMAGE
        missing = kind == "fail" and number % 8 > 3
        spec.task.container.command.args.extend(["/no/such"] if missing else COMMANDS[kind])
        spec.task.networks.add(network=NETWORK)
        spec.task.container.secrets.add(name=SECRET, target="word")
        spec.task.restart.condition = service_pb2.RESTART_CONDITION_NONE
        if kind in ("run", "fail"):
            spec.replicated_job.completions = 1
        else:
            spec.replicated.replicas = 1
        made = self.api.control.CreateService(control_pb2.CreateServiceRequest(spec=spec)).service
        task = self._until(made.id, ENDS[kind])
        if kind == "exec":
            assert self.api.exec(task, "sh", "-c", "echo out; exit 7").finish() == (7, b"out\n")
        if kind == "kill":
            self.api.access.SignalTask(access_pb2.SignalTaskRequest(task_id=task.id, signal="KILL"))
            self._until(made.id, task_pb2.TASK_STATE_FAILED)
        self._remove(made.id)

    def _watch(self, service: str) -> object:
        kinds = (control_pb2.OBJECT_KIND_SERVICE, control_pb2.OBJECT_KIND_TASK)
        request = control_pb2.WatchRequest(kinds=kinds, service_ids=[service])
        return self.api.control.Watch(request, timeout=100)

    def _until(self, service: str, state: int) -> task_pb2.Task:
        watch = self._watch(service)
        for answer in watch:
            for event in answer.events:
                if event.task.status.state == state:
                    watch.cancel()
                    return event.task
        raise AssertionError("the watch ended")

    def _remove(self, service: str) -> None:
        watch, left, asked = self._watch(service), set(), False
        for answer in watch:
            for event in answer.events:
                identity = getattr(event, event.WhichOneof("object")).id
                (left.discard if event.type == control_pb2.EVENT_TYPE_REMOVED else left.add)(identity)
            if answer.synchronized and not asked:
                asked = True
                self.api.control.RemoveService(control_pb2.RemoveServiceRequest(service_id=service))
            if asked and not left:
                break
        watch.cancel()


def drive(lanes: list[Lane], numbers: range) -> None:
    """Go through the numbers, each in the first lane that is free; the first failure ends it."""
    waiting: queue.SimpleQueue[int] = queue.SimpleQueue()
    failures: list[BaseException] = []
    for number in numbers:
        waiting.put(number)

    def work(lane: Lane) -> None:
        try:
            while not failures:
                lane.cycle(waiting.get_nowait())
        except queue.Empty:
            pass
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(lane,)) for lane in lanes]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]


def memory(node: Node) -> dict[str, int]:
    """Resident memory of each daemon's own (anonymous) pages, in KiB (proc_pid_status(5))."""
    found = {}
    for name, pid in node.daemons().items():
        match = re.search(r"^RssAnon:\s+(\d+)", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
        found[name] = int(match[1]) if match else 0
    return found


def slope(points: list[tuple[int, int]]) -> float:
    """The slope of the line through points by least squares."""
    x0, y0 = (sum(column) / len(points) for column in zip(*points, strict=True))
    return sum((x - x0) * (y - y0) for x, y in points) / sum((x - x0) ** 2 for x, _ in points)


@pytest.mark.timeout(7200)
@pytest.mark.attack("I04")
def test_soak_containers_of_every_kind_leave_nothing(
    api: Api, many: Callable[[int], int], capsys: pytest.CaptureFixture[str]
) -> None:
    """Run, entered, failed and killed: residue, memory, descriptors and threads of the daemons."""
    node, count = api.node, many(10_000)
    network = network_pb2.NetworkSpec(name=NETWORK)
    api.control.CreateNetwork(control_pb2.CreateNetworkRequest(spec=network))
    secret = secret_pb2.SecretSpec(name=SECRET, data=b"a word")
    api.control.CreateSecret(control_pb2.CreateSecretRequest(spec=secret))
    steady = api.service("steady", "while :; do sleep 1; done")[0]
    lanes = [Lane(api) for _ in range(LANES)]
    drive(lanes, range(WARM_UP))
    before, threads, pids = quiet(node), residue.threads(node), node.pids()
    samples: list[tuple[int, dict[str, int]]] = []
    step = max(1, count // SAMPLES)
    for begin in range(WARM_UP, WARM_UP + count, step):
        drive(lanes, range(begin, begin + step))
        samples.append((begin + step - WARM_UP, memory(node)))
    settled(node, before, 60)
    assert node.pids() == pids  # steady's too
    later = samples[len(samples) // 4 :]
    slopes = {name: slope([(at, found[name]) for at, found in later]) for name in samples[0][1]}
    grown = {name: later[-1][1][name] - later[0][1][name] for name in slopes}
    with capsys.disabled():
        print(f"\n{count} cycles; KiB a cycle:", {name: round(each, 3) for name, each in slopes.items()})
        for name in slopes:
            print(f"resident KiB of {name}:", *(found[name] for _, found in samples))
    assert not {name: each for name, each in slopes.items() if each > SLOPE and grown[name] > ARENAS}, samples
    until(
        lambda: all(there <= threads[name] + 4 for name, there in residue.threads(node).items()),
        what=lambda: (residue.threads(node), threads),
    )
    assert steady.id
