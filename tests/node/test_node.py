"""A whole node: `pycompose up` through manager and worker to the kernel, and nothing left after `down`.

The node has state, sockets, cgroups and a machine of its own (network and mount namespaces).
"""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

FULL = os.environ.get("PYCOMPOSE_SOAK") == "full"
ROUNDS, KILLS = (50, 30) if FULL else (3, 2)
FILE = """
services:
  web:
    image: test/busybox
    command: sh -c 'hostname > /tmp/index.html; trap "exit 0" TERM; httpd -p 80 -h /tmp; while :; do sleep 0.1; done'
    deploy: {replicas: 2}
    ports: ["18099:80"]
    networks: [front, back]
    secrets: [word]
    healthcheck: {test: "wget -qO- http://127.0.0.1/", interval: 200ms}
  client:
    image: test/busybox
    command: sh -c 'cat /run/secrets/word; wget -qO- http://web/; echo kept >> /data/file; sleep 1000'
    depends_on: {web: {condition: service_healthy}}
    networks: [back]
    secrets: [word]
    volumes: ["data:/data"]
networks: {front: {}, back: {internal: true}}
volumes: {data: {}}
secrets: {word: {environment: WORD}}
"""


@dataclass
class Node:
    """A node in namespaces of its own; `machine` is a process that keeps them."""

    folder: Path
    machine: subprocess.Popen[bytes]

    def run(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run a program on the node's machine."""
        own = ["nsenter", f"--net=/proc/{self.machine.pid}/ns/net", f"--mount=/proc/{self.machine.pid}/ns/mnt"]
        variables = {
            "PYCOMPOSE_STATE_DIR": str(self.folder / "state"),
            "PYCOMPOSE_RUN_DIR": str(self.folder / "run"),
            "PYCOMPOSE_CGROUP_PARENT": f"/pycompose-test-{self.machine.pid}",
            "PYCOMPOSE_INSTANCE": "t",
            "WORD": "secret word\n",
        }
        command = [*own, "--wd=" + str(self.folder), *words]
        return subprocess.run(command, env=os.environ | variables, capture_output=True, text=True, timeout=100)

    def compose(self, *words: str) -> str:
        """Run pycompose; it must succeed."""
        done = self.run(sys.executable, "-m", "pycompose.compose.cli.main", *words)
        assert done.returncode == 0, done.stderr + self.log()
        return done.stdout

    def log(self) -> str:
        """The end of the node's log."""
        path = self.folder / "state" / "log" / "node.log"
        return "".join(path.read_text().splitlines(keepends=True)[-15:]) if path.exists() else ""

    def containers(self) -> dict[str, dict[str, str]]:
        """The project's containers by name."""
        lines = self.compose("ps", "-a", "--format", "json").splitlines()
        return {item["Name"]: item for item in map(json.loads, lines)}

    def leftovers(self) -> list[str]:
        """What a project may leave behind: links, mounts, cgroups, namespaces, rules, files."""
        found = [line for line in self.run("ip", "-o", "link").stdout.splitlines() if "pyc" in line]
        mounts = Path(f"/proc/{self.machine.pid}/mounts").read_text().splitlines()
        found += [line for line in mounts if "overlay" in line and str(self.folder) in line]
        found += [str(path) for path in Path("/sys/fs/cgroup").glob(f"*/pycompose-test-{self.machine.pid}/*/")]
        found += self.run("nft", "list", "ruleset").stdout.splitlines()
        for place in ("run/netns", "run/network", "run/secrets", "state/agent/tasks", "state/images/snapshots"):
            found += [str(path) for path in (self.folder / place).glob("*")]
        found += [str(path) for path in (self.folder / "state" / "containers").glob("[0-9a-f]*")]
        return found + [str(path) for path in (self.folder / "state" / "volumes").glob("*")]


def until(condition: Callable[[], object], seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def busybox(folder: Path) -> Path:
    """The tar of a root file system with BusyBox alone."""
    (folder / "root" / "bin").mkdir(parents=True)
    (folder / "root" / "tmp").mkdir()
    shutil.copy("/bin/busybox", folder / "root" / "bin" / "busybox")
    for applet in subprocess.run(["/bin/busybox", "--list"], capture_output=True, text=True).stdout.split():
        if applet != "busybox":
            (folder / "root" / "bin" / applet).symlink_to("busybox")
    subprocess.run(["tar", "-C", str(folder / "root"), "-cf", str(folder / "root.tar"), "."], check=True)
    return folder / "root.tar"


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Node]:
    """A started node with an image, removed with everything of its own afterwards."""
    machine = subprocess.Popen(["unshare", "--net", "--mount", "sh", "-c", "ip link set lo up; exec sleep 3600"])
    until(lambda: Path(f"/proc/{machine.pid}/comm").read_text().strip() == "sleep")
    found = Node(tmp_path, machine)
    try:
        archive = busybox(tmp_path)
        (tmp_path / "compose.yaml").write_text(FILE)
        found.compose("node", "start")
        found.compose("image", "import", str(archive), "test/busybox")
        yield found
    finally:
        found.run(sys.executable, "-m", "pycompose.compose.cli.main", "down", "-v", "-t", "1")
        found.run(sys.executable, "-m", "pycompose.compose.cli.main", "node", "stop")
        machine.kill()
        machine.wait()
        for path in Path("/sys/fs/cgroup").glob(f"*/pycompose-test-{machine.pid}"):
            path.rmdir()


def test_up_use_down(node: Node) -> None:
    node.compose("up", "-d", "--wait")
    before = node.containers()
    assert set(before) == {"node-web-1", "node-web-2", "node-client-1"} or len(before) == 3
    fetch = "import urllib.request; print(urllib.request.urlopen('http://127.0.0.1:18099/').read().decode().strip())"
    both = {node.run(sys.executable, "-c", fetch).stdout.strip() for _ in range(4)}
    assert len(both) == 2
    until(lambda: "secret word" in node.compose("logs", "client"))
    assert node.compose("exec", "-T", "client", "cat", "/data/file") == "kept\n"

    node.compose("stop", "client")
    node.compose("start", "client")
    until(lambda: node.compose("exec", "-T", "client", "cat", "/data/file") == "kept\nkept\n")
    assert {name: item["ID"] for name, item in node.containers().items()} == {
        name: item["ID"] for name, item in before.items()
    }
    node.compose("up", "-d", "--scale", "web=3")
    assert len(node.containers()) == 4
    node.compose("down", "-v")
    until(lambda: not node.leftovers())


def test_a_killed_daemon_finds_its_containers_again(node: Node) -> None:
    node.compose("up", "-d", "--wait")
    pids = node.run("pgrep", "-f", "httpd -p 80 -h /tmp").stdout
    supervisor = json.loads((node.folder / "run" / "node.json").read_text())["pid"]
    os.kill(supervisor, 9)
    time.sleep(0.5)
    node.compose("node", "start")
    until(lambda: len(node.containers()) == 3)
    assert node.run("pgrep", "-f", "httpd -p 80 -h /tmp").stdout == pids
    assert node.compose("exec", "-T", "client", "cat", "/data/file") == "kept\n"
    node.compose("down", "-v")
    until(lambda: not node.leftovers())


@pytest.mark.timeout(3600)
def test_soak_rounds_of_up_and_down_leave_nothing(node: Node) -> None:
    for _ in range(ROUNDS):
        node.compose("up", "-d", "--wait")
        node.compose("down", "-v")
        until(lambda: not node.leftovers())


@pytest.mark.timeout(3600)
def test_soak_rounds_of_killing_the_daemon(node: Node) -> None:
    """Kill the daemon at a random moment of up, scale or down: the next start converges, nothing is left."""
    chance = random.Random(7)
    for number in range(KILLS):
        words = [["up", "-d"], ["up", "-d", "--scale", "web=4"], ["down", "-v"]][number % 3]
        if words[0] == "down":
            node.compose("up", "-d", "--wait")
        record = node.folder / "run" / "node.json"
        supervisor = json.loads(record.read_text())["pid"]
        killer = threading.Timer(chance.uniform(0.05, 0.9), os.kill, (supervisor, 9))
        killer.start()
        node.run(sys.executable, "-m", "pycompose.compose.cli.main", *words)
        killer.join()
        time.sleep(0.3)
        node.compose("node", "start")
        node.compose("up", "-d", "--wait")
        assert len(node.containers()) == 3
        pids = node.run("pgrep", "-f", "httpd -p 80 -h /tmp").stdout.split()
        assert len(pids) == 4  # a shell and its server in each of two
        node.compose("down", "-v")
        until(lambda: not node.leftovers())
