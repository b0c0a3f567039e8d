"""Containers on the real kernel: life cycle, streams, exec, limits, live restore, no residue."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from pycompose.worker.runtime import cgroups, oci
from pycompose.worker.runtime.client import ExitStatus, LogOptions, Rootfs, Runtime
from pycompose.worker.runtime.errors import StartError, WrongState

pytestmark = [pytest.mark.root, pytest.mark.skipif(os.getuid() != 0, reason="needs root")]
APPLETS = (
    "sh",
    "true",
    "sleep",
    "echo",
    "cat",
    "id",
    "ls",
    "ps",
    "kill",
    "dd",
    "tr",
    "test",
    "stty",
    "hostname",
    "mount",
    "tail",
)


class Box:
    """A runtime with a busybox root; each container gets its own writable layer."""

    def __init__(self, directory: Path, runtime: Runtime) -> None:
        self.directory, self.runtime = directory, runtime
        self.ended: dict[str, ExitStatus] = {}

    async def create(self, name: str, *args: str, stdin: bool = False, **changes: Any) -> dict[str, Any]:
        config = oci.default_config(list(args))
        config["process"].update(changes.pop("process", {}))
        config["linux"]["resources"].update(changes.pop("resources", {}))
        config["linux"].update(changes.pop("linux", {}))
        config["mounts"] += changes.pop("mounts", [])
        config.update(changes)
        layers = [self.directory / f"{kind}-{name}" for kind in ("upper", "work")]
        for layer in layers:
            layer.mkdir()
        root = Rootfs((self.directory / "lower",), *layers)
        await self.runtime.create(name, config, root, log=LogOptions(self.log(name)), open_stdin=stdin)
        return config

    async def run(self, name: str, *args: str, **changes: Any) -> ExitStatus:
        await self.create(name, *args, **changes)
        await self.runtime.start(name)
        return await asyncio.wait_for(self.runtime.wait(name), 20)

    def log(self, name: str) -> Path:
        return self.directory / f"{name}.log"

    def output(self, name: str, stream: str | None = None) -> str:
        records = [json.loads(line) for line in self.log(name).read_text().splitlines()]
        return "".join(record["log"] for record in records if stream in (None, record["stream"]))


def cgroup_directories(parent: str) -> list[str]:
    points = set(cgroups.mounted()[0].values())
    return [f"{point}{parent}" for point in points if os.path.isdir(f"{point}{parent}")]


def alive(pid: int) -> bool:
    """Whether the process runs; a zombie that waits for the machine's init does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


@pytest.fixture
async def box(tmp_path: Path) -> AsyncIterator[Box]:
    lower = tmp_path / "lower"
    (lower / "bin").mkdir(parents=True)
    (lower / "tmp").mkdir()
    shutil.copy("/bin/busybox", lower / "bin/busybox")
    for applet in APPLETS:
        os.symlink("busybox", lower / "bin" / applet)
    parent = f"/pycompose-test-{os.getpid()}"
    mounts_before = Path("/proc/self/mountinfo").read_text()
    async with Runtime(tmp_path / "state", parent) as runtime:
        made = Box(tmp_path, runtime)
        runtime.on_exit = made.ended.__setitem__
        try:
            yield made
        finally:
            for each in await runtime.list():
                await runtime.delete(each.id, force=True)
    leftover = [entry for path in cgroup_directories(parent) for entry in os.scandir(path) if entry.is_dir()]
    for path in cgroup_directories(parent):
        cgroups.remove_directories([path])
    assert not leftover
    assert Path("/proc/self/mountinfo").read_text() == mounts_before


async def test_exit_status_output_and_notification(box: Box) -> None:
    status = await box.run("a", "sh", "-c", "echo out; echo err >&2; exit 3")
    assert (status.code, status.signal, status.oom_killed) == (3, 0, False)
    assert status.started_ns < status.finished_ns
    assert (box.output("a", "stdout"), box.output("a", "stderr")) == ("out\n", "err\n")
    assert box.ended["a"] == status


async def test_only_stdio_reaches_the_container(box: Box) -> None:
    await box.create("a", "sleep", "60")
    await box.runtime.start("a")
    session = await box.runtime.exec("a", {"args": ["ls", "/proc/1/fd"], "cwd": "/"})
    assert b"".join([data async for _, data in session]).split() == [b"0", b"1", b"2"]
    session = await box.runtime.exec("a", {"args": ["ls", "/proc/self/fd"], "cwd": "/"})
    assert b"".join([data async for _, data in session]).split() == [b"0", b"1", b"2", b"3"]  # 3: the directory itself


@pytest.mark.parametrize(
    ("program", "code", "text"),
    [
        ("nothere", 127, 'exec: "nothere": executable file not found in $PATH'),
        ("/no/such", 127, 'exec: "/no/such": no such file or directory'),
        ("/tmp", 126, 'exec: "/tmp": permission denied'),
    ],
)
async def test_start_errors_are_dockers(box: Box, program: str, code: int, text: str) -> None:
    await box.create("a", program)
    with pytest.raises(StartError) as caught:
        await box.runtime.start("a")
    assert (caught.value.exit_code, str(caught.value)) == (code, text)
    assert (await box.runtime.state("a")).status == "stopped"


async def test_a_failing_step_names_it(box: Box) -> None:
    bind = {"destination": "/x", "type": "bind", "source": "/no/such/place", "options": ["bind"]}
    await box.create("a", "true", mounts=[bind])
    with pytest.raises(StartError, match="mount /no/such/place at /x: No such file"):
        await box.runtime.start("a")


async def test_started_again_with_the_same_layer_and_log(box: Box) -> None:
    await box.run("a", "sh", "-c", "test -e /mark && echo again; echo x > /mark")
    await box.runtime.start("a")
    await box.runtime.wait("a")
    assert box.output("a") == "again\n"
    assert (await box.runtime.state("a")).run == 2


async def test_isolation_defaults(box: Box) -> None:
    await box.run(
        "a",
        "sh",
        "-c",
        "cat /proc/self/status; hostname; ls /proc/acpi; echo x > /proc/sys/kernel/hostname",
        hostname="inside",
    )
    out = box.output("a", "stdout")
    assert "CapEff:\t00000000a80425fb" in out
    assert "Seccomp:\t2" in out
    assert "inside\n" in out
    assert "Read-only file system" in box.output("a", "stderr")


async def test_a_link_in_the_image_does_not_lead_outside(box: Box) -> None:
    outside = box.directory / "outside"
    outside.mkdir()
    os.symlink(str(outside), box.directory / "lower/escape")
    tmpfs = {"destination": "/escape/made", "type": "tmpfs", "source": "tmpfs", "options": []}
    assert (await box.run("a", "test", "-d", "/escape/made", mounts=[tmpfs])).code == 0
    assert list(outside.iterdir()) == []


async def test_user_without_privileges(box: Box) -> None:
    user = {"uid": 1000, "gid": 1001, "additionalGids": [7]}
    await box.run("a", "sh", "-c", "id; cat /proc/self/status", process={"user": user, "noNewPrivileges": True})
    out = box.output("a")
    assert "uid=1000 gid=1001 groups=7" in out
    assert "CapEff:\t0000000000000000" in out
    assert "NoNewPrivs:\t1" in out


async def test_terminal_exec_and_attach(box: Box) -> None:
    await box.create("a", "cat", process={"terminal": True, "consoleSize": {"height": 33, "width": 77}})
    await box.runtime.start("a")
    attached = await box.runtime.attach("a")
    await attached.write(b"hello\n")
    got = b""
    while got.count(b"hello\r\n") < 2:  # the terminal's echo and cat's
        piece = await asyncio.wait_for(attached.read(), 5)
        assert piece is not None
        got += piece[1]
    process = {"args": ["sh", "-c", "stty size; exit 4"], "cwd": "/", "env": [], "user": {"uid": 0, "gid": 0}}
    session = await box.runtime.exec("a", process, tty=True, window=(12, 34))
    assert b"".join([data async for _, data in session]) == b"12 34\r\n"
    assert await session.wait() == 4
    await attached.close_stdin()
    assert await asyncio.wait_for(attached.wait(), 5) == 0


async def test_exit_status_arrives_beside_late_input(box: Box) -> None:
    """Input that the process never reads must not cost its exit status (a reset connection did)."""
    await box.create("a", "sleep", "1000")
    await box.runtime.start("a")
    for number in range(60):
        session = await box.runtime.exec("a", {"args": ["sh", "-c", f"exit {number}"], "cwd": "/"}, stdin=True)
        for _ in range(20):
            await session.write(b"late")
        await session.close_stdin()
        await asyncio.sleep(0.02 if number % 2 else 0)
        assert await session.wait() == number


async def test_exec_with_pipes(box: Box) -> None:
    await box.create("a", "sleep", "60")
    pid = await box.runtime.start("a")
    process = {"args": ["sh", "-c", "cat; echo e >&2; echo $$"], "cwd": "/", "env": [], "user": {"uid": 5, "gid": 5}}
    session = await box.runtime.exec("a", process, stdin=True)
    await session.write(b"x" * 100_000)
    await session.close_stdin()
    pieces = [piece async for piece in session]
    out = b"".join(data for stream, data in pieces if stream == "stdout")
    assert out.startswith(b"x" * 100_000)
    assert 1 < int(out[100_000:]) < 10  # a process id of the container's own namespace
    assert b"".join(data for stream, data in pieces if stream == "stderr") == b"e\n"
    assert await session.wait() == 0
    with pytest.raises(StartError, match="executable file not found") as caught:
        await box.runtime.exec("a", {"args": ["nothere"], "cwd": "/"})
    assert caught.value.exit_code == 127
    assert await box.runtime.processes("a") == [pid]


async def test_stop_kills_at_once_when_the_signal_would_be_dropped(box: Box) -> None:
    await box.create("a", "sleep", "60")
    await box.runtime.start("a")
    status = await asyncio.wait_for(box.runtime.stop("a", signal.SIGTERM, 30), 5)
    assert (status.code, status.signal) == (137, 9)


async def test_stop_lets_a_handler_finish(box: Box) -> None:
    await box.create("a", "sh", "-c", "trap 'exit 7' TERM; echo ready; while true; do sleep 0.05; done")
    await box.runtime.start("a")
    while not box.output("a"):
        await asyncio.sleep(0.01)
    assert (await box.runtime.stop("a", signal.SIGTERM, 10)).code == 7


async def test_init_reaps_and_forwards(box: Box) -> None:
    await box.create("a", "sh", "-c", "echo ready; sleep 60", annotations={oci.INIT_ANNOTATION: "true"})
    await box.runtime.start("a")
    while not box.output("a"):
        await asyncio.sleep(0.01)
    assert (await box.runtime.stop("a", signal.SIGTERM, 20)).code == 143


async def test_out_of_memory_is_noticed(box: Box) -> None:
    limit = 16 * 1024 * 1024
    limits = {"memory": {"limit": limit, "swap": limit}}
    status = await box.run("a", "sh", "-c", "tail /dev/zero; exit 1", resources=limits)
    assert status.oom_killed


async def test_limits_reach_the_kernel(box: Box) -> None:
    resources = {"memory": {"limit": 64 << 20}, "pids": {"limit": 20}, "cpu": {"quota": 50000, "period": 100000}}
    await box.create("a", "sleep", "60", resources=resources)
    await box.runtime.start("a")
    usage = await box.runtime.stats("a")
    assert (usage.memory_limit, usage.pids) == (64 << 20, 1)
    await box.runtime.update("a", {"memory": {"limit": 32 << 20}})
    assert (await box.runtime.stats("a")).memory_limit == 32 << 20


async def test_pause_and_resume(box: Box) -> None:
    await box.create("a", "sleep", "60")
    await box.runtime.start("a")
    await box.runtime.pause("a")
    assert (await box.runtime.state("a")).status == "paused"
    await box.runtime.resume("a")
    assert (await box.runtime.state("a")).status == "running"
    await box.runtime.pause("a")
    await asyncio.wait_for(box.runtime.stop("a", signal.SIGTERM, 5), 4)


async def test_containers_outlive_the_agent(box: Box) -> None:
    await box.create("long", "sh", "-c", "while true; do echo tick; sleep 0.05; done")
    await box.create("short", "sh", "-c", "sleep 0.3; exit 5")
    pid = await box.runtime.start("long")
    await box.runtime.start("short")
    await box.runtime.__aexit__(None, None, None)  # zygote gone, connections closed
    await asyncio.sleep(0.6)
    async with Runtime(box.directory / "state", box.runtime.cgroup_parent) as second:
        states = {each.id: each for each in await second.recover()}
        assert (states["long"].status, states["long"].pid) == ("running", pid)
        assert states["short"].exit is not None
        assert states["short"].exit.code == 5
        assert box.output("long").count("tick") >= 8
        assert (await second.stop("long", signal.SIGTERM, 0)).code == 137
        await second.delete("long")


async def test_a_lost_shim_ends_its_container(box: Box) -> None:
    await box.create("a", "sleep", "60")
    pid = await box.runtime.start("a")
    shim = json.loads((box.directory / "state/a/state.json").read_text())["shim"]
    os.kill(shim, signal.SIGKILL)
    status = await asyncio.wait_for(box.runtime.wait("a"), 5)
    assert status.code == 137
    assert "shim was lost" in status.error
    assert not alive(pid)


async def test_a_killed_zygote_is_replaced(box: Box) -> None:
    before = box.runtime.zygote.pid
    os.kill(before, signal.SIGKILL)
    assert (await box.run("a", "true")).code == 0
    assert box.runtime.zygote.pid not in (0, before)


async def prepared(box: Box, since: int = 0) -> int:
    """The process that waits for the next container, another one than `since`."""

    def children(pid: int, name: str) -> list[int]:
        try:
            pids = map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split())
            return [pid for pid in pids if Path(f"/proc/{pid}/comm").read_text().strip() == f"pycompose-{name}"]
        except OSError:
            return []

    for _ in range(2000):
        found = [pid for shim in children(box.runtime.zygote.pid, "spare") for pid in children(shim, "first")]
        if found and found[0] != since:
            return found[0]
        await asyncio.sleep(0.01)
    raise AssertionError("no process waits for a container")


async def kill(find: Callable[[], Awaitable[int]]) -> int:
    """Kill what is found, and wait for its end. A process that waits may be replaced just now: then by the next one."""
    while True:
        pid = await find()
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
            while alive(pid):
                await asyncio.sleep(0.01)
            return pid


async def test_a_prepared_process_becomes_the_container_and_one_that_was_killed_is_not_missed(box: Box) -> None:
    first = await prepared(box)
    await box.create("a", "sleep", "60")
    assert await box.runtime.start("a") == first
    killed = await kill(lambda: prepared(box, first))
    await box.create("b", "sleep", "60")
    assert await box.runtime.start("b") not in (first, killed)
    session = await box.runtime.exec("b", {"args": ["ps"], "cwd": "/", "user": {"uid": 0, "gid": 0}, "env": []})
    listed = b"".join([data async for _, data in session]).decode().splitlines()[1:]
    assert len(listed) == 2  # itself and ps
    assert listed[0].split()[0] == "1"


async def test_a_container_without_pid_namespace_has_no_use_for_the_prepared_process(box: Box) -> None:
    first = await prepared(box)
    kinds = [{"type": kind} for kind in ("mount", "ipc", "uts", "network", "cgroup")]
    await box.create("a", "sleep", "60", linux={"namespaces": kinds})
    pid = await box.runtime.start("a")
    assert pid != first
    assert not alive(first)
    assert os.readlink(f"/proc/{pid}/ns/pid") == os.readlink("/proc/self/ns/pid")


async def test_a_first_process_whose_shim_is_killed_goes_with_it(box: Box) -> None:
    first = await prepared(box)
    shim = int(Path(f"/proc/{first}/stat").read_text().rpartition(")")[2].split()[1])
    os.kill(shim, signal.SIGKILL)
    async with asyncio.timeout(60):
        while alive(first):
            await asyncio.sleep(0.01)
    assert (await box.run("a", "true")).code == 0


async def test_wrong_states_are_named(box: Box) -> None:
    await box.create("a", "sleep", "60")
    with pytest.raises(WrongState, match="exists already"):
        await box.runtime.create("a", oci.default_config(["true"]), Rootfs((box.directory / "lower",)))
    await box.runtime.start("a")
    with pytest.raises(WrongState, match="running already"):
        await box.runtime.start("a")
    with pytest.raises(WrongState, match="is running"):
        await box.runtime.delete("a")
