"""What a cluster outlives without a word: pauses, bad lines, busy cores, restarts; and what it answers: a host's death.

`make soak` lets hosts die fifty times, `make test` once.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence

from node.whole import until

from cluster.bed import Bed, Host
from cluster.load import Load
from pycompose.proto.v1 import node_pb2

DEATHS = 50 if os.environ.get("PYCOMPOSE_SOAK") == "full" else 1
#: The longest pause that nobody calls a death, and how long a line is bad.
PAUSE_SECONDS, LOSS_SECONDS, LOSS_PERCENT = 5.0, 8.0, 30


def ready(load: Load, hosts: Sequence[Host]) -> bool:
    """Whether every manager answers, and says that every node is ready."""
    wanted = [node_pb2.NODE_STATE_READY] * len(hosts)
    return all(load.states(host.name) == wanted for host in hosts)


def a_pause_a_bad_line_and_busy_cores_are_no_death(bed: Bed, load: Load, hosts: Sequence[Host]) -> None:
    before = [host.pids() for host in hosts]
    began = time.monotonic()
    busy = [subprocess.Popen(["sh", "-c", "while :; do :; done"]) for _ in range(2)]
    try:
        bed.lose(hosts[1].name, LOSS_PERCENT)
        hosts[2].freeze("agent")
        time.sleep(PAUSE_SECONDS)
        hosts[2].thaw("agent")
        time.sleep(LOSS_SECONDS - PAUSE_SECONDS)
        bed.heal()
    finally:
        for each in busy:
            each.kill()
            each.wait()
    until(lambda: ready(load, hosts), what=hosts[0].log)
    said = [(at - began, node, node_pb2.NodeState.Name(state)) for at, node, state in load.nodes if at > began]  # type: ignore[arg-type]
    assert [each for each in said if each[2] == "NODE_STATE_DOWN"] == [], said
    assert [host.pids() for host in hosts] == before


def restarts_touch_no_container(load: Load, hosts: Sequence[Host]) -> None:
    """All managers one after another, then all daemons of each node.

    Where the machine is so busy that a node's restart takes longer than the grace time, its tasks move, as they should.
    """
    before = [host.pids() for host in hosts]
    began = time.monotonic()
    for host in hosts:
        old = host.daemons()["manager"]
        host.terminate("manager")
        until(lambda host=host, old=old: host.daemons().get("manager", old) != old, what=host.log)  # type: ignore[misc]
        until(lambda: ready(load, hosts), what=host.log)
    for host in hosts:
        host.compose("node", "stop")
        until(lambda host=host: not host.daemons())  # type: ignore[misc]
        host.start()
        until(lambda: ready(load, hosts), what=host.log)
    down = {node for at, node, state in load.nodes if at > began and state == node_pb2.NODE_STATE_DOWN}
    for host, containers in zip(hosts, before, strict=True):
        if not any(node.startswith(host.name) for node in down):
            assert containers.items() <= host.pids().items()
    until(lambda: sum(len(host.pids()) for host in hosts) == sum(map(len, before)), what=hosts[0].log)


def dead_hosts_tasks_move(load: Load, hosts: Sequence[Host]) -> None:
    """Hosts die in turn, but for the first; as many containers as before run on the others. How soon is printed."""
    count = sum(len(host.pids()) for host in hosts)
    took: list[float] = []
    for number in range(DEATHS):
        dying = max(hosts[1:], key=lambda host: (len(host.pids()), host.name))
        others = [host for host in hosts if host is not dying]
        kept = sum(len(host.pids()) for host in others)
        assert kept < count, number
        dying.power_off()
        at = time.monotonic()
        until(lambda: sum(len(host.pids()) for host in others) == count, 120, what=hosts[0].log)  # noqa: B023
        took.append(time.monotonic() - at)
        if number < DEATHS - 1:
            dying.start()
            until(lambda: ready(load, hosts), what=dying.log)
            until(lambda: not dying.pids(), what=dying.log)  # noqa: B023
    worst = sorted(took)[max(0, -(-len(took) * 99 // 100) - 1)]
    text = f"tasks of a dead host ran elsewhere after {statistics.median(took):.1f} s (median), {worst:.1f} s (p99)"
    sys.stderr.write(f"\n{text}, of {len(took)} deaths\n")
