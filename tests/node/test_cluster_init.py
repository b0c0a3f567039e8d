"""A single node becomes a cluster, whatever is killed on the way: its containers run on, and nothing is half done."""

from __future__ import annotations

import os
import random
import time
from pathlib import Path

from node.whole import CLI, Node, running, until

FILE = """
name: kept
services:
  web: {image: test/busybox, command: sleep 1000, network_mode: none, stop_signal: SIGKILL}
"""
ROUNDS = 2
INIT = (*CLI, "cluster", "init", "--advertise-addr", "127.0.0.1", "--name", "kept")


def etcd(node: Node) -> int:
    """The process id of the node's etcd."""
    until(lambda: "member" in node.daemons(), what=node.log)
    return node.daemons()["member"]


def test_init_moves_the_state_to_etcd_and_loses_nothing(tmp_path: Path) -> None:
    with running(tmp_path / "node") as node:
        node.write(FILE)
        node.compose("up", "-d")
        before = node.pids()
        chance = random.Random(7)
        for _ in range(ROUNDS):  # a manager that is killed leaves a single node or a cluster, and nothing in between
            making = node.begin(*INIT)
            time.sleep(chance.uniform(0.3, 2.0))
            node.kill("manager")
            making.communicate(timeout=100)
            until(lambda: node.cli("ps", "-q").returncode == 0, what=node.log)
            assert node.pids() == before
        done = node.cli(*INIT[3:])
        assert done.returncode == 0 or "manager of cluster kept already" in done.stderr, done.stderr
        assert "of 1 ready" in node.compose("cluster", "status")
        assert "kept-web-1" in node.compose("ps", "--format", "{{.Name}}")
        assert not list((node.folder / "state" / "manager").glob("store.db*"))
        without_etcd(node)
        assert node.pids() == before
        node.compose("node", "restart")
        assert node.pids() == before
        assert "kept-web-1" in node.compose("ps", "--format", "{{.Name}}")


def without_etcd(node: Node) -> None:
    """While etcd hangs commands say so, and when it is back they work."""
    pid = etcd(node)
    os.kill(pid, 19)
    try:
        done = node.cli("ps")
        assert done.returncode == 1
        assert "this manager's etcd does not answer; nothing that runs is stopped" in done.stderr
    finally:
        os.kill(pid, 18)
    until(lambda: node.cli("ps").returncode == 0, what=node.log)
    os.kill(etcd(node), 9)
    until(lambda: node.cli("ps").returncode == 0, what=node.log)


def test_without_etcd_init_is_refused_and_a_file_still_does(tmp_path: Path) -> None:
    path = tmp_path / "bin"
    path.mkdir()
    (path / "etcd").write_text("#!/bin/sh\necho 'etcd Version: 3.5.1'\n")
    (path / "etcd").chmod(0o755)
    with running(tmp_path / "node", {"PATH": f"{path}:{os.environ['PATH']}"}) as node:
        done = node.cli(*INIT[3:])
        assert done.returncode == 1
        assert "etcd 3.5.1 can lose data when it is killed; use 3.5.3 or later, or 3.4" in done.stderr
        assert "--store sqlite" in done.stderr
        assert "this node is of no cluster" in node.cli("cluster", "status").stderr
        node.compose(*INIT[3:], "--store", "sqlite")
        assert "of 1 ready" in node.compose("cluster", "status")
        assert (node.folder / "state" / "manager" / "store.db").exists()
