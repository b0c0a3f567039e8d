"""create, start, kill, delete, exec and their errors, on our runtime and on runc.

Sources: runtime-spec runtime.md "Lifecycle" and "Operations", config.md "POSIX-platform Hooks"; runc(8).
"""

from __future__ import annotations

import json
import os
import pty
import select
import signal
import socket
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
from oci.bundles import RUNTIMES, Bench, all_of, setting

from pycompose.worker.runtime import cgroups

SLEEP = "trap 'exit 7' TERM; sleep 1000 & wait"


def status(bench: Bench, container: str) -> str:
    found: str = json.loads(bench.call("state", container).out)["status"]
    return found


def until(bench: Bench, container: str, wanted: str) -> None:
    deadline = time.monotonic() + 20
    while status(bench, container) != wanted:
        assert time.monotonic() < deadline
        time.sleep(0.02)


def created(bench: Bench, command: str = SLEEP, *flags: str) -> str:
    """A container whose program waits for `start`."""
    bench.configure(None, command)
    container = bench.id()
    result = bench.call("create", *flags, container)
    assert result.code == 0, result.err
    return container


def test_the_states_of_a_life(bench: Bench) -> None:
    container = created(bench)
    known = json.loads(bench.call("state", container).out)
    assert known["status"] == "created"
    assert known["id"] == container
    assert known["bundle"] == str(bench.bundle)
    assert Path(f"/proc/{known['pid']}").exists()
    assert bench.call("start", container).code == 0
    assert status(bench, container) == "running"
    assert bench.call("start", container).code == 1
    assert bench.call("pause", container).code == 0
    assert status(bench, container) == "paused"
    assert bench.call("exec", container, "true").code == 255
    assert bench.call("resume", container).code == 0
    listed = json.loads(bench.call("list", "--format", "json").out)
    assert [item["status"] for item in listed if item["id"] == container] == ["running"]
    assert container in bench.call("list", "--quiet").out.split()
    assert bench.call("delete", container).code == 1
    assert bench.call("kill", container, "KILL").code == 0
    until(bench, container, "stopped")
    assert bench.call("kill", container, "KILL").code == 1
    assert bench.call("start", container).code == 1
    assert bench.call("delete", container).code == 0
    assert bench.call("state", container).code == 1
    assert bench.call("delete", container).code == 1
    assert bench.call("delete", "--force", container).code == 0


def test_the_program_runs_at_start_only(bench: Bench) -> None:
    container = created(bench, "echo ran > /tmp/ran")
    time.sleep(0.2)
    assert not (bench.bundle / "rootfs/tmp/ran").exists()
    (bench.bundle / "config.json").write_text("{}")  # changes after create count no more
    assert bench.call("start", container).code == 0
    until(bench, container, "stopped")
    assert (bench.bundle / "rootfs/tmp/ran").read_text() == "ran\n"
    (bench.bundle / "rootfs/tmp/ran").unlink()


def test_a_created_container_can_be_killed_and_deleted(bench: Bench) -> None:
    for number in ("KILL", "TERM"):
        container = created(bench)
        assert bench.call("kill", container, number).code == 0
        until(bench, container, "stopped")
        assert bench.call("delete", container).code == 0
    container = created(bench)
    assert bench.call("delete", "--force", container).code == 0


def test_names_are_taken_once_and_checked(bench: Bench) -> None:
    container = created(bench)
    assert bench.call("create", container).code == 1
    for wrong in ("", "a/b", "..", "a b", "x" * 2000):
        assert bench.call("create", wrong).code == 1, wrong
    assert status(bench, container) == "created"


def test_a_cgroup_that_is_taken_stays_its_owners(bench: Bench) -> None:
    if bench.name == "runc":
        pytest.skip("runc 1.1 joins it, with a warning")
    container = created(bench)
    path = json.loads((bench.bundle / "config.json").read_text())["linux"]["cgroupsPath"]
    bench.configure(setting("linux.cgroupsPath", path), SLEEP)
    result = bench.call("create", bench.id())
    assert result.code == 1
    assert "has processes in it" in result.err
    assert status(bench, container) == "created"


def test_hooks_run_in_order_with_the_state(bench: Bench) -> None:
    record = bench.folder / "hooks"
    record.write_text("")

    def hook(kind: str) -> list[dict[str, Any]]:
        return [
            {
                "path": "/bin/sh",
                "args": ["sh", "-c", f"printf '{kind} ' >> {record}; cat >> {record}; echo >> {record}"],
            }
        ]

    kinds = ["prestart", "createRuntime", "createContainer", "poststart", "poststop"]
    inside = [{"path": "/bin/sh", "args": ["sh", "-c", "cat > /tmp/inside"], "env": ["PATH=/bin"]}]
    hooks = {kind: hook(kind) for kind in kinds} | {"startContainer": inside}
    result = bench.run(all_of(setting("hooks", hooks), setting("annotations", {"k": "v"})), "cat /tmp/inside")
    assert result.code == 0, result.err
    lines = [line.split(" ", 1) for line in record.read_text().splitlines()]
    assert [kind for kind, _ in lines] == kinds
    states = [json.loads(text) for _, text in lines]
    assert {state["id"] for state in states} == {states[0]["id"]}
    assert states[-1]["status"] == "stopped"
    assert states[0]["annotations"] == {"k": "v"}
    assert json.loads(result.out)["id"] == states[0]["id"]
    (bench.bundle / "rootfs/tmp/inside").unlink()


@pytest.mark.parametrize("kind", ["prestart", "createRuntime", "createContainer", "startContainer", "poststart"])
def test_a_hook_that_fails_ends_the_container(bench: Bench, kind: str) -> None:
    shell = "/bin/sh"
    hooks = {kind: [{"path": shell, "args": ["sh", "-c", "cat >/dev/null; echo because; exit 3"]}]}
    result = bench.run(setting("hooks", hooks), SLEEP)
    assert result.code != 0
    assert bench.call("list", "--quiet").out.strip() == ""


def test_a_hook_has_its_timeout(bench: Bench) -> None:
    hooks = {"createRuntime": [{"path": "/bin/sleep", "args": ["sleep", "60"], "timeout": 1}]}
    started = time.monotonic()
    assert bench.run(setting("hooks", hooks)).code == 1
    assert time.monotonic() - started < 30


def test_exec(bench: Bench) -> None:
    container = created(bench)
    bench.call("start", container)
    words = ("--env", "A=b", "--cwd", "/tmp", "--user", "5:6")
    result = bench.call("exec", *words, container, "sh", "-c", "echo $A; pwd; id -u; id -g; cat; exit 9", stdin="in")
    assert (result.out, result.code) == ("b\n/tmp\n5\n6\nin", 9)
    assert bench.call("exec", container, "sh", "-c", "kill -9 $$").code == 137
    missing = bench.call("exec", container, "no-such-program")
    assert missing.code == 255
    assert "no-such-program" in missing.err
    process = {
        "args": ["sh", "-c", "echo $$ > /tmp/pid; id -u"],
        "cwd": "/",
        "env": ["PATH=/bin"],
        "user": {"uid": 3, "gid": 0},
    }
    (bench.folder / "process.json").write_text(json.dumps(process | {"args": ["id", "-u"]}))
    assert bench.call("exec", "--process", str(bench.folder / "process.json"), container).out == "3\n"
    pid_file = bench.folder / "pid"
    assert bench.call("exec", "--detach", "--pid-file", str(pid_file), container, "sleep", "1000").code == 0
    deadline = time.monotonic() + 20
    while "sleep" not in Path(f"/proc/{pid_file.read_text()}/comm").read_text():  # runc returns before its exec
        assert time.monotonic() < deadline
        time.sleep(0.02)
    pids = json.loads(bench.call("ps", "--format", "json", container).out)
    assert int(pid_file.read_text()) in pids
    assert "sleep 1000" in bench.call("ps", container).out
    assert bench.call("kill", "--all", container, "KILL").code == 0
    until(bench, container, "stopped")
    assert not Path(f"/proc/{pid_file.read_text()}/cmdline").exists()


def test_update_and_events(bench: Bench) -> None:
    container = created(bench)
    bench.call("start", container)
    v2 = not cgroups.mounted()[0]
    place = Path("/sys/fs/cgroup" + ("" if v2 else "/memory") + bench.cgroup)
    limit = place / ("memory.max" if v2 else "memory.limit_in_bytes")
    assert bench.call("update", "--memory", "40000000", container).code == 0
    assert int(limit.read_text()) // 4096 == 40000000 // 4096
    resources = {"memory": {"limit": 50000000}, "pids": {"limit": 20}}
    assert bench.call("update", "--resources", "-", container, stdin=json.dumps(resources)).code == 0
    assert int(limit.read_text()) // 4096 == 50000000 // 4096
    event = json.loads(bench.call("events", "--stats", container).out)
    assert (event["type"], event["id"]) == ("stats", container)
    assert event["data"]["memory"]["usage"]["limit"] // 4096 == 50000000 // 4096
    assert event["data"]["pids"]["current"] >= 1


def test_a_terminal_by_console_socket(bench: Bench) -> None:
    path = bench.folder / "console"
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        listener.bind(str(path))
        listener.listen(1)
        bench.configure(setting("process.terminal", True), "tty; read line; echo got $line")
        container = bench.id()
        result = bench.call("create", "--console-socket", str(path), container)
        assert result.code == 0, result.err
        connection, _ = listener.accept()
        with connection:
            _, fds, _, _ = socket.recv_fds(connection, 4096, 1)
    path.unlink()
    bench.call("start", container)
    os.write(fds[0], b"word\n")
    assert "got word" in read_until(fds[0], "got word")
    os.close(fds[0])
    until(bench, container, "stopped")


def read_until(fd: int, text: str) -> str:
    """Read a terminal until the text comes, or its end."""
    found = ""
    while text not in found and select.select([fd], [], [], 20)[0]:
        try:
            found += os.read(fd, 4096).decode()
        except OSError:
            break
    return found


def test_a_terminal_in_the_foreground(bench: Bench) -> None:
    bench.configure(setting("process.terminal", True), "tty; stty size; read line; echo got $line; exit 5")
    container = bench.id()
    command = [*RUNTIMES[bench.name], "--root", str(bench.folder / "root"), "run", container]
    pid, terminal = pty.fork()
    if pid == 0:
        os.chdir(bench.bundle)
        os.execvp(command[0], command)
    assert "/dev/pts/" in read_until(terminal, "/dev/pts/")
    os.write(terminal, b"abc\n")
    assert "got abc" in read_until(terminal, "got abc")
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 5
    os.close(terminal)


def test_run_passes_signals_on(bench: Bench) -> None:
    bench.configure(None, SLEEP)
    container = bench.id()
    command = [*RUNTIMES[bench.name], "--root", str(bench.folder / "root"), "run", container]
    with subprocess.Popen(command, cwd=bench.bundle, stdin=subprocess.DEVNULL) as running:
        deadline = time.monotonic() + 20
        while bench.call("state", container).code or status(bench, container) != "running":
            assert time.monotonic() < deadline
            time.sleep(0.02)
        time.sleep(0.2)  # the shell sets its trap
        running.send_signal(signal.SIGTERM)
        assert running.wait(20) == 7


def test_descriptors_are_passed_only_when_asked_for(bench: Bench) -> None:
    bench.configure(None, "ls /proc/self/fd | tr '\\n' ' '; cat <&3 2>/dev/null || true")
    reading, writing = os.pipe()
    os.write(writing, b"passed")
    os.close(writing)
    counts = {}
    for flags in ((), ("--preserve-fds", "1")):
        command = [*RUNTIMES[bench.name], "--root", str(bench.folder / "root"), "run", *flags, bench.id()]
        script = 'exec 3<&"$0"; exec "$@"'
        done = subprocess.run(
            ["bash", "-c", script, str(reading), *command],
            cwd=bench.bundle,
            pass_fds=(reading,),
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
        )
        counts[bool(flags)] = done.stdout
    os.close(reading)
    assert "passed" not in counts[False]
    assert "passed" in counts[True]


CHROOT = 'mount --rbind / /mnt && exec chroot /mnt env -C "$PWD" "$@"'


def test_exec_of_a_runtime_in_a_chroot_is_in_the_container(bench: Bench) -> None:
    """A mount namespace has a root of its own (pivot_root(2)): one made in a chroot keeps the machine's."""
    caged = ("unshare", "--mount", "--propagation", "private", "sh", "-c", CHROOT, "sh")
    bench.configure(None, "sleep 1000")
    container = bench.id()
    assert bench.call("run", "--detach", container, before=caged).code == 0
    result = bench.call("exec", container, "sh", "-c", "ls -d /bin /usr", before=caged)
    assert result.out == ("/bin\n/usr\n" if bench.name == "runc" else "/bin\n")  # runc 1.1.5 enters the machine's


def test_signal_0_asks_only(bench: Bench) -> None:
    container = created(bench)
    assert bench.call("start", container).code == 0
    assert bench.call("kill", container, "0").code == 0
    assert status(bench, container) == "running"
    assert bench.call("kill", container, "KILL").code == 0
    until(bench, container, "stopped")
    assert bench.call("kill", container, "0").code == 1


def test_sockets_of_systemd_are_passed_on(bench: Bench) -> None:
    """sd_listen_fds(3): the number of them, and that they are the first process's."""
    if bench.name == "runc":
        pytest.skip("runc 1.1 tells the number alone")
    bench.configure(None, "echo $LISTEN_FDS $LISTEN_PID $$; readlink /proc/self/fd/3 | cut -d: -f1")
    words = [*RUNTIMES[bench.name], "--root", str(bench.folder / "root"), "run", bench.id()]
    script = 'exec 3<&0; export LISTEN_FDS=1; exec "$@"'
    with socket.socket() as listening:
        done = subprocess.run(
            ["bash", "-c", script, "bash", *words], cwd=bench.bundle, stdin=listening, capture_output=True, text=True
        )
    assert done.stdout.split() == ["1", "1", "1", "socket"], done.stderr
