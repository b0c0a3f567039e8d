"""Attacks on the runtime from inside a container or its bundle, each beside its benign twin.

`make test` runs them on our runtime with few starts in the races; `make attacks` (PYCOMPOSE_ATTACKS=full) with
10,000, and on Debian's runc too, and prints both in one table.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from oci.bundles import RUNTIMES, Bench, Change, Config, adding, all_of, setting

from pycompose.worker.runtime import oci

STARTS = 10_000 if os.environ.get("PYCOMPOSE_ATTACKS") == "full" else 15
DEFAULT_CAPABILITIES = "00000000a80425fb"
ALL = ("bounding", "effective", "permitted")


def mount(destination: str, kind: str, source: str, *options: str) -> Change:
    return adding("mounts", {"destination": destination, "type": kind, "source": source, "options": list(options)})


def capability(*names: str) -> Change:
    """The default capabilities and more."""
    return setting("process.capabilities", {kind: [*oci.DEFAULT_CAPABILITIES, *names] for kind in ALL})


def machine_python(config: Config) -> None:
    """The machine's Python in the container, read-only: a program that can call any system call."""
    places = {Path(place) for place in ("/usr", "/lib", "/lib64", sys.base_prefix)}
    for place in sorted(places):
        if place.is_dir():
            made = {"destination": str(place), "type": "bind", "source": str(place), "options": ["rbind", "ro"]}
            config["mounts"].append(made)


def python(script: str) -> Change:
    """Run a Python script in the container."""
    return all_of(machine_python, setting("process.args", [os.path.realpath(sys.executable), "-I", "-c", script]))


@pytest.fixture
def victim(tmp_path: Path) -> Iterator[Path]:
    """A file of the machine that must stay as it is."""
    path = tmp_path / "victim"
    path.write_text("VICTIM\n")
    before = {name: Path(name).read_bytes() for name in ("/etc/passwd", "/proc/sys/kernel/core_pattern")}
    null = os.stat("/dev/null")
    yield path
    assert {name: Path(name).read_bytes() for name in before} == before
    assert (os.stat("/dev/null").st_mode, os.stat("/dev/null").st_uid) == (null.st_mode, null.st_uid)


def digest(path: str) -> str:
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()


def test_the_interpreter_cannot_be_overwritten_at_start(bench: Bench, victim: Path) -> None:
    """A01: a program that is `#!/proc/self/exe` becomes the runtime's own interpreter, inside the container."""
    before = digest(os.path.realpath(sys.executable))
    evil = bench.bundle / "rootfs/evil"
    evil.write_text(
        "#!/proc/self/exe\nimport os\ntry:\n    os.open('/proc/self/exe', os.O_WRONLY)\n    print('OPEN')\n"
        "except OSError:\n    print('read-only', os.statvfs('/proc/self/exe').f_flag & os.ST_RDONLY)\n"
    )
    evil.chmod(0o755)
    result = bench.run(all_of(machine_python, setting("process.args", ["/evil"])))
    assert "OPEN" not in result.out
    assert digest(os.path.realpath(sys.executable)) == before
    if bench.name != "runc":  # the peer is no Python: there the script is no program
        assert result.out == "read-only 1\n", result.err


def test_what_enters_a_container_cannot_be_reached(bench: Bench) -> None:
    """A02: a loop in the container tries every newcomer's program, descriptors and root while `exec` runs."""
    hunt = (
        "while :; do for p in /proc/[0-9]*; do case $(readlink $p/exe) in ''|/bin/busybox) ;; *) "
        "echo seen $(readlink $p/exe); ( : >> $p/exe ) 2>/dev/null && echo WRITTEN; ls $p/root/evidence 2>/dev/null;; "
        "esac; done; done"
    )
    bench.configure(capability("CAP_SYS_PTRACE"), hunt)
    container = bench.id()
    bench.call("create", container)
    bench.call("start", container)
    output = bench.folder / "out"
    for _ in range(max(20, STARTS // 50)):
        assert bench.call("exec", container, "true").code == 0
    bench.call("kill", container, "KILL")
    assert "WRITTEN" not in output.read_text()


@pytest.mark.parametrize("number", [*range(3, 16), 33, 63])
def test_a_working_directory_is_no_way_out(bench: Bench, number: int) -> None:
    """A03: the runtime's descriptors as working directory, directly, by a link, and by exec."""
    link = bench.bundle / "rootfs/w"
    link.unlink(missing_ok=True)
    link.symlink_to(f"/proc/self/fd/{number}")
    for place in (f"/proc/self/fd/{number}", "/w"):
        result = bench.run(setting("process.cwd", place), "pwd; cat ../../../../../../etc/passwd")
        assert "root:" not in result.out
    bench.configure(None, "sleep 1000")
    container = bench.id()
    bench.call("create", container)
    bench.call("start", container)
    result = bench.call("exec", "--cwd", f"/proc/self/fd/{number}", container, "cat", "../../../../../etc/passwd")
    assert "root:" not in result.out
    link.unlink()


def test_no_descriptor_leaks(bench: Bench) -> None:
    """A04: what the caller holds open does not reach the program, in run and in exec."""
    secret = bench.folder / "secret"
    secret.write_text("secret")
    look = "for f in /proc/self/fd/*; do readlink $f; done; true"
    bench.configure(None, look)
    with open(secret) as held, open(secret) as other:
        for fd in (held.fileno(), other.fileno()):
            os.set_inheritable(fd, True)
        command = [*RUNTIMES[bench.name], "--root", str(bench.folder / "root"), "run", bench.id()]
        done = subprocess.run(
            command, cwd=bench.bundle, capture_output=True, text=True, stdin=subprocess.DEVNULL, close_fds=False
        )
    assert done.returncode == 0
    kept = [line for line in done.stdout.splitlines() if not line.startswith(("pipe:", "/dev/null", "/proc/"))]
    assert kept == []


@contextmanager
def exchanging(one: Path, other: Path) -> Iterator[None]:
    """Swap two names as fast as can be (renameat2(2), RENAME_EXCHANGE)."""
    script = (
        "import ctypes, sys\nlibc = ctypes.CDLL(None)\na, b = (p.encode() for p in sys.argv[1:])\n"
        "while True: libc.renameat2(-100, a, -100, b, 2)\n"
    )
    with subprocess.Popen([sys.executable, "-c", script, str(one), str(other)]) as running:
        try:
            yield
        finally:
            running.kill()


def test_a_mount_point_swapped_during_the_start(bench: Bench, tmp_path: Path, victim: Path) -> None:
    """A05: the way to a mount point turns into a link that leads out while the mount is made."""
    outside, volume = tmp_path / "outside", tmp_path / "volume"
    outside.mkdir()
    (volume / "a").mkdir(parents=True)
    (volume / "x").symlink_to("/" + "../" * 12 + str(outside).lstrip("/"))
    change = all_of(mount("/vol", "bind", str(volume), "bind"), mount("/vol/a/b/c", "tmpfs", "tmpfs"))
    good = 0
    with exchanging(volume / "a", volume / "x"):
        for _ in range(STARTS):
            good += bench.run(change).code == 0
    escaped = bool(list(outside.iterdir()))
    assert not escaped
    assert good  # its benign twin: starts that met the real directory
    assert str(outside) not in Path("/proc/self/mountinfo").read_text()


@pytest.mark.parametrize(
    "place",
    ["/proc", "//proc", "/proc/.", "/x/../proc", "/proc/self/attr", "/proc/sys/kernel", "/proc/1", "/dev/../proc/1"],
)
@pytest.mark.parametrize("kind", ["bind", "tmpfs"])
def test_nothing_of_ones_own_over_proc(bench: Bench, tmp_path: Path, place: str, kind: str) -> None:
    """A07: a volume on or below /proc would take over what the runtime and the program trust."""
    (tmp_path / "own").mkdir()
    change = mount(place, kind, str(tmp_path / "own"), *(("bind",) if kind == "bind" else ()))
    result = bench.run(change, "echo started")
    assert "started" not in result.out
    assert result.code != 0
    if bench.name != "runc":
        assert result.err.count("\n") == 1
        assert "Traceback" not in result.err


def test_mounts_that_are_allowed(bench: Bench, tmp_path: Path) -> None:
    """A07's benign twin: /proc itself as procfs, and volumes elsewhere, also by tricky names."""
    change = all_of(mount("/x/../data", "tmpfs", "tmpfs"), mount("//deep//er", "tmpfs", "tmpfs"))
    assert bench.run(change, "grep -c -E ' /(data|deep/er) ' /proc/self/mounts").out == "2\n"


@pytest.mark.parametrize("null", ["a link to the victim", "missing", "a fifo"])
def test_a_masked_path_stays_masked(bench: Bench, victim: Path, tmp_path: Path, null: str) -> None:
    """A08: /dev is the attacker's, so that what masks would be his file."""
    device = tmp_path / "dev"
    device.mkdir()
    if null == "a fifo":
        os.mkfifo(device / "null")
    elif null != "missing":
        (device / "null").symlink_to(victim)
    (bench.bundle / "rootfs/masked").write_text("MASKED\n")

    def change(config: Config) -> None:
        config["mounts"] = [entry for entry in config["mounts"] if not entry["destination"].startswith("/dev")]
        config["mounts"].append({"destination": "/dev", "type": "bind", "source": str(device), "options": ["bind"]})
        config["mounts"].append(
            {"destination": str(victim), "type": "bind", "source": str(victim), "options": ["bind"]}
        )
        config["linux"]["maskedPaths"] = ["/masked"]
        config["linux"]["devices"] = []

    try:
        result = bench.run(change, "cat /masked; echo OVERWRITTEN > /masked; cat /masked")
    except subprocess.TimeoutExpired:
        pytest.fail("it hangs")
    finally:
        (bench.bundle / "rootfs/masked").unlink()
    assert "MASKED" not in result.out
    assert "VICTIM" not in result.out
    assert "OVERWRITTEN" not in result.out
    assert victim.read_text() == "VICTIM\n"


def test_sysctls_are_set_inside_or_the_start_fails(bench: Bench, victim: Path) -> None:
    """A10: /proc/sys of the root file system is the attacker's directory of links to the machine's settings."""
    place = bench.bundle / "rootfs/proc/sys/net/ipv4"
    place.mkdir(parents=True)
    (place / "ip_unprivileged_port_start").symlink_to("/proc/sys/kernel/core_pattern")
    host = Path("/proc/sys/net/ipv4/ip_unprivileged_port_start").read_text()
    name = "net.ipv4.ip_unprivileged_port_start"
    try:
        result = bench.run(setting("linux.sysctl", {name: "81"}), "cat /proc/sys/net/ipv4/ip_unprivileged_port_start")
        assert result.out == "81\n" or result.code != 0
    finally:
        shutil.rmtree(bench.bundle / "rootfs/proc/sys")
    assert Path("/proc/sys/net/ipv4/ip_unprivileged_port_start").read_text() == host


def test_cgroup_files_are_out_of_reach(bench: Bench) -> None:
    """A12: release_agent would run a program on the machine."""
    script = (
        "mkdir /tmp/c; mount -t cgroup -o rdma c /tmp/c 2>/dev/null && echo MOUNTED; "
        "unshare -UrmC sh -c 'mount -t cgroup -o rdma c /tmp/c' 2>/dev/null && echo MOUNTED; "
        "for f in /sys/fs/cgroup/*/release_agent /sys/fs/cgroup/*/notify_on_release /sys/fs/cgroup/*/cgroup.procs "
        "/sys/fs/cgroup/*/tasks /sys/fs/cgroup/memory/memory.limit_in_bytes; do "
        "{ echo 1 > $f; } 2>/dev/null && echo WRITTEN $f; done; mkdir /sys/fs/cgroup/*/child 2>/dev/null && echo MADE; "
        "cat /sys/fs/cgroup/memory/memory.limit_in_bytes; rmdir /tmp/c"
    )
    result = bench.run(setting("linux.resources.memory", {"limit": 67108864}), script)
    assert result.out == "67108864\n"


@pytest.mark.parametrize("way", ["run", "exec"])
def test_capabilities_are_exact(bench: Bench, way: str) -> None:
    """A13: run and exec have Docker's default set, an ordinary user has none in effect."""
    show = "grep ^Cap /proc/self/status | tr -d '\\t'"
    for user, effective in (({"uid": 0, "gid": 0}, DEFAULT_CAPABILITIES), ({"uid": 1000, "gid": 1000}, "0" * 16)):
        if way == "run":
            result = bench.run(setting("process.user", user), show)
        else:
            bench.configure(setting("process.user", user), "sleep 1000")
            container = bench.id()
            bench.call("create", container)
            bench.call("start", container)
            result = bench.call("exec", container, "sh", "-c", show)
            bench.clear()
        found = dict(line.split(":") for line in result.out.split())
        assert found["CapInh"] == found["CapAmb"] == "0" * 16
        assert found["CapBnd"] == DEFAULT_CAPABILITIES
        assert found["CapEff"] == effective


def test_masked_paths_cannot_be_uncovered(bench: Bench) -> None:
    """A14: every masked path that this machine has, by every way to it."""
    masked = [path for path in oci.DEFAULT_MASKED_PATHS if os.path.exists(path)]
    script = "; ".join(
        f"[ -d {path} ] && ls {path} | grep -q . && echo LISTED {path}; "
        f"[ -f {path} ] && grep -q . {path} && echo READ {path}; "
        f"umount {path} 2>/dev/null && echo UNMOUNTED {path}; "
        f"{{ cat /proc/self/root{path} /proc/1/root{path}; }} 2>/dev/null | grep -q . && echo READ BY ROOT {path}"
        for path in masked
    )
    result = bench.run(capability("CAP_DAC_OVERRIDE"), script + "; echo done")
    assert result.out == "done\n", result.out


def test_no_new_privileges_and_groups(bench: Bench) -> None:
    """A15: a setuid program stays the user; the daemon's own groups do not come along."""
    helper = bench.bundle / "rootfs/setuid-id"
    shutil.copy("/usr/bin/id", helper)
    helper.chmod(0o4755)
    user = setting("process.user", {"uid": 1000, "gid": 1000, "additionalGids": [27]})
    try:
        for option, effective in ((True, "1000"), (False, "0")):
            change = all_of(machine_python, user, setting("process.noNewPrivileges", option))
            assert bench.run(change, "id -G; exec /setuid-id -u").out == f"1000 27\n{effective}\n"
    finally:
        helper.unlink()


#: /dev/mem, kmem, fuse, net/tun, kmsg
DEVICES = ((1, 1), (1, 2), (10, 229), (10, 200), (1, 11))


def test_devices_are_closed(bench: Bench) -> None:
    """A16: nodes can be made, and not opened, before and after an update of limits."""
    disk = os.stat("/").st_dev
    numbers = [f"b {os.major(disk)} {os.minor(disk)}", *(f"c {major} {minor}" for major, minor in DEVICES)]
    tries = "; ".join(
        f"rm -f /tmp/n; mknod /tmp/n {number} && ( : < /tmp/n ) 2>/dev/null && echo OPENED {number}"
        for number in numbers
    )
    bench.configure(None, "sleep 1000")
    container = bench.id()
    bench.call("create", container)
    bench.call("start", container)
    assert (
        bench.call("exec", container, "sh", "-c", tries + "; rm -f /tmp/n; : < /dev/zero && echo fine").out == "fine\n"
    )
    assert bench.call("update", "--pids-limit", "42", container).code == 0
    assert (
        bench.call("exec", container, "sh", "-c", tries + "; rm -f /tmp/n; : < /dev/zero && echo fine").out == "fine\n"
    )


#: System call (x86_64, the others' numbers are not tried) -> the errno that it must give with the default profile.
REFUSED = {
    "unshare": (272, 1),
    "mount": (165, 1),
    "setns": (308, 1),
    "bpf": (321, 1),
    "fsopen": (430, 1),
    "open_tree": (428, 1),
    "move_mount": (429, 1),
    "perf_event_open": (298, 1),
    "keyctl": (250, 1),
    "add_key": (248, 1),
    "userfaultfd": (323, 1),
    "open_by_handle_at": (304, 1),
    "io_uring_setup": (425, 1),
    "clone3": (435, 38),
    "kexec_load": (246, 1),
    "init_module": (175, 1),
    "an unknown one": (999, 38),
}


@pytest.mark.skipif(os.uname().machine != "x86_64", reason="numbers of x86_64")
def test_system_calls_are_refused(bench: Bench) -> None:
    """A17: what Docker's default profile refuses, also by the x32 numbers; ENOSYS where a libc can fall back."""
    script = (
        "import ctypes, json\nlibc = ctypes.CDLL(None, use_errno=True)\n"
        f"calls = { ({name: number for name, (number, _) in REFUSED.items()})!r}\nfound = {{}}\n"
        "for name, number in calls.items():\n    for bit in (0, 1 << 30):\n"
        "        result = libc.syscall(ctypes.c_long(number | bit), 0, 0, 0, 0, 0)\n"
        "        found[name + (' x32' if bit else '')] = ctypes.get_errno() if result < 0 else 'DONE'\n"
        "print(json.dumps(found))\n"
    )
    result = bench.run(python(script))
    assert result.code == 0, result.err
    found = json.loads(result.out)
    for name, (_, number) in REFUSED.items():
        assert found[name] == number, (name, found)
        assert found[f"{name} x32"] in (1, 38), (name, found)


def test_the_runtime_runs_nothing_of_the_image(bench: Bench) -> None:
    """A18: poisoned modules and programs where Python and libc would look for them."""
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    root = bench.bundle / "rootfs"
    poison = "#!/bin/sh\ntouch /pwned\n"
    modules = "open('/pwned', 'w')\n"
    names = ("_strptime", "traceback", "linecache", "pwd", "sitecustomize", "encodings/idna")
    prefixes = (f"usr/lib/{version}", f"usr/local/lib/{version}", sys.base_prefix.lstrip("/") + f"/lib/{version}")
    for path in [f"{prefix}/{name}.py" for prefix in prefixes for name in names]:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(modules)
    (root / "usr/bin").mkdir(parents=True, exist_ok=True)
    for name in ("tar", "gzip", "xz", "git", "newuidmap"):
        (root / "usr/bin" / name).write_text(poison)
        (root / "usr/bin" / name).chmod(0o755)
    bench.configure(None, "sleep 1000")
    container = bench.id()
    try:
        bench.call("create", container)
        bench.call("start", container)
        assert bench.call("exec", "--user", "7", container, "true").code == 0
        assert bench.call("exec", container, "missing").code == 255
        bench.clear()
        assert bench.run(setting("process.args", ["missing"])).code == 1
        assert not (root / "pwned").exists()
    finally:
        for name in ("usr", sys.base_prefix.split("/")[1]):
            shutil.rmtree(root / name, ignore_errors=True)


def test_files_of_the_image_cannot_hang_the_runtime(bench: Bench) -> None:
    """A20: account files and the runtime's own source paths are FIFOs in the image."""
    root = bench.bundle / "rootfs"
    source = Path(oci.__file__).resolve()
    for path in (root / "etc/passwd", root / "etc/group", root / str(source).lstrip("/")):
        path.parent.mkdir(parents=True, exist_ok=True)
        os.mkfifo(path)
    try:
        started = time.monotonic()
        change = all_of(setting("process.user", {"uid": 1, "gid": 0}), setting("process.args", ["/bin/true"]))
        assert bench.run(change).code == 0
        assert bench.run(setting("process.args", ["missing"])).code == 1
        assert time.monotonic() - started < 30
    finally:
        (root / "etc/passwd").unlink()
        (root / "etc/group").unlink()
        shutil.rmtree(root / str(source).split("/")[1], ignore_errors=True)
