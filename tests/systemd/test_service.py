"""The node as `pycompose node install` makes it: restarted, killed and reloaded by systemd, its containers going on."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from node import whole

from pycompose.worker.runtime import cgroups

FOLDER = Path("/root/service")
UNIT, CONTAINERS = "pycompose.service", "pycompose-containers.service"
V2 = not cgroups.mounted()[0]
MEMORY = Path("/sys/fs/cgroup" + ("" if V2 else "/memory"))
SUBTREE = MEMORY / "system.slice" / CONTAINERS / "all"
FILE = """
name: service
services:
  web:
    image: test/busybox
    command: sh -c 'n=0; while :; do n=$$((n+1)); echo line $$n; sleep 0.5; done'
    deploy: {replicas: 2}
    mem_limit: 64m
    pids_limit: 50
    stop_grace_period: 0s
    healthcheck: {test: "true", interval: 1s}
"""


GREEDY = """
name: greedy
services:
  greedy:
    image: test/busybox
    mem_limit: 16m
    memswap_limit: 16m
    command: sh -c 'x=x; while :; do x=$$x$$x; done'
"""
POLITE = """
name: polite
services:
  polite:
    image: test/busybox
    restart: always
    command: sh -c 'trap "echo ended >> /data/said; exit 0" TERM; while :; do sleep 0.1; done'
    healthcheck: {test: "true", interval: 1s}
    volumes: ["kept:/data"]
volumes: {kept: {}}
"""


def shell(*words: str) -> str:
    """Run a program; it must succeed."""
    done = subprocess.run(words, capture_output=True, text=True, cwd=FOLDER, timeout=300)
    assert done.returncode == 0, f"{words}: {done.stderr}{journal()}"
    return done.stdout


def pycompose(*words: str) -> str:
    """Run pycompose; it must succeed."""
    return shell(*whole.CLI, *words)


def journal() -> str:
    """The end of the node's journal."""
    words = ["journalctl", "-u", UNIT, "-n", "30", "--no-pager", "-o", "cat"]
    return subprocess.run(words, capture_output=True, text=True).stdout


def shown(unit: str, name: str) -> str:
    """A property of a unit."""
    return shell("systemctl", "show", "--value", "-p", name, unit).strip()


def pids() -> dict[str, int]:
    """First processes of the running containers, by container id."""
    found = {}
    for path in Path("/run/pycompose/containers").glob("[0-9a-f]*/state.json"):
        state = json.loads(path.read_text())
        if state["status"] == "running":
            found[state["id"]] = state["pid"]
    return found


def until(condition: Callable[[], object], seconds: float = 120) -> None:
    """Wait for a condition."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, journal()
        time.sleep(0.2)


def healthy() -> bool:
    """Whether the node says that both containers are healthy."""
    done = subprocess.run([*whole.CLI, "ps", "--format", "ndjson"], capture_output=True, text=True, cwd=FOLDER)
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    return [row.get("Health") for row in rows] == ["healthy", "healthy"]


@pytest.fixture(scope="module")
def containers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, int]]:
    """Containers of a node that systemd runs."""
    FOLDER.mkdir(exist_ok=True)
    (FOLDER / "compose.yaml").write_text(FILE)
    above = {place: (place / "cgroup.subtree_control").read_text() for place in above_delegation()} if V2 else {}
    pycompose("node", "install")
    pycompose("image", "import", str(whole.busybox(tmp_path_factory.mktemp("image"))), "test/busybox")
    pycompose("up", "-d", "--wait")
    for place, before in above.items():
        added = set((place / "cgroup.subtree_control").read_text().split()) - set(before.split())
        # a delegated unit has all that systemd manages; what it does not manage the node has left off too
        assert not added - {"cpu", "cpuset", "io", "memory", "pids"}, place
    yield pids()
    pycompose("down", "-v")
    pycompose("node", "uninstall")


def above_delegation() -> list[Path]:
    """The cgroups that are systemd's alone."""
    return [MEMORY, MEMORY / "system.slice"]


def test_containers_lie_in_the_delegated_part_of_the_tree(containers: dict[str, int]) -> None:
    assert shown(UNIT, "ActiveState") == "active"
    assert shown(CONTAINERS, "ControlGroup") == f"/system.slice/{CONTAINERS}"
    assert not (MEMORY / "pycompose").exists()
    assert len(containers) == 2
    for ident, pid in containers.items():
        lines = Path(f"/proc/{pid}/cgroup").read_text()
        assert f"/system.slice/{CONTAINERS}/all/{ident}\n" in lines
    limit = "memory.max" if V2 else "memory.limit_in_bytes"
    assert {(SUBTREE / ident / limit).read_text() for ident in containers} == {f"{64 << 20}\n"}
    assert "(running)" in shell("systemctl", "status", "--no-pager", UNIT)


def test_a_restart_keeps_the_containers(containers: dict[str, int]) -> None:
    main = shown(UNIT, "MainPID")
    shell("systemctl", "restart", UNIT)
    assert shown(UNIT, "MainPID") != main
    until(healthy)
    assert pids() == containers
    assert pycompose("exec", "-T", "web", "echo", "there") == "there\n"
    before = pycompose("logs", "--no-log-prefix", "web").count("\n")
    until(lambda: pycompose("logs", "--no-log-prefix", "web").count("\n") > before)


def test_a_killed_node_is_started_again(containers: dict[str, int]) -> None:
    main = int(shown(UNIT, "MainPID"))
    os.kill(main, signal.SIGKILL)
    until(lambda: shown(UNIT, "MainPID") not in ("0", str(main)) and shown(UNIT, "ActiveState") == "active")
    until(healthy)
    assert pids() == containers


def test_systemd_reloaded_leaves_limits_and_devices(containers: dict[str, int]) -> None:
    shell("systemctl", "daemon-reload")
    shell("systemctl", "daemon-reexec")
    limit = "memory.max" if V2 else "memory.limit_in_bytes"
    assert {(SUBTREE / ident / limit).read_text() for ident in containers} == {f"{64 << 20}\n"}
    ident = next(iter(containers))
    number = os.stat("/dev/vda").st_rdev
    major, minor = os.major(number), os.minor(number)
    script = f"mknod /tmp/d b {major} {minor}; cat /tmp/d >/dev/null 2>&1 && echo read || echo refused; rm /tmp/d"
    name = pycompose("ps", "-q").split()
    assert any(each.startswith(ident) or ident.startswith(each) for each in name)
    assert pycompose("exec", "-T", "web", "sh", "-c", script) == "refused\n"
    assert pids() == containers


def test_pause_and_kill(containers: dict[str, int]) -> None:
    pycompose("pause")
    if V2:
        assert {(SUBTREE / ident / "cgroup.freeze").read_text() for ident in containers} == {"1\n"}
        assert all("frozen 1" in (SUBTREE / ident / "cgroup.events").read_text() for ident in containers)
    pycompose("unpause")
    pycompose("exec", "-T", "-d", "web", "sleep", "100000")
    pycompose("kill")
    until(lambda: not pids())
    until(lambda: not [line for path in SUBTREE.glob("*/cgroup.procs") for line in path.read_text().split()])
    pycompose("start")
    until(healthy)


def test_a_container_out_of_memory_is_told(containers: dict[str, int]) -> None:
    file = FOLDER / "greedy.yaml"
    file.write_text(GREEDY)
    pycompose("-f", str(file), "up", "-d")

    def state() -> dict[str, object]:
        row = json.loads(pycompose("-f", str(file), "ps", "-a", "--format", "json"))
        return row[0] if isinstance(row, list) else row

    until(lambda: state()["State"] == "exited")
    assert state()["ExitCode"] == 137
    assert "OOM killed" in pycompose("-f", str(file), "ps", "-a", "--format", "json")
    pycompose("-f", str(file), "down")


def test_the_machine_going_down_ends_the_containers_by_term(containers: dict[str, int]) -> None:
    """As at shutdown: the node ends first, then the containers are asked to end."""
    file = FOLDER / "polite.yaml"
    file.write_text(POLITE)
    pycompose("-f", str(file), "up", "-d", "--wait")
    said = next(Path("/var/lib/pycompose/volumes").glob("polite_kept/_data")) / "said"
    shell("systemctl", "stop", UNIT)
    shell("systemctl", "stop", CONTAINERS)
    assert said.read_text() == "ended\n"
    shell("systemctl", "start", UNIT)
    until(lambda: len(pids()) == 1)  # the others do not say restart
    pycompose("-f", str(file), "down", "-v")
