"""Managers are killed, stopped, cut off and restarted under a stream of writes through all of them.

Of each round: a write is accepted again soon; the history of all clients is linearizable (so every acknowledged write
is there afterwards); watchers saw each change once and in order; no task was started twice in one run. `make soak` does
50 rounds of each kind, `make test` a twentieth.
"""

from __future__ import annotations

import contextlib
import os
import statistics
import sys
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import grpc.aio
import pytest
from node.whole import IMAGE, until

from cluster.bed import Bed, Host, laid
from cluster.linearizable import ABSENT, check, register
from cluster.load import Load, acknowledged
from cluster.members import leading_manager, leading_member
from cluster.provision import managers, spread
from cluster.watched import Seen, faults
from pycompose.proto.v1 import control_pb2, node_pb2, task_pb2

ROUNDS = 50 if os.environ.get("PYCOMPOSE_SOAK") == "full" else 1
REPLICAS = (6, 9)
KEYS = 6
FILE = f"""
name: spread
services:
  web:
    image: {IMAGE}
    command: sleep 86400
    pull_policy: never
    network_mode: none
    deploy: {{replicas: 6}}
"""
#: How long a fault lasts: longer than the leader's lease and than an election among the members.
HOLD_SECONDS = {"kill -9": 0.0, "restart": 0.0}
LONG_SECONDS = 3.0
PROCESSES = ("member", "manager")


def kill(bed: Bed, host: Host) -> Callable[[], None]:
    for name in PROCESSES:
        host.kill(name)
    return lambda: None


def stop(bed: Bed, host: Host) -> Callable[[], None]:
    host.freeze(*PROCESSES)
    return lambda: host.thaw(*PROCESSES)


def isolate(bed: Bed, host: Host) -> Callable[[], None]:
    bed.isolate(host.name)
    return bed.heal


def mute(bed: Bed, host: Host) -> Callable[[], None]:
    """The others do not hear it; it hears them."""
    for other in bed.hosts:
        if other != host.name:
            bed.cut(host.name, other, one_way=True)
    return bed.heal


def deafen(bed: Bed, host: Host) -> Callable[[], None]:
    """It does not hear the others; they hear it."""
    for other in bed.hosts:
        if other != host.name:
            bed.cut(other, host.name, one_way=True)
    return bed.heal


def restart(bed: Bed, host: Host) -> Callable[[], None]:
    host.terminate(*PROCESSES)
    return lambda: None


FAULTS = {"kill -9": kill, "SIGSTOP": stop, "partition": isolate, "mute": mute, "deaf": deafen, "restart": restart}


@dataclass
class Report:
    """Seconds by kind of fault, for people."""

    accepted: dict[str, list[float]]
    settled: dict[str, list[float]]

    def __str__(self) -> str:
        lines = [
            "fault       next write accepted (median, worst)   all nodes ready after the fault's end (median, worst)"
        ]
        for kind in self.accepted:
            one, two = (
                f"{statistics.median(each[kind]):.2f} s, {max(each[kind]):.2f} s" for each in vars(self).values()
            )
            lines.append(f"{kind:12}{one:38}{two}")
        return "\n".join(lines)


def ready(load: Load, manager: str) -> bool:
    return load.states(manager) == [node_pb2.NODE_STATE_READY] * 3


def target(bed: Bed, number: int) -> Host:
    """The leader of the members and that of the managers take turns."""
    find = leading_member if number % 2 == 0 else leading_manager
    found: list[Host] = []
    until(lambda: (host := find(bed.hosts.values())) is not None and not found.append(host))  # type: ignore[func-returns-value]
    return found[0]


def scale(load: Load, number: int) -> None:
    """Change how many replicas there are, at whichever manager accepts it."""

    def asked(manager: str) -> bool:
        with contextlib.suppress(grpc.aio.AioRpcError):
            service = load.call(manager, "GetService", control_pb2.GetServiceRequest(service="spread/web")).service
            request = control_pb2.UpdateServiceRequest(service_id=service.id, version=service.meta.version)
            request.spec.CopyFrom(service.spec)
            request.spec.replicated.replicas = number
            load.call(manager, "UpdateService", request)
            return True
        return False

    until(lambda: any(asked(name) for name in load.names))


def run(load: Load, hosts: list[Host], number: int) -> bool:
    """Whether so many tasks run, each in one container, and no others."""
    request = control_pb2.ListTasksRequest(filter=control_pb2.ObjectFilter(project="spread"))
    try:
        found = load.call(hosts[0].name, "ListTasks", request).tasks
    except grpc.aio.AioRpcError:
        return False
    tasks = [task for task in found if task.status.state == task_pb2.TASK_STATE_RUNNING]
    containers = sorted(each for host in hosts for each in host.pids())
    return len({task.slot for task in tasks}) == number and containers == sorted(task.id for task in tasks)


def deployed(hosts: list[Host], folder: Path) -> None:
    """Run a service on all hosts."""
    spread(hosts, folder)
    hosts[0].write(FILE)
    hosts[0].compose("up", "-d")


@pytest.mark.timeout(7200)
def test_managers_fail_under_a_stream_of_writes_soak(tmp_path: Path) -> None:
    report = Report(defaultdict(list), defaultdict(list))
    told: list[Seen] = []
    with laid(tmp_path / "bed", ("m1", "m2", "m3")) as bed:
        hosts = list(bed.hosts.values())
        managers(bed, hosts)
        for host in hosts:
            host.start()
        with Load({host.name: host.folder / "run" / "api.sock" for host in hosts}) as load:
            for host in hosts:
                until(lambda host=host: load.answers(host.name) and ready(load, host.name), what=host.log)  # type: ignore[misc]
            deployed(hosts, tmp_path)
            load.watch()
            for number in range(ROUNDS):
                for kind, fault in FAULTS.items():
                    keys = [f"{kind.replace(' ', '')}-{number}-{key}" for key in range(KEYS)]
                    host = target(bed, number)
                    load.begin(keys)
                    load.accepted(time.monotonic())
                    at = time.monotonic()
                    end = fault(bed, host)
                    report.accepted[kind].append(load.accepted(at))
                    replicas = REPLICAS[len(report.accepted[kind]) % 2]
                    scale(load, replicas)
                    time.sleep(max(0.0, at + HOLD_SECONDS.get(kind, LONG_SECONDS) - time.monotonic()))
                    end()
                    ended = time.monotonic()
                    for each in hosts:
                        until(lambda each=each: load.answers(each.name), what=each.log)  # type: ignore[misc]
                    until(lambda: ready(load, hosts[0].name), what=lambda: "".join(each.log() for each in hosts))
                    report.settled[kind].append(time.monotonic() - ended)
                    until(lambda: run(load, hosts, replicas), what=lambda: hosts[0].compose("ps", "-a"))  # noqa: B023
                    sys.stderr.write(f"{number} {kind} of {host.name}: {report.accepted[kind][-1]:.2f} s\n")
                    history = load.end(keys)
                    told += acknowledged(history)
                    verdict = check(history, ABSENT, register)
                    assert verdict.good, f"{kind} of {host.name}, round {number}: {verdict}"
            load.caught_up("last")
            assert faults(load.watchers, told) == []
            assert {key: starts for key, starts in load.starts.items() if len(starts) > 1} == {}
    sys.stderr.write(f"\n{report}\n{len(told)} acknowledged writes, all there\n")
