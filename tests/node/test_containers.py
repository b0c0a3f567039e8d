"""What a Compose file's words mean inside of containers, all services of one project at once."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from node.whole import Node, running, until

FILE = """
name: box
x-idle: &idle {image: test/busybox, command: sleep 100000, stop_signal: SIGKILL}
services:
  limits:
    <<: *idle
    ulimits: {nofile: {soft: 1234, hard: 2345}, nproc: 777}
    shm_size: 32m
    tmpfs: ["/scratch:size=1m,mode=700"]
    working_dir: /made/on/the/way
    devices: ["/dev/fuse:/dev/mine:r"]
    mem_limit: 64m
  sealed:
    <<: *idle
    read_only: true
    tmpfs: [/run]
    cap_drop: [ALL]
    cap_add: [NET_BIND_SERVICE]
    security_opt: ["no-new-privileges:true"]
  named: {<<: *idle, user: worker, group_add: ["1002"]}
  numbered: {<<: *idle, user: "1000:1002"}
  bomb:
    image: test/busybox
    pids_limit: 25
    command: sh -c '(for i in $$(seq 200); do sleep 1000 & done) & exec sleep 100000'
    stop_signal: SIGKILL
  reaper:
    image: test/busybox
    init: true
    command: sh -c 'i=0; while [ $$i -lt 20 ]; do sh -c "sleep 0.05 & exec true"; i=$$((i+1)); done; exec sleep 100000'
  eater: {image: test/busybox, mem_limit: 16m, memswap_limit: 16m, command: tail /dev/zero}
  polite:
    image: test/busybox
    stop_signal: SIGUSR1
    command: sh -c 'trap "echo heard; exit 7" USR1; echo ready; while :; do sleep 0.1; done'
  deaf: {image: test/busybox, command: sleep 100000}
  stubborn:
    image: test/busybox
    stop_grace_period: 1s
    command: sh -c 'trap ":" TERM; echo ready; while :; do sleep 0.1; done'
  keeper:
    <<: *idle
    secrets: [{source: word, target: deep/word, uid: "1000", gid: "1001", mode: 0440}]
    volumes: [filled:/etc]
  noisy:
    image: test/busybox
    logging: {options: {max-size: 20k, max-file: "3"}}
    command: sh -c 'i=0; while [ $$i -lt 2000 ]; do echo "line $$i of many"; i=$$((i+1)); done;
      printf "no newline at the end"'
  flaky: {image: test/busybox, restart: always, command: "false"}
volumes: {filled: {}}
secrets: {word: {environment: WORD}}
"""


@pytest.fixture(scope="module")
def box(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    with running(tmp_path_factory.mktemp("box") / "node", {"WORD": "secret word\n"}) as node:
        node.write(FILE)
        node.compose("up", "-d")
        yield node


def state(node: Node, service: str) -> dict[str, str]:
    return next(item for item in node.containers().values() if item["Service"] == service)


def test_limits_reach_the_program(box: Node) -> None:
    assert box.exec("limits", "sh", "-c", "ulimit -Sn; ulimit -Hn; ulimit -Su").split() == ["1234", "2345", "777"]
    sizes = box.exec("limits", "sh", "-c", "df -k /dev/shm /scratch | tail -n 2").split()
    assert (sizes[1], sizes[7]) == ("32768", "1024")
    assert box.exec("limits", "pwd") == "/made/on/the/way\n"
    assert box.exec("limits", "sh", "-c", "test -c /dev/mine && : < /dev/mine && echo open") == "open\n"
    assert box.cli("exec", "-T", "limits", "sh", "-c", "echo > /dev/mine").returncode != 0
    assert box.exec("limits", "cat", "/sys/fs/cgroup/memory/memory.limit_in_bytes").strip() == str(64 << 20)


def test_what_docker_shuts_by_default_is_shut(box: Node) -> None:
    status = box.exec("limits", "cat", "/proc/self/status")
    assert "CapEff:\t00000000a80425fb" in status
    assert "CapInh:\t0000000000000000" in status
    assert "Seccomp:\t2" in status
    assert box.exec("limits", "sh", "-c", "cat /proc/kcore /proc/keys /proc/timer_list | wc -c") == "0\n"
    for path in ("/proc/sysrq-trigger", "/proc/sys/kernel/core_pattern", "/sys/kernel/uevent_helper"):
        assert box.cli("exec", "-T", "limits", "sh", "-c", f"echo x > {path}").returncode != 0, path
    status = box.exec("sealed", "cat", "/proc/self/status")
    assert "CapEff:\t0000000000000400" in status
    assert "NoNewPrivs:\t1" in status
    assert box.cli("exec", "-T", "sealed", "touch", "/file").returncode != 0
    assert box.exec("sealed", "sh", "-c", "echo x > /run/file; cat /run/file") == "x\n"


def test_users_by_name_and_number(box: Node) -> None:
    assert box.exec("named", "id").strip() == "uid=1000(worker) gid=1001(workers) groups=1001(workers),1002(extra)"
    assert "uid=1000(worker) gid=1002(extra)" in box.exec("numbered", "id")
    assert box.exec("named", "sh", "-c", "echo $HOME") == "/tmp\n"


def test_a_fork_bomb_is_contained(box: Node) -> None:
    identity = state(box, "bomb")["ID"]
    assert box.exec("limits", "echo", "alive") == "alive\n"
    (cgroup,) = Path(f"/sys/fs/cgroup/pids{box.cgroup}").glob(f"**/{identity}*")
    assert int((cgroup / "pids.max").read_text()) == 25
    assert "max 0" not in (cgroup / "pids.events").read_text()
    assert int((cgroup / "pids.current").read_text()) <= 25


def test_init_reaps_what_nobody_waits_for(box: Node) -> None:
    until(lambda: " Z " not in box.exec("reaper", "sh", "-c", "cat /proc/[0-9]*/stat"))
    assert "tini" in box.exec("reaper", "cat", "/proc/1/comm") or "init" in box.exec("reaper", "cat", "/proc/1/comm")


def test_out_of_memory_is_told(box: Node) -> None:
    until(lambda: state(box, "eater")["State"] == "exited")
    assert str(state(box, "eater")["ExitCode"]) == "137"
    found = box.compose("container", "inspect", state(box, "eater")["ID"])
    assert "out of memory" in found or '"OOMKilled": true' in found


@pytest.mark.parametrize(("words", "code"), [(("/no/such",), 127), (("nothere",), 127), (("/etc/passwd",), 126)])
def test_programs_that_cannot_be_run(box: Node, words: tuple[str, ...], code: int) -> None:
    done = box.cli("run", "--rm", "-T", "limits", *words)
    assert done.returncode == code, done.stderr
    assert words[0] in done.stderr
    assert "Traceback" not in done.stderr


def test_stopping(box: Node) -> None:
    until(lambda: "ready" in box.compose("logs", "polite") and "ready" in box.compose("logs", "stubborn"))
    box.compose("stop", "polite")
    assert str(state(box, "polite")["ExitCode"]) == "7"
    assert "heard" in box.compose("logs", "polite")
    began = time.monotonic()
    box.compose("stop", "-t", "100", "deaf")  # nobody would hear the signal: killed at once
    assert time.monotonic() - began < 60
    assert str(state(box, "deaf")["ExitCode"]) == "137"
    began = time.monotonic()
    box.compose("stop", "stubborn")
    assert time.monotonic() - began >= 1
    assert str(state(box, "stubborn")["ExitCode"]) == "137"


def test_secrets_lie_on_a_tmpfs_and_go_with_the_container(box: Node) -> None:
    assert box.exec("keeper", "stat", "-c", "%u %g %a", "/run/secrets/deep/word").strip() == "1000 1001 440"
    assert box.exec("keeper", "cat", "/run/secrets/deep/word") == "secret word\n"
    mounts = box.exec("keeper", "cat", "/proc/mounts").splitlines()
    assert any("/run/secrets/deep/word tmpfs" in line and " ro," in line for line in mounts)
    assert box.run("grep", "-rl", "secret word", str(box.folder / "state")).stdout == ""
    assert box.run("grep", "-rl", "secret word", str(box.folder / "run" / "secrets")).stdout
    box.compose("rm", "-sf", "keeper")
    until(lambda: not box.run("grep", "-rl", "secret word", str(box.folder / "run" / "secrets")).stdout)
    # the volume was filled from the image, and stays
    filled = box.folder / "state" / "volumes" / "box_filled" / "_data"
    assert "worker" in (filled / "passwd").read_text()


def test_rotated_logs_keep_the_last_lines(box: Node) -> None:
    until(lambda: state(box, "noisy")["State"] == "exited")
    home = next((box.folder / "state" / "agent" / "tasks").glob(f"{state(box, 'noisy')['ID']}*"))
    files = sorted(home.glob("log.json*"))
    assert len(files) == 3
    assert all(path.stat().st_size < 60_000 for path in files)
    lines = box.compose("logs", "--no-log-prefix", "noisy").splitlines()
    assert lines[-1] == "no newline at the end"
    numbers = [int(line.split()[1]) for line in lines[:-1]]
    assert numbers == list(range(numbers[0], 2000))
    assert box.compose("logs", "--no-log-prefix", "--tail", "2", "noisy").splitlines() == lines[-2:]


def test_pauses_between_restarts_grow(box: Node) -> None:
    def restarts() -> int:
        identity = state(box, "flaky")["ID"]
        return int(box.compose("container", "inspect", identity, "--format", "{{.RestartCount}}"))

    until(lambda: restarts() >= 3)
    before = restarts()
    time.sleep(2)
    assert restarts() - before < 10  # without growing pauses of 100 ms it would be twenty
