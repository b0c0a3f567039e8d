"""Attacks by services of a Compose file and by their images, on a whole node: all of one project."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from node import residue
from node.images import build, entry, folder, symlink, tar
from node.whole import Node, running, until

DEFAULT = "00000000a80425fb"
FILE = """
name: attacked
x-idle: &idle {image: test/busybox, command: sleep 100000, stop_signal: SIGKILL}
x-look: &look
  interval: 1h
  start_interval: 200ms
  start_period: 60s
  test: grep -E 'Cap|NoNewPrivs|Seccomp:' /proc/self/status > /dev/shm/seen; ls -l /proc/self/fd > /dev/shm/held
services:
  plain: {<<: *idle, healthcheck: *look}
  all: {<<: *idle, cap_add: [ALL], healthcheck: *look}
  none: {<<: *idle, cap_drop: [ALL], healthcheck: *look}
  fewer: {<<: *idle, cap_drop: [CAP_MKNOD], cap_add: [sys_time], healthcheck: *look}
  user:
    <<: *idle
    user: "1000:1000"
    group_add: ["27"]
    security_opt: ["no-new-privileges:true"]
    healthcheck: *look
  other: {<<: *idle}
  bomb:
    image: test/busybox
    pids_limit: 64
    stop_signal: SIGKILL
    command: sh -c '(while :; do sleep 100000 & done) & exec sleep 100000'
  quiet: {<<: *idle, pids_limit: 40}
  zombies:
    image: test/busybox
    stop_signal: SIGKILL
    init: true
    command: sh -c 'i=0; while [ $$i -lt 300 ]; do sh -c "sleep 0.1 & exec true"; i=$$((i+1)); done; exec sleep 100000'
  eater: {image: test/busybox, mem_limit: 24m, memswap_limit: 24m, command: tail /dev/zero}
  filler:
    image: test/busybox
    mem_limit: 24m
    memswap_limit: 24m
    shm_size: 8m
    command: sh -c 'dd if=/dev/zero of=/dev/shm/f bs=1M count=20 2>/dev/null; stat -c %s /dev/shm/f; sleep 100000'
    stop_signal: SIGKILL
"""


@pytest.fixture(scope="module")
def box(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    with running(tmp_path_factory.mktemp("attacked") / "node") as node:
        node.write(FILE)
        node.compose("up", "-d")
        yield node


def state(node: Node, service: str) -> dict[str, str]:
    return next(item for item in node.containers().values() if item["Service"] == service)


def fields(text: str) -> dict[str, str]:
    return dict(line.split(":\t") for line in text.splitlines())


# What run, exec and health check have.

EFFECTIVE = {"plain": DEFAULT, "none": "0" * 16, "fewer": f"{0xA80425FB & ~(1 << 27) | 1 << 25:016x}", "user": "0" * 16}


@pytest.mark.attack("A13")
@pytest.mark.parametrize("service", EFFECTIVE)
def test_capabilities_of_run_exec_and_health_check(box: Node, service: str) -> None:
    """A service's first process, exec and health check have just the set that its file says."""
    until(lambda: box.cli("exec", "-T", service, "test", "-s", "/dev/shm/held").returncode == 0)
    pid = next(pid for each, pid in box.pids().items() if each.startswith(state(box, service)["ID"]))
    texts = [
        "\n".join(line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if ":\t" in line),
        box.exec(service, "grep", ":", "/proc/self/status"),
        box.exec(service, "cat", "/dev/shm/seen"),
    ]
    for text in map(fields, texts):
        assert text["CapEff"] == EFFECTIVE[service]
        assert text["CapBnd"] == (DEFAULT if service == "user" else EFFECTIVE[service])
        assert text["CapInh"] == text["CapAmb"] == "0" * 16
        assert text["Seccomp"] == "2"
        assert text["NoNewPrivs"] == ("1" if service == "user" else "0")


@pytest.mark.twin("A13")
def test_all_capabilities(box: Node) -> None:
    """cap_add: [ALL] gives each that the machine has, and a name that is none is told with its place."""
    until(lambda: box.cli("exec", "-T", "all", "test", "-s", "/dev/shm/held").returncode == 0)
    own = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("CapBnd"))
    assert fields(box.exec("all", "cat", "/dev/shm/seen"))["CapEff"] == own.split("\t")[1]
    box.write("services: {a: {image: test/busybox, cap_add: [FLY]}}", "wrong.yaml")
    done = box.cli("-f", "wrong.yaml", "up", "-d")
    assert done.returncode != 0
    assert "FLY" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.attack("A04")
def test_descriptors_of_a_health_check_and_exec(box: Node) -> None:
    """A health check and exec hold their three streams, and the folder that they list."""
    until(lambda: box.cli("exec", "-T", "plain", "test", "-s", "/dev/shm/held").returncode == 0)
    for text in (box.exec("plain", "cat", "/dev/shm/held"), box.exec("plain", "ls", "-l", "/proc/self/fd")):
        numbers = {line.split()[-3] for line in text.splitlines() if "->" in line}
        assert numbers <= {"0", "1", "2", "3"}, text


@pytest.mark.attack("A15")
def test_groups_of_a_service(box: Node) -> None:
    """None of the daemon's groups, its own one among them, in the first process and exec."""
    assert box.exec("user", "id", "-G").split() == ["1000", "27"]
    assert box.exec("other", "id", "-G").split() == ["0"]


# Exhaustion.


@pytest.mark.attack("I01")
def test_a_bomb_of_processes(box: Node) -> None:
    """A bomb as a service's own, and one by exec: the limit holds, the node answers, and rm ends it."""
    identity = state(box, "bomb")["ID"]
    (cgroup,) = Path(f"/sys/fs/cgroup/pids{box.cgroup}").glob(f"**/{identity}*")
    until(lambda: "max 0" not in (cgroup / "pids.events").read_text())
    assert int((cgroup / "pids.current").read_text()) <= 64
    assert box.exec("other", "echo", "alive") == "alive\n"
    assert box.containers()
    box.compose("rm", "-sf", "bomb")
    assert not cgroup.exists()
    box.cli("exec", "-T", "-d", "quiet", "sh", "-c", "bomb() { bomb | bomb & }; bomb; while :; do sleep 100000 & done")
    (inner,) = Path(f"/sys/fs/cgroup/pids{box.cgroup}").glob(f"**/{state(box, 'quiet')['ID']}*")
    until(lambda: "max 0" not in (inner / "pids.events").read_text())
    assert box.containers()
    box.compose("rm", "-sf", "quiet")
    until(lambda: not inner.exists())


@pytest.mark.attack("I01")
def test_a_limit_where_none_is_given(box: Node) -> None:
    """15 % of what the machine can have, for a service that says nothing."""
    (cgroup,) = Path(f"/sys/fs/cgroup/pids{box.cgroup}").glob(f"**/{state(box, 'other')['ID']}*")
    most = min(int(Path(f"/proc/sys/kernel/{name}").read_text()) for name in ("pid_max", "threads-max"))
    assert int((cgroup / "pids.max").read_text()) == most * 15 // 100


@pytest.mark.twin("I01")
def test_zombies_are_reaped_with_init(box: Node) -> None:
    """300 orphans of a service with init: true."""
    until(lambda: "sleep" in box.exec("zombies", "sh", "-c", "cat /proc/[0-9]*/comm"))
    until(lambda: " Z " not in box.exec("zombies", "sh", "-c", "cat /proc/[0-9]*/stat"))


@pytest.mark.attack("I02")
def test_more_memory_than_there_is(box: Node) -> None:
    """The container that eats dies with 137 and says why; a full /dev/shm is only full; shims and daemons live."""
    before = box.daemons()
    until(lambda: state(box, "eater")["State"] == "exited")
    assert str(state(box, "eater")["ExitCode"]) == "137"
    assert '"OOMKilled": true' in box.compose("container", "inspect", state(box, "eater")["ID"])
    until(lambda: str(8 << 20) in box.compose("logs", "--no-log-prefix", "filler"))
    assert state(box, "filler")["State"] == "running"
    assert box.daemons() == before
    mine = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("CapEff"))
    raised = int(mine.split()[1], 16) >> 24 & 1  # CAP_SYS_RESOURCE: who has it may protect a process
    for pid in box.shims().values() if raised else ():
        assert Path(f"/proc/{pid}/oom_score_adj").read_text().strip() == "-999"


@pytest.mark.twin("I02")
def test_started_again_after_it(box: Node) -> None:
    """The next container of the same service starts, and what stays within its limit runs."""
    box.write(FILE.replace("tail /dev/zero", "sh -c 'head -c 4000000 /dev/zero | wc -c'"), "fine.yaml")
    box.compose("-f", "fine.yaml", "up", "-d", "eater")
    until(lambda: "4000000" in box.compose("-f", "fine.yaml", "logs", "--no-log-prefix", "eater"))


# Images.


@pytest.mark.attack("B12")
def test_an_image_gives_no_orders_to_the_machine(box: Node) -> None:
    """VOLUME and WORKDIR by links that lead out, variables for the loader, labels that are pycompose's own."""
    outside = box.folder / "outside"
    outside.mkdir()
    program = Path("/bin/busybox").read_bytes()
    layer = tar(
        [
            folder("bin"),
            entry("bin/busybox", data=program, mode=0o755),
            symlink("/etc", "x"),
            symlink("/../../../../../../../.." + str(outside), "w"),
            folder("etc"),
            entry("etc/passwd", data=b"image's own"),
        ]
    )
    labels = {"com.docker.compose.project": "attacked", "com.docker.compose.service": "other", "pycompose.x": "y"}
    built = build(
        [layer],
        Cmd=["/bin/busybox", "sh", "-c", "/bin/busybox pwd; /bin/busybox cat /x/passwd; /bin/busybox touch /w/made"],
        Volumes={"/x": {}},
        WorkingDir="/w",
        Env=["LD_PRELOAD=/evil.so", "PATH=/bin"],
        Labels=labels,
    )
    (box.folder / "evil.tar").write_bytes(built.docker_archive("test/evil:1"))
    box.compose("image", "load", "-i", "evil.tar")
    box.write("name: evil\nservices: {evil: {image: 'test/evil:1', pull_policy: never}}", "evil.yaml")
    before = Path("/etc/passwd").read_bytes()
    box.cli("-f", "evil.yaml", "up", "-d")
    until(lambda: state_of(box, "evil.yaml") == "exited")
    text = box.compose("-f", "evil.yaml", "logs", "--no-log-prefix")
    assert "root:" not in text
    assert "image's own" in text
    assert not list(outside.iterdir())
    assert Path("/etc/passwd").read_bytes() == before
    assert len([item for item in box.containers().values() if item["Service"] == "other"]) == 1
    box.compose("-f", "evil.yaml", "down", "-v")


def state_of(node: Node, file: str) -> str:
    found = list(node.containers("-f", file).values())
    return str(found[0]["State"]) if found else ""


@pytest.mark.twin("B12")
def test_an_images_configuration_is_what_a_container_begins_with(box: Node) -> None:
    """Command, directory, user, variables and a volume that is filled from the image."""
    program = Path("/bin/busybox").read_bytes()
    layer = tar([folder("bin"), entry("bin/sh", data=program, mode=0o755), folder("d"), entry("d/f", data=b"filled\n")])
    script = "echo $PWD $A; read line < /d/f; echo $line"
    built = build([layer], Cmd=["/bin/sh", "-c", script], Volumes={"/d": {}}, WorkingDir="/d", Env=["A=b"], User="5:6")
    (box.folder / "fine.tar").write_bytes(built.docker_archive("test/fine:1"))
    box.compose("image", "load", "-i", "fine.tar")
    box.write("name: fine\nservices: {fine: {image: 'test/fine:1', pull_policy: never}}", "image.yaml")
    box.compose("-f", "image.yaml", "up", "-d")
    until(lambda: state_of(box, "image.yaml") == "exited")
    assert box.compose("-f", "image.yaml", "logs", "--no-log-prefix").splitlines() == ["/d b", "filled"]
    box.compose("-f", "image.yaml", "down", "-v")


# At the end: all of it goes.


@pytest.mark.twin("A16")
@pytest.mark.attack("A16")
def test_devices_stay_shut_after_the_daemon_starts_anew(box: Node) -> None:
    """A disk's node that a container makes does not open, before and after the agent was killed; /dev/null does."""
    disk = os.stat("/").st_dev
    script = (
        f"rm -f /n; mknod /n b {os.major(disk)} {os.minor(disk)} && ( : < /n ) 2>/dev/null && echo OPEN; : > /dev/null"
    )
    assert box.exec("other", "sh", "-c", script) == ""
    agent = box.daemons()["agent"]
    box.kill("agent")
    until(lambda: box.daemons().get("agent", agent) != agent)
    until(lambda: box.cli("exec", "-T", "other", "true").returncode == 0)
    assert box.exec("other", "sh", "-c", script) == ""


@pytest.mark.twin("I04")
def test_a_project_goes_without_a_trace(box: Node) -> None:
    """down -v takes the whole project away: processes, mounts, groups, namespaces, rules."""
    box.compose("down", "-v", "--remove-orphans")
    kinds = ("process in", "cgroup", "mount in", "process shim")
    until(lambda: not [item for item in residue.take(box) if item.startswith(kinds)], what=lambda: residue.take(box))
    assert json.loads(box.compose("ps", "-a", "--format", "json") or "[]") == []
