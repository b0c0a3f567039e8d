"""Machines join a cluster and leave it, by the commands that people type, over real TLS; containers run on."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from node.whole import IMAGE, until

from cluster.bed import Bed, laid
from cluster.forming import form, give_image, ready

FILE = f"""
name: shop
services:
  web:
    image: {IMAGE}
    command: sh -c 'while :; do hostname; sleep 0.3; done'
    stop_signal: SIGKILL
    pull_policy: never
    network_mode: none
    deploy:
      replicas: 2
      placement: {{max_replicas_per_node: 2}}
"""
OWN = f"""
name: own
services:
  old: {{image: {IMAGE}, command: sleep 1000, stop_signal: SIGKILL, pull_policy: never, network_mode: none}}
"""


@pytest.fixture
def bed(tmp_path: Path) -> Iterator[Bed]:
    """Two hosts whose nodes have the image; no cluster."""
    with laid(tmp_path / "bed", ("m1", "w1")) as bed:
        give_image(list(bed.hosts.values()), tmp_path)
        yield bed


def test_the_life_of_a_worker(bed: Bed) -> None:
    m1, w1 = bed.hosts.values()
    m1.write(OWN, "own.yaml")
    m1.compose("-f", "own.yaml", "up", "-d")
    before = m1.pids()
    form(m1, [w1])
    assert m1.pids() == before, "making a cluster restarts no container"

    m1.write(FILE)
    m1.compose("up", "-d")
    until(lambda: len(w1.pids()) == 1, what=lambda: m1.compose("ps", "-a") + m1.log())
    assert {m1.exec("web", "echo", "hands", index=number) for number in (1, 2)} == {"hands\n"}
    on_worker = w1.pids()

    # a machine with only a worker says where managers are
    done = w1.cli("-p", "shop", "ps")
    assert "this node is a worker of cluster bed; use a manager (10.77.0.1) or a context" in done.stderr
    status = json.loads(w1.compose("node", "status", "--format", "json"))
    assert (status["role"], status["cluster_name"], status["containers_running"]) == ("worker", "bed", 1)
    assert "manager" not in w1.daemons()

    # its daemons start anew, the container does not
    w1.kill("agent")
    until(lambda: w1.cli("node", "status").returncode == 0 and ready(m1) == 2, what=w1.log)
    # (unless the machine is so slow that its node was called down)
    assert w1.pids() == on_worker or "is down" in m1.log()
    on_worker = w1.pids()

    # leaving: not with tasks, unless they move or are given up
    done = w1.cli("node", "leave")
    assert done.returncode == 1
    assert "tasks of the cluster are here: shop-web-" in done.stderr
    assert w1.pids() == on_worker
    assert "this node is a single node" in w1.compose("node", "leave", "--drain")
    until(lambda: len(m1.pids()) == 3 and not w1.pids(), what=lambda: m1.compose("ps", "-a") + m1.log())
    assert "manager" in w1.daemons()
    w1.write(OWN, "own.yaml")
    w1.compose("-f", "own.yaml", "up", "-d")
    assert "node w1 is up" not in m1.compose("node", "rm", "w1")
    assert m1.compose("node", "inspect", "self", "-f", "{{.description.hostname}}") == "m1\n"
    assert ready(m1) == 1
    assert m1.pids().keys() >= before.keys()

    # what it has of its own is not left behind
    done = w1.cli("node", "join", m1.compose("cluster", "token", "worker", "-q").strip())
    assert done.returncode == 1
    assert "this node has projects or containers of its own: own;" in done.stderr
