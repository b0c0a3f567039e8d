"""Errors of the disk: a state directory that is full, calls that fail; what is told, torn and healed (J02)."""

from __future__ import annotations

import contextlib
import json
import os
import re
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import pytest
from attacks.conftest import FULL
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


@contextlib.contextmanager
def full(node: Node, folder: Path) -> Iterator[None]:
    # never more than the small file system holds: were it not mounted, the machine's own disk would fill up
    inside(
        node,
        "test $(stat -f -c %T state) = tmpfs; dd if=/dev/zero of=state/ballast bs=64k count=1024 2>/dev/null || true",
    )
    yield
    inside(node, "rm state/ballast")


@contextlib.contextmanager
def no_more_files(node: Node, folder: Path) -> Iterator[None]:
    inside(node, "mount -o remount,nr_inodes=$(($(stat -f -c %c state) - $(stat -f -c %d state))) state")
    yield
    inside(node, "mount -o remount,nr_inodes=0 state")


@contextlib.contextmanager
def read_only(node: Node, folder: Path) -> Iterator[None]:
    """For what is opened from now on."""
    inside(node, "mount --rbind state state && mount -o remount,bind,ro state")
    yield
    inside(node, "umount -l state")


def calls(role: str, names: str, error: str, most: int) -> Callable[[Node, Path], AbstractContextManager[None]]:
    @contextlib.contextmanager
    def failing(node: Node, folder: Path) -> Iterator[None]:
        words = ("-e", f"trace={names}", "-e", f"inject={names}:error={error}:when=1..{most}")
        tracer = Tracer([node.daemons()[role]], folder / "trace", *words)
        yield
        tracer.close()

    return failing


#: Name -> (how to bring it about, one of these words is in the message of what fails).
TROUBLES: dict[str, tuple[Callable[[Node, Path], AbstractContextManager[None]], str]] = {
    "the disk is full": (full, "space|full"),
    "no file can be made": (no_more_files, "space|full"),
    "it is read-only": (read_only, "read-only|readonly"),
    "mkdir fails in the agent": (calls("agent", "mkdir", "ENOSPC", 5), "space"),
    "files cannot be opened in the agent": (calls("agent", "openat", "EMFILE", 5), "too many open files"),
    "syncs of the store fail": (calls("manager", "fdatasync,fsync", "EIO", 2), "i/o error|input/output"),
    "writes of the store fail": (calls("manager", "pwrite64", "ENOSPC", 2), "full|space"),
}
FEW = ("the disk is full", "it is read-only", "syncs of the store fail")


@pytest.mark.attack("J02")
@pytest.mark.parametrize("trouble", TROUBLES if FULL else FEW)
def test_a_disk_in_trouble(small: Node, tmp_path: Path, trouble: str) -> None:
    """Full, without inodes, read-only, or failing calls: containers run on, it is told, nothing is torn, it heals."""
    node, pids = small, small.pids()
    bring, words = TROUBLES[trouble]
    with bring(node, tmp_path):
        done = node.cli("-f", "other.yaml", "up", "-d", timeout=60)
        listed = node.cli("-f", "steady.yaml", "ps")
        assert listed.returncode == 0, listed.stderr
    assert "Traceback" not in done.stderr + listed.stderr
    if done.returncode:
        assert re.search(words, done.stderr, re.IGNORECASE), done.stderr
    assert node.pids().items() >= pids.items()
    assert torn(node) == []
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
