"""Processes that stand still and a disk that is slow: nothing is lost, and nobody else waits (J07)."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
from attacks.conftest import FULL
from attacks.test_faults import Tracer
from node.conftest import shared
from node.test_node import FILE
from node.whole import Node, until

__all__ = ["shared"]
SECONDS = (1, 10, 60) if FULL else (1,)
#: A command waits for so long for a daemon that stands still, and is given again after that.
PATIENCE = 30


@pytest.fixture(scope="module")
def box(shared: Node) -> Node:
    shared.write(FILE)
    shared.compose("up", "-d", "--wait")
    return shared


def answers(node: Node) -> bool:
    return node.cli("exec", "-T", "client", "true").returncode == 0


@pytest.mark.attack("J07")
@pytest.mark.parametrize("seconds", SECONDS)
@pytest.mark.parametrize("role", ["supervisor", "manager", "agent", "zygote", "resolver", "nft helper"])
def test_a_daemon_that_stands_still(box: Node, role: str, seconds: int) -> None:
    """Each daemon stopped while a service is made: containers run on, and what was asked for is done afterwards."""
    pids, daemons = box.pids(), box.daemons()
    os.kill(daemons[role], signal.SIGSTOP)
    try:
        asked = box.begin("sh", "-c", f"sleep {seconds}; kill -CONT {daemons[role]}")
        done = box.cli("up", "-d", "--scale", "web=3", timeout=150)
        asked.communicate(timeout=90)
    finally:
        os.kill(daemons[role], signal.SIGCONT)
    assert "Traceback" not in done.stderr
    if seconds < PATIENCE:
        assert done.returncode == 0, done.stderr + box.log()
    until(lambda: box.cli("up", "-d", "--scale", "web=3").returncode == 0, what=box.log)
    until(lambda: len([item for item in box.containers().values() if item["State"] == "running"]) == 4)
    assert box.daemons()[role] == daemons[role]  # it was not taken for dead
    assert box.pids().items() >= pids.items()
    box.compose("up", "-d", "--scale", "web=2")
    until(lambda: len(box.containers()) == 3)


@pytest.mark.attack("J07")
def test_a_shim_that_stands_still(box: Node) -> None:
    """Its container runs on and others are entered; after it goes on, its own is too."""
    identity = next(item["ID"] for item in box.containers().values() if item["Service"] == "web")
    shim = next(pid for each, pid in box.shims().items() if each.startswith(identity))
    pids = box.pids()
    os.kill(shim, signal.SIGSTOP)
    try:
        assert answers(box)
        assert len(box.containers()) == 3
    finally:
        os.kill(shim, signal.SIGCONT)
    until(lambda: box.cli("exec", "-T", "web", "true").returncode == 0)
    assert box.pids() == pids


@pytest.mark.attack("J07")
def test_a_slow_disk(box: Node, tmp_path: Path) -> None:
    """Each sync of the manager's store takes half a second longer: all is done, only later."""
    pids = box.pids()
    inject = "inject=fdatasync,fsync:delay_enter=500ms"
    tracer = Tracer([box.daemons()["manager"]], tmp_path / "trace", "-e", "trace=fdatasync,fsync", "-e", inject)
    try:
        box.compose("up", "-d", "--scale", "web=3")
        assert answers(box)
    finally:
        tracer.close()
    until(lambda: len(box.containers()) == 4)
    assert box.pids().items() >= pids.items()
    box.compose("up", "-d", "--scale", "web=2")


@pytest.mark.twin("J01", "J07")
def test_a_node_that_nobody_disturbs(box: Node) -> None:
    """The same commands on a quiet node; every container keeps its process."""
    until(lambda: len(box.containers()) == 3)
    pids = box.pids()
    box.compose("up", "-d", "--scale", "web=3")
    assert answers(box)
    box.compose("up", "-d", "--scale", "web=2")
    until(lambda: len(box.containers()) == 3)
    assert box.pids() == pids
