"""Many rounds of up, scale and down, with and without killing what runs them: nothing is left, nothing is lost.

`make soak` (PYCOMPOSE_SOAK=full) runs all rounds; otherwise a twentieth, at least one of each kind.
"""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from node import residue
from node.shapes import GUESTBOOK, STEADY
from node.whole import CLI, Node, running, until

FULL = os.environ.get("PYCOMPOSE_SOAK") == "full"
ROUNDS, KILLS, KILLS_EACH = (50, 30, 10) if FULL else (3, 2, 1)
SHAPE, STEADILY = ("-f", "shape.yaml"), ("-f", "steady.yaml")
OPERATIONS = (("up", "-d"), ("up", "-d", "--scale", "web=4"), ("down", "-v"))
#: Whose death the operation in progress does not even notice.
UNNOTICED = ("agent", "zygote", "resolver", "nft helper")
ASK_WEB = "timeout 5 wget -qO- http://$(getent ahostsv4 web | head -n 1 | cut -d ' ' -f 1)/"
FETCH = ("timeout", "5", "busybox", "wget", "-qO-", "http://127.0.0.1:18098/")


@pytest.fixture(scope="module")
def steady(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    """A node with a project that runs through all rounds."""
    with running(tmp_path_factory.mktemp("rounds") / "node", {"WORD": "secret word\n"}) as node:
        node.write(GUESTBOOK, "shape.yaml")
        node.write(STEADY, "steady.yaml")
        node.compose(*STEADILY, "up", "-d", "--wait")
        yield node


def settled(node: Node, before: residue.Counter[str], seconds: float = 30) -> None:
    """Wait until the node holds what it held before, no more and no less."""

    def difference() -> list[str]:
        now = residue.take(node)
        return [f"+ {item}" for item in residue.left(before, now)] + [
            f"- {item}" for item in residue.missing(before, now)
        ]

    until(lambda: not difference(), seconds, lambda: "\n".join(difference()) + "\n" + node.log())


def quiet(node: Node) -> residue.Counter[str]:
    """What the node holds once nothing changes any more: the worker finishes soon after `down` has returned."""
    before = residue.take(node)
    while True:
        time.sleep(1)
        now = residue.take(node)
        if now == before:
            return now
        before = now


def whole_logs(node: Node) -> dict[str, int]:
    """Lines that each steady container has printed; fails when one is missing or there twice."""
    found = {}
    for service in ("printer", "server"):
        text = node.compose(*STEADILY, "logs", "--no-log-prefix", "--no-color", service)
        numbers = [int(line.split()[1]) for line in text.splitlines()]
        assert numbers == list(range(len(numbers))), f"{service}: lines are missing or there twice"
        found[service] = len(numbers)
    return found


def test_soak_up_and_down_leave_nothing(steady: Node) -> None:
    node = steady
    node.compose(*SHAPE, "up", "-d", "--wait")
    node.compose(*SHAPE, "down", "-v")
    before, threads = quiet(node), residue.threads(node)
    pids = node.pids()
    for _ in range(ROUNDS):
        node.compose(*SHAPE, "up", "-d", "--wait")
        node.compose(*SHAPE, "down", "-v")
        settled(node, before)
    assert node.pids() == pids
    whole_logs(node)
    grown = {name: count for name, count in residue.threads(node).items() if count > threads[name] + 4}
    assert not grown, (grown, threads)


def kill_during(node: Node, target: str, words: tuple[str, ...], after: float) -> subprocess.CompletedProcess[str]:
    """Kill one of the node's processes some time after an operation began; returns the operation."""
    operation = node.begin(*CLI, *SHAPE, *words)
    try:
        time.sleep(after)
        with contextlib.suppress(KeyError):  # it may be dead and not yet replaced from the round before
            node.kill(target)
        if target == "supervisor":
            until(lambda: not node.daemons())
            node.compose("node", "start")
        out, error = operation.communicate(timeout=60)
    finally:
        operation.kill()
        operation.wait()
    return subprocess.CompletedProcess(words, operation.returncode, out, error)


def kill_rounds(node: Node, targets: list[str], seed: int) -> None:
    chance = random.Random(seed)
    node.compose(*SHAPE, "up", "-d", "--wait")
    node.compose(*SHAPE, "down", "-v")
    before, pids = quiet(node), node.pids()
    for number, target in enumerate(targets):
        words = OPERATIONS[number % 3]
        if words[0] == "down":
            node.compose(*SHAPE, "up", "-d", "--wait")
        done = kill_during(node, target, words, chance.uniform(0.1, 1.5))
        if target in UNNOTICED:
            assert done.returncode == 0, (target, words, done.stderr, node.log())
        until(lambda: len(node.daemons()) == 6, what=lambda: (node.daemons(), node.log()))
        node.compose(*SHAPE, "up", "-d", "--wait")
        counts = [item["Service"] for item in node.containers(*SHAPE).values()]
        assert sorted(counts) == sorted(["proxy", "web", "web", "api", "worker", "setup", "cache", "db"]), target
        node.compose(*SHAPE, "exec", "-T", "proxy", "sh", "-c", ASK_WEB)
        assert {each: pid for each, pid in node.pids().items() if each in pids} == pids, target
        until(lambda: node.run(*FETCH).stdout == "steady\n")
        node.compose(*SHAPE, "down", "-v")
        settled(node, before)
    whole_logs(node)


@pytest.mark.timeout(3600)
def test_soak_killing_the_whole_daemon(steady: Node) -> None:
    """Kill the supervisor, and with it all daemons, at a random moment of up, scale and down."""
    kill_rounds(steady, ["supervisor"] * KILLS, seed=7)


@pytest.mark.timeout(3600)
@pytest.mark.parametrize("target", ["manager", "agent", "zygote", "resolver", "nft helper"])
def test_soak_killing_one_process(steady: Node, target: str) -> None:
    """Kill one process of the node: it comes back by itself."""
    kill_rounds(steady, [target] * KILLS_EACH, seed=11)


@pytest.mark.timeout(3600)
def test_soak_killing_shims(steady: Node) -> None:
    """A lost shim ends its container, whose restart policy brings it back; nothing of it stays."""
    node = steady
    for _ in range(KILLS_EACH):
        shims, pids = node.shims(), node.pids()
        victim = next(iter(shims))
        others = {each: pid for each, pid in pids.items() if each != victim}
        os.kill(shims[victim], signal.SIGKILL)

        def back(victim: str = victim, before: int = pids[victim]) -> bool:
            return node.pids().get(victim, before) != before and not Path(f"/proc/{before}").exists()

        until(back, what=node.log)
        assert {each: pid for each, pid in node.pids().items() if each != victim} == others
