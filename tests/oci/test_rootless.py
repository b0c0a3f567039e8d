"""The runtime run by an ordinary user, who has no account and no right: what it can do, and what it refuses.

The same cases on runc ("rootless containers"). The user exists as a number alone. Where the interpreter lies in a
folder that is root's alone, as a mount namespace of the test shows it, it can be reached.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from oci import bundles
from oci.bundles import RUNTIMES, Bench, Change, Config, all_of, setting
from oci.test_config import STATUS, Row, mount, namespace
from oci.test_lifecycle import until
from reach import reachable

import pycompose
from pycompose.worker.runtime import oci
from pycompose.worker.runtime.command.main import own_root
from pycompose.worker.runtime.errors import ConfigError

UID, GID, SUBIDS = 64_321, 64_322, 1_650_000_000


def as_user(more: str = "") -> tuple[str, ...]:
    """Words that run a program as the user; `more` is done by root before, in the same mount namespace."""
    sources = os.path.dirname(os.path.realpath(pycompose.__file__))
    links = [os.path.realpath(path) for path in Path(sources).iterdir() if path.is_symlink()]
    script = reachable(sys.prefix, sys.base_prefix, sources, *links, more=more)
    user = ("setpriv", f"--reuid={UID}", f"--regid={GID}", "--clear-groups")
    return ("unshare", "--mount", "--propagation", "private", "sh", "-c", script, "sh", *user)


@pytest.fixture(scope="module", params=list(RUNTIMES))
def runtime(request: pytest.FixtureRequest) -> Iterator[Bench]:
    """The runtime as the user has it, with a bundle of the user's."""
    with (
        tempfile.TemporaryDirectory(prefix="rootless-") as folder,
        bundles.open_bench(request.param, Path(folder)) as found,
    ):
        subprocess.run(["chown", "-Rh", f"{UID}:{GID}", folder], check=True)
        found.before = as_user()
        yield found


def own(config: Config) -> None:
    """What `spec --rootless` writes."""
    config["linux"].pop("cgroupsPath")
    config.update(oci.for_user(config, UID, GID))


ROWS = [
    Row("root inside", None, "id -u; id -g; tr -s ' ' < /proc/self/uid_map", f"0\n0\n 0 {UID} 1"),
    Row("its files are the user's", None, "touch /new; stat -c '%u %g' /new; rm /new", "0 0"),
    Row("groups cannot be changed", None, "cat /proc/self/setgroups", "deny"),
    Row("capabilities", None, STATUS.format("CapEff"), "CapEff:00000000a80425fb"),
    Row("pids", None, "echo $$", "1"),
    Row("host name", setting("hostname", "box"), "hostname", "box"),
    Row("devices", None, "echo x > /dev/null && head -c 3 /dev/zero | wc -c", "3"),
    Row("the machine's network", None, "ls /sys/class/net | wc -l", str(len(os.listdir("/sys/class/net")))),
    Row("a network of its own", namespace("network"), "ip -o link | wc -l", "1"),
    Row("a bind", mount("/b", "bind", "/bin", "rbind", "ro"), "test -e /b/sh && echo there", "there"),
    Row("a file of the machine's", mount("/s", "bind", "/etc/shadow", "bind"), "cat /s 2>/dev/null || echo refused",
        "refused"),
    Row("masked paths", None, "cat /proc/keys; ls /proc/acpi 2>/dev/null", ""),
    Row("exit status", None, "exit 42", code=42),
    Row("limits", setting("linux.resources.memory", {"limit": 33554432}), "echo NEVER", code=1,
        peer="runc 1.1 runs it without on version 1 of cgroups"),
    Row("no user namespace", namespace("user", keep=False), "echo NEVER", code=1),
    Row("ids that are not the user's", setting("linux.uidMappings", [{"containerID": 0, "hostID": 1, "size": 1}]),
        "echo NEVER", code=1),
]  # fmt: skip


@pytest.mark.parametrize("row", ROWS, ids=[row.name for row in ROWS])
def test_configuration(bench: Bench, row: Row) -> None:
    if bench.name == "runc" and row.peer:
        pytest.skip(row.peer)
    change: Change = all_of(own, row.change) if row.change else own
    result = bench.run(change, row.command)
    assert (result.out.strip(), result.code) == (row.out, row.code), result.err


def test_more_ids_by_newuidmap(bench: Bench) -> None:
    """What /etc/subuid gives to the account may be mapped, and nothing else."""
    tables = {
        "passwd": Path("/etc/passwd").read_text() + f"rootless:x:{UID}:{GID}::/:/bin/sh\n",
        "group": Path("/etc/group").read_text() + f"rootless:x:{GID}:\n",
        "subuid": f"rootless:{SUBIDS}:1000\n",
        "subgid": f"rootless:{SUBIDS}:1000\n",
    }
    etc = bench.folder / "etc"
    etc.mkdir()
    for name, text in tables.items():
        (etc / name).write_text(text)

    def mapped(first: int) -> Change:
        def change(config: Config) -> None:
            own(config)
            for key, number in (("uidMappings", UID), ("gidMappings", GID)):
                config["linux"][key] = [
                    {"containerID": 0, "hostID": number, "size": 1},
                    {"containerID": 1, "hostID": first, "size": 1000},
                ]

        return change

    before, bench.before = bench.before, as_user(f"mount -t overlay -o lowerdir={etc}:/etc none /etc")
    try:
        look = "touch /new; chown 5:6 /new; stat -c '%u %g' /new; cat /proc/self/setgroups"
        result = bench.run(mapped(SUBIDS), look)
        assert result.out == "5 6\nallow\n", result.err
        made = (bench.bundle / "rootfs/new").stat()
        assert (made.st_uid, made.st_gid) == (SUBIDS + 4, SUBIDS + 5)
        refused = bench.run(mapped(SUBIDS + 1), look)
        assert (refused.out, refused.code) == ("", 1)
    finally:
        bench.before = before
        (bench.bundle / "rootfs/new").unlink(missing_ok=True)


def test_a_life(bench: Bench) -> None:
    bench.configure(own, "touch /made; sleep 1000")
    container = bench.id()
    result = bench.call("create", container)
    assert result.code == 0, result.err
    assert json.loads(bench.call("state", container).out)["status"] == "created"
    assert bench.call("start", container).code == 0
    until(bench, container, "running")
    result = bench.call("exec", container, "sh", "-c", "id -u; cat; exit 9", stdin="in")
    assert (result.out, result.code) == ("0\nin", 9), result.err
    assert container in bench.call("list").out
    made = bench.bundle / "rootfs/made"
    for _ in range(1000):
        if made.exists():
            break
        assert bench.call("exec", container, "true").code == 0
    assert (made.stat().st_uid, made.stat().st_gid) == (UID, GID)
    made.unlink()
    assert bench.call("kill", container, "KILL").code == 0
    until(bench, container, "stopped")
    assert bench.call("delete", container).code == 0
    assert bench.call("list", "--quiet").out == ""


def test_what_needs_a_cgroup_is_refused(bench: Bench) -> None:
    if bench.name == "runc":
        pytest.skip("runc says so in other words")
    bench.configure(own, "sleep 1000")
    container = bench.id()
    assert bench.call("run", "--detach", container).code == 0
    for words in (
        ("pause", container),
        ("update", "--memory", "40000000", container),
        ("events", "--stats", container),
    ):
        result = bench.call(*words)
        assert result.code == 1
        assert "an ordinary user has no cgroup" in result.err
    assert bench.call("delete", "--force", container).code == 0


def test_the_interpreter_cannot_be_overwritten(bench: Bench) -> None:
    """What enters the container runs from a sealed copy: its file is the user's own otherwise (CVE-2019-5736)."""
    if bench.name == "runc":
        pytest.skip("runc is no Python")
    evil = bench.bundle / "rootfs/evil"
    evil.write_text(
        "#!/proc/self/exe\nimport fcntl, os\ntry:\n    os.open('/proc/self/exe', os.O_WRONLY)\n    print('OPEN')\n"
        "except OSError as error:\n"
        "    seals = fcntl.fcntl(os.open('/proc/self/exe', os.O_RDONLY), fcntl.F_GET_SEALS)\n"
        "    print(os.readlink('/proc/self/exe'), seals)\n"
    )
    evil.chmod(0o755)

    def machine_python(config: Config) -> None:
        for place in {"/usr", "/lib", "/lib64", sys.base_prefix}:
            if os.path.isdir(place):
                made = {"destination": place, "type": "bind", "source": place, "options": ["rbind", "ro"]}
                config["mounts"].append(made)

    result = bench.run(all_of(own, machine_python, setting("process.args", ["/evil"])))
    assert "OPEN" not in result.out
    assert result.out == "/memfd:pycompose-runtime (deleted) 15\n", result.err  # shrink, grow, write, and seal


def test_spec_writes_what_the_user_can_run(bench: Bench) -> None:
    (bench.bundle / "config.json").unlink(missing_ok=True)
    assert bench.call("spec", "--rootless").code == 0
    config = json.loads((bench.bundle / "config.json").read_text())
    assert [one["hostID"] for one in config["linux"]["uidMappings"]] == [UID]
    config["process"] |= {"terminal": False, "args": ["id", "-u"]}
    (bench.bundle / "config.json").write_text(json.dumps(config))
    result = bench.call("run", bench.id())
    assert (result.out, result.code) == ("0\n", 0), result.err


def test_where_state_is_kept() -> None:
    assert own_root(0, {}) == "/run/pycompose-runtime"
    assert own_root(5, {"XDG_RUNTIME_DIR": "/run/user/5"}) == "/run/user/5/pycompose-runtime"
    with pytest.raises(ConfigError, match="--root: required"):
        own_root(5, {})
