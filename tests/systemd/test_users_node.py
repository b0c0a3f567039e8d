"""An ordinary user's node where the user's systemd delegates a cgroup: limits, pause, stats, and a unit of the user's.

Source: cgroup-v2.rst, "Delegation"; user@.service(5).
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from node import whole

from pycompose.worker.runtime import cgroups

if cgroups.mounted()[0]:
    pytest.skip("version 1 delegates nothing to users", allow_module_level=True)
NAME, UID = "rover", 4321
HOME = Path("/home", NAME)
TREE = Path(f"/sys/fs/cgroup/user.slice/user-{UID}.slice/user@{UID}.service")
CONTAINERS = "pycompose-containers.service"
ALL = TREE / "app.slice" / CONTAINERS / "all"
FILE = """
name: users
services:
  web:
    image: test/busybox
    command: sleep 100000
    mem_limit: 64m
    cpus: 0.5
    pids_limit: 50
    stop_grace_period: 0s
    healthcheck: {test: "true", interval: 1s}
    volumes: ["data:/data"]
volumes: {data: {}}
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


def by_user(*words: str) -> subprocess.CompletedProcess[str]:
    """Run a program as the user, with what a login gives."""
    account = ["setpriv", f"--reuid={UID}", f"--regid={UID}", "--init-groups"]
    given = {"PATH": os.environ["PATH"], "HOME": str(HOME), "XDG_RUNTIME_DIR": f"/run/user/{UID}", "USER": NAME}
    return subprocess.run([*account, *words], env=given, cwd=HOME, capture_output=True, text=True, timeout=600)


def shell(*words: str) -> str:
    """The same; it must succeed."""
    done = by_user(*words)
    assert done.returncode == 0, f"{words}: {done.stderr}\n{log()}"
    return done.stdout


def pycompose(*words: str) -> str:
    """Run pycompose as the user; it must succeed."""
    return shell(*whole.CLI, *words)


def log() -> str:
    """The end of the node's log."""
    path = HOME / ".local/share/pycompose/log/node.log"
    return "\n".join(path.read_text().splitlines()[-30:]) if path.exists() else ""


def until(condition: Callable[[], object]) -> None:
    """Wait for a condition."""
    whole.until(condition, 180, log)


def linger(on: bool) -> None:
    """The user's systemd, without a login."""
    subprocess.run(["loginctl", "enable-linger" if on else "disable-linger", NAME], check=True)
    if not on:
        subprocess.run(["systemctl", "stop", f"user@{UID}.service"], check=True)
    until(lambda: Path(f"/run/user/{UID}/systemd/private").exists() == on)


def pids() -> dict[str, int]:
    """First processes of the user's running containers."""
    return whole.pids_in(Path(f"/run/user/{UID}/pycompose"))


def text_of(name: str) -> str:
    """A control file of the one container's cgroup."""
    (ident,) = pids()
    return (ALL / ident / name).read_text().strip()


def main_pid() -> int:
    """The node's supervisor."""
    return int(json.loads(Path(f"/run/user/{UID}/pycompose/node.json").read_text())["pid"])


@pytest.fixture(scope="module", autouse=True)
def user(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A user whose systemd runs, with an image."""
    subprocess.run(["useradd", "--create-home", "--uid", str(UID), "--shell", "/bin/sh", NAME], check=True)
    linger(True)
    (HOME / "compose.yaml").write_text(FILE)
    archive = whole.busybox(tmp_path_factory.mktemp("image"))
    (HOME / "busybox.tar").write_bytes(archive.read_bytes())
    pycompose("image", "import", str(HOME / "busybox.tar"), "test/busybox")
    yield
    by_user(*whole.CLI, "down", "-v")
    by_user(*whole.CLI, "node", "stop")
    linger(False)
    subprocess.run(["userdel", "--remove", NAME], check=True)


@pytest.fixture
def up(user: None) -> Iterator[None]:
    """The project runs."""
    pycompose("up", "-d", "--wait")
    yield
    pycompose("down", "-v")


def test_limits_hold(up: None) -> None:
    said = pycompose("node", "status")
    assert "limits of cpu, memory, pids" in said
    assert "no cgroup" not in said
    assert text_of("memory.max") == str(64 << 20)
    assert text_of("cpu.max") == "50000 100000"
    assert text_of("pids.max") == "50"
    (pid,) = pids().values()
    assert str(pid) in text_of("cgroup.procs").split()
    assert os.stat(f"/proc/{pid}").st_uid == UID
    (HOME / "greedy.yaml").write_text(GREEDY)
    pycompose("-f", "greedy.yaml", "up", "-d")

    def ended() -> bool:
        return '"exited"' in pycompose("-f", "greedy.yaml", "ps", "-a", "--format", "json")

    until(ended)
    assert "OOM killed" in pycompose("-f", "greedy.yaml", "ps", "-a", "--format", "json")
    pycompose("-f", "greedy.yaml", "down")


def test_pause_stats_and_a_killed_node(up: None) -> None:
    before = pids()
    pycompose("pause")
    assert "frozen 1" in text_of("cgroup.events")
    os.kill(main_pid(), 9)
    until(lambda: by_user(*whole.CLI, "node", "status").returncode == 3)
    pycompose("node", "start")
    until(lambda: by_user(*whole.CLI, "unpause").returncode == 0)
    assert "frozen 0" in text_of("cgroup.events")
    assert pids() == before
    (row,) = json.loads(pycompose("stats", "--no-stream", "--format", "json"))
    assert "64MiB" in row["MemUsage"]
    assert pycompose("exec", "-T", "web", "sh", "-c", "cat /proc/self/cgroup").strip() == "0::/"


def test_what_is_not_delegated_is_refused(user: None) -> None:
    (HOME / "pinned.yaml").write_text(
        "name: pinned\nservices: {a: {image: test/busybox, command: sleep 9, cpuset: '0'}}\n"
    )
    done = by_user(*whole.CLI, "-f", "pinned.yaml", "up", "-d", "--wait")
    assert done.returncode == 1
    assert "no cpuset" in done.stderr + done.stdout
    assert "systemctl edit user@.service" in done.stderr + done.stdout
    pycompose("-f", "pinned.yaml", "down")


def test_nothing_is_left(user: None) -> None:
    pycompose("up", "-d", "--wait")
    assert ALL.is_dir()
    pycompose("down", "-v")
    pycompose("node", "stop")
    until(lambda: not ALL.parent.exists())
    owned = ["pgrep", "-u", NAME, "-f", "pycompose|sleep|pasta"]
    until(lambda: not subprocess.run(owned, capture_output=True, text=True).stdout)


def test_a_unit_of_the_user(user: None) -> None:
    assert "with your systemd, which starts with the machine" in pycompose("node", "install")
    pycompose("up", "-d", "--wait")
    before, main = pids(), main_pid()
    assert (TREE / "app.slice/pycompose.service").is_dir()
    shell("systemctl", "--user", "restart", "pycompose")
    assert main_pid() != main
    assert pids() == before
    until(lambda: '"healthy"' in pycompose("ps", "--format", "json"))
    assert text_of("memory.max") == str(64 << 20)
    pycompose("pause")
    pycompose("unpause")
    assert "the node runs" in pycompose("node", "status")
    # the user's systemd starts anew, as at a boot
    subprocess.run(["systemctl", "restart", f"user@{UID}.service"], check=True)
    until(lambda: by_user(*whole.CLI, "node", "status").returncode == 0)
    pycompose("up", "-d", "--wait")
    assert text_of("memory.max") == str(64 << 20)
    pycompose("down", "-v")
    pycompose("node", "uninstall")
    assert not (HOME / ".config/systemd/user/pycompose.service").exists()


def test_without_the_users_systemd(user: None) -> None:
    by_user(*whole.CLI, "node", "stop")
    linger(False)
    try:
        done = by_user(*whole.CLI, "up", "-d", "--wait")
        assert done.returncode == 1
        assert "no cgroup is delegated to it" in done.stderr + done.stdout
        assert "loginctl enable-linger" in pycompose("node", "status")
        assert "no systemd of yours runs here" in by_user(*whole.CLI, "node", "install").stderr
        pycompose("down")
        pycompose("node", "stop")
    finally:
        linger(True)


def test_overlay_is_loaded_for_a_user_or_root_is_asked(user: None) -> None:
    by_user(*whole.CLI, "node", "stop")
    by_user(*whole.CLI, "node", "uninstall")
    if subprocess.run(["modprobe", "-r", "overlay"], capture_output=True).returncode:
        pytest.skip("overlay is in use or not a module")
    helper = Path("/proc/sys/kernel/modprobe")
    before = helper.read_text()
    helper.write_text("/bin/false")
    try:
        done = by_user(*whole.CLI, "node", "start")
        assert done.returncode == 1
        assert "only root can load it: modprobe overlay" in done.stderr
        helper.write_text(before)
        pycompose("node", "start")
        assert "\toverlay\n" in Path("/proc/filesystems").read_text()
    finally:
        helper.write_text(before)
        by_user(*whole.CLI, "node", "stop")
