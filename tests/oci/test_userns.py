"""User namespaces: mappings, what they own, joining, exec, and id-mapped mounts, on our runtime and on Debian's runc.

Sources: user_namespaces(7), runtime-spec config-linux.md "User namespace mappings", config.md "Mounts" (idmap, ridmap).
"""

from __future__ import annotations

import json
import os
import pty
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from oci import bundles
from oci.bundles import RUNTIMES, Bench, Change, Config, adding, all_of, setting
from oci.test_config import STATUS, Row, mount, namespace, show
from oci.test_lifecycle import read_until, until

UIDS, GIDS, SIZE = 1_700_000_000, 1_800_000_000, 65_536
ID_MAPPED = "id-mapped mounts came with runc 1.2"


@contextmanager
def mapped_bench(name: str) -> Iterator[Bench]:
    """A bench whose root file system belongs to the container's root; the peer has to reach it without our rights."""
    with tempfile.TemporaryDirectory(prefix="userns-") as folder:
        os.chmod(folder, 0o711)
        with bundles.open_bench(name, Path(folder)) as found:
            subprocess.run(["chown", "-Rh", f"{UIDS}:{GIDS}", str(found.bundle / "rootfs")], check=True)
            yield found


@pytest.fixture(scope="module", params=list(bundles.RUNTIMES))
def runtime(request: pytest.FixtureRequest) -> Iterator[Bench]:
    """The runtime under test, then the peer."""
    with mapped_bench(request.param) as found:
        yield found


def mapped(config: Config) -> None:
    """A new user namespace with a range of its own."""
    config["linux"]["namespaces"].append({"type": "user"})
    config["linux"]["uidMappings"] = [{"containerID": 0, "hostID": UIDS, "size": SIZE}]
    config["linux"]["gidMappings"] = [{"containerID": 0, "hostID": GIDS, "size": SIZE}]


def idmap(source: str, option: str, *, explicit: bool = False) -> Change:
    """An id-mapped bind at /m: by the container's mappings, or by mappings of its own."""
    found: Config = {"destination": "/m", "type": "bind", "source": source, "options": ["rbind", option]}
    if explicit:
        found["uidMappings"] = [{"containerID": 500, "hostID": UIDS, "size": 1}]
        found["gidMappings"] = [{"containerID": 600, "hostID": GIDS, "size": 1}]
    return adding("mounts", found)


NEVER = "echo NEVER"
ROWS = [
    Row(
        "the mappings",
        None,
        "tr -s ' ' < /proc/self/uid_map; tr -s ' ' < /proc/self/gid_map",
        f"0 {UIDS} {SIZE}\n 0 {GIDS} {SIZE}",
    ),
    Row("root", None, "id -u; id -g; id -G; touch /mine; stat -c '%u %g' /mine; rm /mine", "0\n0\n0\n0 0"),
    Row(
        "a user with groups",
        setting("process.user", {"uid": 5, "gid": 6, "additionalGids": [7, 8]}),
        "id -u; id -g; id -G",
        "5\n6\n6 7 8",
    ),
    Row("the bounding set is of the namespace", None, STATUS.format("CapEff"), "CapEff:00000000a80425fb"),
    Row("pids", None, "echo $$", "1"),
    Row("host name", setting("hostname", "box"), "hostname", "box"),
    Row(
        "host name as a sysctl",
        setting("linux.sysctl", {"kernel.domainname": "dom.example"}),
        "cat /proc/sys/kernel/domainname",
        "dom.example",
        peer="runc writes the file, which is the machine's root's",
    ),
    Row(
        "sysctl",
        setting("linux.sysctl", {"net.ipv4.ip_forward": "1"}),
        "cat /proc/sys/net/ipv4/ip_forward",
        "1",
    ),
    Row("out-of-memory score", setting("process.oomScoreAdj", 77), "cat /proc/self/oom_score_adj", "77"),
    Row(
        "rlimits",
        setting("process.rlimits", [{"type": "RLIMIT_NOFILE", "soft": 100, "hard": 200}]),
        "ulimit -Sn; ulimit -Hn",
        "100\n200",
    ),
    Row("devices can be used", None, "echo x > /dev/null && head -c 3 /dev/zero | wc -c", "3"),
    Row(
        "a device of its own",
        adding(
            "linux.devices",
            {"path": "/dev/made/null", "type": "c", "major": 1, "minor": 3, "fileMode": 0o640, "uid": 3, "gid": 4},
        ),
        "stat -c '%a %u %g %t:%T' /dev/made/null; : > /dev/made/null",
        "640 3 4 1:3",
        peer="runc binds the machine's file, which has to be there",
    ),
    Row(
        "a fifo",
        adding("linux.devices", {"path": "/dev/pipe", "type": "p", "fileMode": 0o600}),
        "test -p /dev/pipe && echo fifo",
        "fifo",
        peer="runc binds the machine's file, which has to be there",
    ),
    Row("no device can be made", None, "mknod /tmp/m c 1 3 2>/dev/null || echo refused", "refused"),
    Row("/dev/pts", None, "stat -c '%a' /dev/pts/ptmx; test -c /dev/ptmx && echo there", "666\nthere"),
    Row("/sys belongs to nobody", None, "stat -c %u /sys; ls /sys/class/net", "65534\nlo"),
    Row(
        "/proc/sys belongs to nobody",
        setting("linux.readonlyPaths", []),
        "echo 1 > /proc/sys/kernel/panic; cat /proc/sys/kernel/panic",
        Path("/proc/sys/kernel/panic").read_text().strip(),
    ),
    Row("pids limit", setting("linux.resources.pids", {"limit": 17}), show("pids.max", "pids/pids.max"), "17"),
    Row(
        "/sys/fs/cgroup is the machine's to write",
        setting("linux.resources.pids", {"limit": 17}),
        "for f in $(find /sys/fs/cgroup -name pids.max); do echo 99 > $f; done 2>/dev/null; "
        + show("pids.max", "pids/pids.max"),
        "17",
    ),
    Row(
        "a machine's file is nobody's",
        mount("/one", "bind", "/etc/passwd", "bind"),
        "stat -c '%u %g' /one",
        "65534 65534",
    ),
    Row("read-only root", setting("root.readonly", True), "touch /x 2>/dev/null || echo refused", "refused"),
    Row("terminal is none", None, "tty", "not a tty", code=1),
    Row(
        "the machine's network",
        namespace("network", keep=False),
        "ls /sys/class/net | wc -l",
        str(len(os.listdir("/sys/class/net"))),
        peer="runc cannot mount sysfs then",
    ),
    Row(
        "the machine's IPC",
        namespace("ipc", keep=False),
        "readlink /proc/self/ns/ipc",
        os.readlink("/proc/self/ns/ipc"),
        peer="runc cannot mount mqueue then",
    ),
    Row(
        "time namespace",
        all_of(
            setting("ociVersion", "1.1.0"),
            namespace("time"),
            setting("linux.timeOffsets", {"boottime": {"secs": 1_000_000}}),
        ),
        "test $(cut -d. -f1 /proc/uptime) -gt 1000000 && echo later",
        "later",
        peer="time namespaces came with runc 1.2",
    ),
    Row(
        "several ranges",
        all_of(
            setting(
                "linux.uidMappings",
                [
                    {"containerID": 0, "hostID": UIDS, "size": 1},
                    {"containerID": 1000, "hostID": UIDS + 70000, "size": 2},
                ],
            ),
            setting("process.user", {"uid": 1001, "gid": 6}),
        ),
        "id -u; tr -s ' ' < /proc/self/uid_map | wc -l",
        "1001\n2",
    ),
    # what the kernel or the runtime refuses; `code` is runc's
    Row(
        "ranges that overlap inside",
        setting(
            "linux.uidMappings",
            [{"containerID": 0, "hostID": UIDS, "size": 10}, {"containerID": 5, "hostID": UIDS + 100, "size": 10}],
        ),
        NEVER,
        code=1,
    ),
    Row(
        "ranges that overlap outside",
        setting(
            "linux.gidMappings",
            [{"containerID": 0, "hostID": GIDS, "size": 10}, {"containerID": 100, "hostID": GIDS + 9, "size": 10}],
        ),
        NEVER,
        code=1,
    ),
    Row("no mappings", all_of(setting("linux.uidMappings", []), setting("linux.gidMappings", [])), NEVER, code=1),
    Row(
        "root is not mapped",
        setting("linux.uidMappings", [{"containerID": 1, "hostID": UIDS, "size": 10}]),
        NEVER,
        code=1,
    ),
    Row("the user is not mapped", setting("process.user", {"uid": SIZE, "gid": 0}), NEVER, code=1),
    Row("mappings without a namespace", namespace("user", keep=False), NEVER, code=1, peer="runc runs it without"),
]


@pytest.mark.parametrize("row", ROWS, ids=[row.name for row in ROWS])
def test_configuration(bench: Bench, row: Row) -> None:
    if bench.name == "runc" and row.peer:
        pytest.skip(row.peer)
    result = bench.run(all_of(mapped, row.change) if row.change else mapped, row.command)
    assert (result.out.strip(), result.code) == (row.out, row.code), result.err
    if row.code and bench.name != "runc":
        assert result.err.count("\n") <= 1


@pytest.mark.parametrize("kind", ["cgroup", "ipc", "mount", "network", "pid", "uts"])
def test_the_namespace_owns_the_others(bench: Bench, kind: str) -> None:
    """Each new namespace belongs to the user namespace: its root may do there what that kind of root may."""
    acts = {
        "cgroup": "true",
        "ipc": "mount -t mqueue none /tmp && grep -c ' /tmp ' /proc/self/mounts",
        "mount": "mount -t tmpfs none /tmp && grep -c ' /tmp ' /proc/self/mounts",
        "network": "ip link set lo up && ip -o link show up | wc -l",
        "pid": "kill -0 1 && echo $$",
        "uts": "hostname other && hostname",
    }
    wanted = {"cgroup": "", "ipc": "1", "mount": "1", "network": "1", "pid": "1", "uts": "other"}[kind]
    rights = {
        kind: ["CAP_SYS_ADMIN", "CAP_NET_ADMIN", "CAP_SYS_RESOURCE"] for kind in ("bounding", "effective", "permitted")
    }
    change = all_of(
        mapped,
        setting("process.capabilities", rights),
        setting("linux.readonlyPaths", []),
        setting("linux.seccomp", None),
    )
    result = bench.run(change, acts[kind])
    assert (result.out.strip(), result.code) == (wanted, 0), result.err


def started(bench: Bench) -> str:
    """A container that waits, with a /tmp for all."""
    os.chmod(bench.bundle / "rootfs/tmp", 0o1777)
    bench.configure(mapped, "sleep 1000")
    container = bench.id()
    result = bench.call("create", container)
    assert result.code == 0, result.err
    assert bench.call("start", container).code == 0
    return container


def test_exec(bench: Bench) -> None:
    container = started(bench)
    look = "id -u; id -G; tr -s ' ' < /proc/self/uid_map; touch /tmp/e; stat -c %u /tmp/e"
    result = bench.call("exec", "--user", "5:6", container, "sh", "-c", look)
    assert result.out.splitlines()[:4] == ["5", "6", f" 0 {UIDS} {SIZE}", "5"], result.err
    assert bench.call("exec", container, "sh", "-c", "exit 9").code == 9
    files = bench.bundle / "rootfs/tmp/e"
    assert (files.stat().st_uid, files.stat().st_gid) == (UIDS + 5, GIDS + 6)
    files.unlink()
    bench.call("kill", container, "KILL")
    until(bench, container, "stopped")


def test_terminals(bench: Bench) -> None:
    """Of the first process and of exec: the container's own, and its user's."""
    look = "stat -c '%u' $(tty); echo said > $(tty)"
    bench.configure(all_of(mapped, setting("process.terminal", True)), look)
    assert in_a_terminal(bench, "run", bench.id()) == (0, ["0", "said"])
    container = started(bench)
    assert in_a_terminal(bench, "exec", "--tty", container, "sh", "-c", look) == (0, ["0", "said"])


def in_a_terminal(bench: Bench, *words: str) -> tuple[int, list[str]]:
    """Run the runtime in a terminal; returns its exit status and the lines that came."""
    command = [*RUNTIMES[bench.name], "--root", str(bench.folder / "root"), *words]
    pid, terminal = pty.fork()
    if pid == 0:
        os.chdir(bench.bundle)
        os.execvp(command[0], command)
    lines = read_until(terminal, "said").split()
    status = os.waitpid(pid, 0)[1]
    os.close(terminal)
    return os.waitstatus_to_exitcode(status), lines


def test_a_namespace_is_joined(bench: Bench) -> None:
    """All namespaces of a first container by path, the user's among them."""
    first = started(bench)
    pid = json.loads(bench.call("state", first).out)["pid"]

    def join(config: Config) -> None:
        names = {"ipc": "ipc", "network": "net", "pid": "pid", "user": "user", "uts": "uts"}
        for entry in config["linux"]["namespaces"]:
            if entry["type"] in names:
                entry["path"] = f"/proc/{pid}/ns/{names[entry['type']]}"

    look = "for n in user net ipc uts pid; do readlink /proc/self/ns/$n; done; id -u; stat -c %u /bin; cat /proc/1/comm"
    result = bench.run(all_of(mapped, join), look)
    there = [os.readlink(f"/proc/{pid}/ns/{name}") for name in ("user", "net", "ipc", "uts", "pid")]
    assert result.out.split() == [*there, "0", "0", "sleep"], result.err


@contextmanager
def owned(uid: int, gid: int) -> Iterator[str]:
    """A folder of the machine with a file of somebody's, and another mount with such a file below it.

    Not on a tmpfs, as /tmp may be: kernels before 6.3 cannot map that.
    """
    with (
        tempfile.TemporaryDirectory(prefix="userns-", dir="/var/tmp") as folder,
        tempfile.TemporaryDirectory(prefix="userns-", dir="/var/tmp") as other,
    ):
        below = Path(folder, "below")
        below.mkdir()
        subprocess.run(["mount", "--bind", other, str(below)], check=True)
        try:
            for place in (Path(folder), below):
                (place / "file").touch()
                os.chown(place / "file", uid, gid)
                os.chown(place, uid, gid)
                os.chmod(place, 0o755)
            yield folder
        finally:
            subprocess.run(["umount", str(below)], check=True)


def test_mounts_are_id_mapped(bench: Bench) -> None:
    if bench.name == "runc":
        pytest.skip(ID_MAPPED)
    look = "stat -c '%u %g' /m/file /m/below/file; touch /m/new && echo made"
    with owned(0, 0) as folder:
        result = bench.run(all_of(mapped, idmap(folder, "ridmap")), look)
        assert result.out.split("\n")[:3] == ["0 0", "0 0", "made"], result.err
        made = Path(folder, "new").stat()
        assert (made.st_uid, made.st_gid) == (0, 0)
        result = bench.run(all_of(mapped, idmap(folder, "idmap")), look)
        assert result.out.split("\n")[:3] == ["0 0", "65534 65534", "made"], result.err
    with owned(500, 600) as folder:
        result = bench.run(all_of(mapped, idmap(folder, "ridmap", explicit=True)), look)
        assert result.out.split("\n")[:3] == ["0 0", "0 0", "made"], result.err
        made = Path(folder, "new").stat()
        assert (made.st_uid, made.st_gid) == (500, 600)


def test_a_mount_that_cannot_be_id_mapped(bench: Bench) -> None:
    if bench.name == "runc":
        pytest.skip(ID_MAPPED)
    result = bench.run(all_of(mapped, idmap("/proc", "idmap")), "true")
    assert result.code == 1
    assert "cannot map owners" in result.err
    assert bench.run(idmap("/tmp", "idmap"), "true").code == 1  # neither mappings nor a user namespace


def test_hooks_and_a_failing_program_leave_nothing(bench: Bench) -> None:
    before = set(os.listdir("/proc"))
    result = bench.run(all_of(mapped, setting("process.args", ["no-such-program"])))
    assert result.code == 1
    assert "no-such-program" in result.err
    deadline = time.monotonic() + 20
    while [pid for pid in set(os.listdir("/proc")) - before if pid.isdigit() and _is_ours(pid, bench)]:
        assert time.monotonic() < deadline
        time.sleep(0.05)


def _is_ours(pid: str, bench: Bench) -> bool:
    try:
        return str(bench.folder).encode() in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False
