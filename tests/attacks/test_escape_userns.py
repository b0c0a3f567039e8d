"""Attacks by the root of a user namespace that has every capability there, each beside what it may do.

Group A of the attacks, for containers that do not share the machine's users (user_namespaces(7), capabilities(7)).
"""

from __future__ import annotations

import os
import stat
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from attacks.conftest import FULL
from attacks.tools import machine_python, mount, python
from oci import bundles
from oci.bundles import Bench, Change, Config, all_of, setting
from oci.test_config import namespace
from oci.test_userns import GIDS, UIDS, mapped, mapped_bench

from pycompose.worker.runtime.capabilities import held


@pytest.fixture(scope="module", params=list(bundles.RUNTIMES)[: None if FULL else 1])
def runtime(request: pytest.FixtureRequest) -> Iterator[Bench]:
    """The runtime under attack."""
    with mapped_bench(request.param) as found:
        yield found


def all_rights(config: Config) -> None:
    """Every capability, no filter, nothing read-only or hidden, every device: only the users are others."""
    mapped(config)
    config["process"]["capabilities"] = {kind: held() for kind in ("bounding", "effective", "permitted")}
    linux = config["linux"]
    linux.pop("seccomp", None)
    linux["maskedPaths"], linux["readonlyPaths"] = [], []
    linux["resources"] = {"devices": [{"allow": True, "access": "rwm"}]}
    for entry in config["mounts"]:
        entry["options"] = [option for option in entry["options"] if option != "ro"]


@contextmanager
def folder(owner: tuple[int, int] = (0, 0), mode: int = 0o755) -> Iterator[Path]:
    """A folder of the machine."""
    with tempfile.TemporaryDirectory(prefix="userns-") as name:
        os.chown(name, *owner)
        os.chmod(name, mode)
        yield Path(name)


def bound(place: Path) -> Change:
    return mount("/m", "bind", str(place), "rbind")


@pytest.mark.attack("A15")
def test_a_setuid_program_is_nobodys_on_the_machine(bench: Bench) -> None:
    """In a user namespace: a set-user-ID file left for the machine's users."""
    with folder(mode=0o1777) as place:
        change = all_of(all_rights, machine_python, bound(place))
        assert bench.run(change, "cp /usr/bin/id /m/id && chown 0:0 /m/id && chmod 4755 /m/id").code == 0
        made = (place / "id").stat()
        assert made.st_mode & stat.S_ISUID
        assert (made.st_uid, made.st_gid) == (UIDS, GIDS)
        words = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", str(place / "id"), "-u"]
        assert subprocess.run(words, capture_output=True, text=True).stdout.strip() == str(UIDS)
        # the twin: inside it makes its user root
        inside = bench.run(all_of(change, setting("process.user", {"uid": 5, "gid": 5})), "/usr/bin/id -u; /m/id -u")
        assert inside.out == "5\n0\n", inside.err


def test_files_of_the_machine(bench: Bench) -> None:
    """Its root reads, changes and takes over nothing of the machine's root; what is for all it reads."""
    with folder() as place:
        for name, mode in (("secret", 0o600), ("open", 0o644)):
            (place / name).write_text(name)
            (place / name).chmod(mode)
        attacks = (
            "cat /m/secret", "echo x > /m/open", "chown 0 /m/secret", "chmod 666 /m/secret", "rm -f /m/open",
            "touch /m/new", "ln /m/secret /m/link", "mv /m/secret /tmp/s", "mknod /m/null c 1 3",
        )  # fmt: skip
        script = "; ".join(f"({attack}) 2>/dev/null && echo DONE: {attack}" for attack in attacks)
        result = bench.run(all_of(all_rights, bound(place)), f"{script}; cat /m/open")
        assert result.out == "open"
        assert sorted(os.listdir(place)) == ["open", "secret"]
        assert (place / "secret").stat().st_uid == 0


def test_another_containers_files(bench: Bench) -> None:
    """A folder that belongs to another range; its owner may do all of it."""
    own = (UIDS, GIDS)
    script = "cat /m/file; echo more >> /m/file; chown 7 /m/file; ls /m | wc -l; stat -c %u /m/file"
    for owner, wanted in (((own[0] + 65_536, own[1] + 65_536), ["0", ""]), (own, ["data", "1", "7"])):
        with folder(owner, 0o700) as place:
            (place / "file").write_text("data\n")
            os.chown(place / "file", *owner)
            os.chmod(place / "file", 0o600)
            result = bench.run(all_of(all_rights, bound(place)), script)
            assert result.out.split() == [word for word in wanted if word], result.err
            assert (place / "file").read_text() == ("data\nmore\n" if owner == own else "data\n")


@pytest.mark.attack("A16")
def test_devices(bench: Bench) -> None:
    """In a user namespace with every device allowed: nodes that lie about."""
    with folder() as place:
        os.mknod(place / "memory", stat.S_IFCHR | 0o640, os.makedev(1, 1))
        os.mknod(place / "for-all", stat.S_IFBLK | 0o640, os.stat("/").st_dev)
        script = (
            "for n in memory for-all; do head -c 1 /m/$n >/dev/null 2>&1 && echo READ $n; done; "
            "mknod /tmp/d b 8 0 2>/dev/null && echo MADE; mknod /dev/d c 1 3 2>/dev/null && echo MADE; "
            "echo x > /dev/null && echo usable"
        )
        assert bench.run(all_of(all_rights, bound(place)), script).out == "usable\n"


@pytest.mark.attack("A12")
def test_settings_of_the_machine(bench: Bench) -> None:
    """In a user namespace with every capability: the machine's settings and groups."""
    before = {name: Path(name).read_bytes() for name in ("/proc/sys/kernel/core_pattern", "/proc/sys/vm/swappiness")}
    script = (
        "for f in kernel/core_pattern vm/swappiness kernel/panic fs/file-max; do "
        "(echo 1 > /proc/sys/$f) 2>/dev/null && echo WROTE $f; done; "
        "(echo b > /proc/sysrq-trigger) 2>/dev/null && echo WROTE sysrq; "
        "(echo 1 > /sys/kernel/uevent_helper) 2>/dev/null && echo WROTE helper; "
        "for f in $(find /sys/fs/cgroup -name release_agent -o -name cgroup.procs | head -20); do "
        "(echo /x > $f) 2>/dev/null && echo WROTE $f; done; "
        "swapoff -a 2>/dev/null; date -s 2001-01-01 >/dev/null 2>&1; date +%Y | grep 2001; dmesg -c >/dev/null 2>&1; "
        "echo 1 > /proc/sys/net/ipv4/ip_forward && cat /proc/sys/net/ipv4/ip_forward"
    )
    result = bench.run(all_rights, script)
    assert result.out == "1\n", result.err
    assert {name: Path(name).read_bytes() for name in before} == before


HANDLES = """
import ctypes, os
libc = ctypes.CDLL(None, use_errno=True)
place = os.open("/m", os.O_RDONLY)
handle = (ctypes.c_uint8 * 136)(); (ctypes.c_uint32 * 2).from_buffer(handle)[0] = 128
mount = ctypes.c_int()
made = libc.name_to_handle_at(place, b"file", ctypes.byref(handle), ctypes.byref(mount), 0)
found = libc.open_by_handle_at(place, ctypes.byref(handle), os.O_RDONLY) if made == 0 else -2
print("named" if made == 0 else "unnamed", "opened" if found >= 0 else os.strerror(ctypes.get_errno()))
"""


@pytest.mark.attack("A17")
def test_files_by_handle(bench: Bench) -> None:
    """In a user namespace with every capability: files by number ("shocker")."""
    with folder() as place:
        (place / "file").write_text("data")
        attack = bench.run(all_of(all_rights, bound(place), python(HANDLES)))
        assert attack.out == "named Operation not permitted\n", attack.err

        def plain(config: Config) -> None:
            all_rights(config)
            linux = config["linux"]
            linux["namespaces"] = [entry for entry in linux["namespaces"] if entry["type"] != "user"]
            linux.pop("uidMappings"), linux.pop("gidMappings")

        twin = bench.run(all_of(plain, bound(place), python(HANDLES)))
        assert twin.out == "named opened\n", twin.err


def test_processes_of_the_machine(bench: Bench) -> None:
    """It sees them where it shares their numbers, and can neither signal nor look into them; its own it can."""
    if bench.name == "runc":
        pytest.skip("runc cannot mount /proc in a user namespace that shares the machine's pids")
    victim = subprocess.Popen(["sleep", "1000"])
    try:
        script = (
            f"p={victim.pid}; kill -9 $p 2>/dev/null && echo KILLED; "
            "cat /proc/$p/environ >/dev/null 2>&1 && echo READ; ls /proc/$p/root/ >/dev/null 2>&1 && echo ROOT; "
            "(echo 5 > /proc/$p/oom_score_adj) 2>/dev/null && echo SCORE; "
            "nsenter -t $p -m true 2>/dev/null && echo ENTERED; sleep 100 & kill -9 $! && echo own"
        )
        result = bench.run(all_of(all_rights, namespace("pid", keep=False)), script)
        assert result.out == "own\n", result.err
        assert victim.poll() is None
    finally:
        victim.kill()
        victim.wait()


@pytest.mark.attack("A13")
def test_a_nested_namespace_has_no_more_ids(bench: Bench) -> None:
    """In a user namespace: ids beyond the own range by another one inside."""
    script = (
        "import os\n"
        "def attempt(line):\n"
        "    child = os.fork()\n"
        "    if child == 0:\n"
        "        ready, go = os.pipe()\n"
        "        inner = os.fork()\n"
        "        if inner == 0:\n"
        "            ctypes.CDLL(None).unshare(0x10000000); os.write(go, b'.'); import time; time.sleep(60)\n"
        "        os.read(ready, 1)\n"
        "        try:\n"
        "            os.write(os.open(f'/proc/{inner}/uid_map', os.O_WRONLY), line.encode())\n"
        "            os.write(1, b'mapped\\n')\n"
        "        except OSError as error:\n"
        "            os.write(1, error.strerror.encode() + b'\\n')\n"
        "        import signal; os.kill(inner, signal.SIGKILL); os._exit(0)\n"
        "    os.waitpid(child, 0)\n"
        "import ctypes\n"
        "attempt('0 65536 1'); attempt('0 4294967294 1'); attempt('0 0 65536')\n"
    )
    result = bench.run(all_of(all_rights, python(script)))
    assert result.out.splitlines() == ["Operation not permitted", "Operation not permitted", "mapped"], result.err


@pytest.mark.parametrize("kind", ["machine's root", "overlap"])
@pytest.mark.attack("A13")
def test_rogue_mappings(bench: Bench, kind: str) -> None:
    """Ranges of ids that overlap."""
    if kind == "overlap":
        wrong = [{"containerID": 0, "hostID": UIDS, "size": 10}, {"containerID": 20, "hostID": UIDS + 5, "size": 10}]
        result = bench.run(all_of(mapped, setting("linux.uidMappings", wrong)), "echo NEVER")
        assert (result.out, result.code) == ("", 1)
        return
    whole = [{"containerID": 0, "hostID": 0, "size": 4294967295}]
    change = all_of(mapped, setting("linux.uidMappings", whole), setting("linux.gidMappings", whole))
    assert bench.run(change, "tr -s ' ' < /proc/self/uid_map; id -u").out == " 0 0 4294967295\n0\n"
    half = [{"containerID": 0, "hostID": UIDS, "size": 10}, {"containerID": 10, "hostID": 0, "size": 1}]
    change = all_of(mapped, setting("linux.uidMappings", half))
    assert bench.run(change, "stat -c %u /proc/1/root/sys; id -u").out.split()[-1] == "0"
