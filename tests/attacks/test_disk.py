"""Errors of the disk: a state directory that is full, calls that fail; what is told, torn and healed (J02)."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from attacks.test_faults import Tracer
from node.whole import IMAGE, Node, busybox, machine, until

from pycompose.worker.runtime import state

STEADY = """
name: steady
services:
  s: {image: test/busybox, stop_signal: SIGKILL, command: sh -c 'while :; do sleep 0.2; done'}
"""
OTHER = STEADY.replace("steady", "other")


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    """A node whose state lies on a file system of 64 MB, with a container."""
    folder = tmp_path_factory.mktemp("small") / "node"
    with machine(folder) as node:
        archive = busybox(folder)
        (folder / "state").mkdir()
        node.run("mount", "-t", "tmpfs", "-o", "size=64m,mode=0711", "tmpfs", str(folder / "state"))
        node.compose("node", "start")
        node.compose("image", "import", str(archive), IMAGE)
        node.write(STEADY, "steady.yaml")
        node.write(OTHER, "other.yaml")
        node.compose("-f", "steady.yaml", "up", "-d")
        yield node


def inside(node: Node, script: str) -> str:
    """Run a script where the node's mounts are."""
    done = node.run("sh", "-c", script)
    assert done.returncode == 0, done.stderr
    return done.stdout


def torn(node: Node) -> list[str]:
    """State files that are empty or half written."""
    wrong = []
    for name in inside(node, "find state run -name '*.json' | grep -v -e /layers/ -e /log.json").split():
        read = node.run("cat", name)
        try:
            json.loads(read.stdout)
        except ValueError:
            if read.returncode == 0:  # it may be gone by now
                wrong.append(name)
    return wrong


@pytest.mark.attack("J02")
def test_a_full_disk(small: Node) -> None:
    """The state's file system is full: a container that runs goes on, what cannot be done is told, and then works."""
    node = small
    pids = node.pids()
    # never more than the small file system holds: were it not mounted, the machine's own disk would fill up
    inside(
        node,
        "test $(stat -f -c %T state) = tmpfs; dd if=/dev/zero of=state/ballast bs=64k count=1024 2>/dev/null || true",
    )
    done = node.cli("-f", "other.yaml", "up", "-d")
    listed = node.cli("-f", "steady.yaml", "ps")
    assert listed.returncode == 0
    assert "Traceback" not in done.stderr + listed.stderr
    if done.returncode:
        assert "space" in done.stderr or "full" in done.stderr, done.stderr
    assert node.pids().items() >= pids.items()
    assert torn(node) == []
    inside(node, "rm state/ballast")
    until(lambda: node.cli("-f", "other.yaml", "up", "-d").returncode == 0, what=node.log)
    until(lambda: [item["State"] for item in node.containers("-f", "other.yaml").values()] == ["running"])
    assert node.pids().items() >= pids.items()
    node.compose("-f", "other.yaml", "down")
    assert torn(node) == []


@pytest.mark.attack("J02")
def test_directories_that_cannot_be_made(small: Node, tmp_path: Path) -> None:
    """mkdir fails in the agent while a service is made: it is told, and the next try works."""
    node, pids = small, small.pids()
    inject = "inject=mkdir:error=ENOSPC:when=1..5"
    tracer = Tracer([node.daemons()["agent"]], tmp_path / "trace", "-e", "trace=mkdir", "-e", inject)
    try:
        done = node.cli("-f", "other.yaml", "up", "-d", timeout=60)
    finally:
        tracer.close()
    assert "Traceback" not in done.stderr
    if done.returncode:
        assert "space" in done.stderr, done.stderr
    until(lambda: node.cli("-f", "other.yaml", "up", "-d").returncode == 0, what=node.log)
    until(lambda: [item["State"] for item in node.containers("-f", "other.yaml").values()] == ["running"])
    assert node.pids().items() >= pids.items()
    node.compose("-f", "other.yaml", "down")
    assert torn(node) == []


@pytest.mark.attack("J02")
def test_a_state_is_never_written_by_half(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A write that takes a part only, and then none: the old state stays, whole."""
    state.write_atomically(f"{tmp_path}/state.json", "the old one")
    real = os.write

    def part(fd: int, data: bytes) -> int:
        if len(data) < 4:
            raise OSError(28, "No space left on device")
        return real(fd, data[: len(data) // 2])

    monkeypatch.setattr(os, "write", part)
    with pytest.raises(OSError, match="No space"):
        state.write_atomically(f"{tmp_path}/state.json", "a new one that is longer")
    assert (tmp_path / "state.json").read_text() == "the old one"
    assert [path.name for path in tmp_path.iterdir()] == ["state.json"]


@pytest.mark.twin("J02")
def test_a_state_is_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A write that takes a part at a time ends with the whole."""
    real = os.write
    monkeypatch.setattr(os, "write", lambda fd, data: real(fd, data[:3]))
    for text in ("first", "second and longer"):
        state.write_atomically(f"{tmp_path}/state.json", text)
        assert (tmp_path / "state.json").read_text() == text
    with contextlib.suppress(FileNotFoundError):
        os.unlink(f"{tmp_path}/state.json")
