"""Configurations that are wrong: one message on standard error and in the log, runc's exit status, nothing left behind.

Each row is a kind of wrong input; where runc 1.1.5 answers otherwise, `why` says how.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from oci.bundles import CGROUPS, Bench, Change, adding, all_of, setting

from pycompose.worker.runtime import cgroups

TAKEN = "taken-by-another"


@dataclass(frozen=True)
class Wrong:
    """`word` is in our message; `peer` is runc's exit status, `why` says what differs (another status, less named)."""

    kind: str
    name: str
    change: Change | None
    word: str
    peer: int = 1
    why: str = ""
    identity: str = ""


def without(kind: str) -> Change:
    """No namespace of a kind."""

    def change(config: dict[str, object]) -> None:
        linux = config["linux"]
        assert isinstance(linux, dict)
        linux["namespaces"] = [entry for entry in linux["namespaces"] if entry["type"] != kind]

    return change


def mount(**values: object) -> Change:
    return adding("mounts", values)


RUNS = "runc runs it"
WITHOUT_A_NAME = "runc's message does not name the key"
ROWS = [
    Wrong("version", "9.0.0", setting("ociVersion", "9.0.0"), "9.0.0", 0, RUNS),
    Wrong("version", "no number", setting("ociVersion", "one"), "ociVersion", 0, RUNS),
    Wrong("version", "missing", setting("ociVersion", None), "ociVersion", 0, RUNS),
    Wrong("missing", "process", setting("process", None), "process", 1, "runc crashes or says that there is none"),
    Wrong("missing", "root", setting("root", None), "root", 1, WITHOUT_A_NAME),
    Wrong("missing", "process.args", setting("process.args", []), "args"),
    Wrong("missing", "process.cwd", setting("process.cwd", None), "cwd", 1, WITHOUT_A_NAME),
    Wrong("missing", "a mount's destination", mount(type="tmpfs", source="t"), "destination", 1, WITHOUT_A_NAME),
    Wrong("missing", "a device's numbers", adding("linux.devices", {"path": "/dev/x", "type": "c"}), "major", 0, RUNS),
    Wrong("unknown", "namespace", adding("linux.namespaces", {"type": "planet"}), "planet"),
    Wrong("unknown", "seccomp action", setting("linux.seccomp", {"defaultAction": "SCMP_ACT_SING"}), "SCMP_ACT_SING"),
    Wrong("unknown", "rlimit", setting("process.rlimits", [{"type": "RLIMIT_LUCK", "soft": 1, "hard": 1}]),
          "RLIMIT_LUCK"),
    Wrong("unknown", "file system", mount(destination="/x", type="no_such_fs", source="x"), "no_such_fs"),
    Wrong("unknown", "propagation", setting("linux.rootfsPropagation", "sideways"), "sideways"),
    Wrong("unknown", "program", setting("process.args", ["no-such-program"]), "no-such-program"),
    Wrong("type", "args is a string", setting("process.args", "true"), "args"),
    Wrong("type", "a number is a string", setting("process.user", {"uid": "0", "gid": 0}), "uid"),
    Wrong("type", "a flag is a number", setting("root.readonly", 1), "readonly"),
    Wrong("type", "a list is an object", setting("mounts", {}), "mounts"),
    Wrong("type", "an object is a list", setting("linux", []), "linux"),
    Wrong("type", "too large", setting("process.user", {"uid": 1 << 32, "gid": 0}), "uid"),
    Wrong("type", "negative", setting("process.user", {"uid": -1, "gid": 0}), "uid"),
    Wrong("combination", "a namespace twice", adding("linux.namespaces", {"type": "pid"}), "pid"),
    Wrong("combination", "a host name without its namespace", all_of(setting("hostname", "x"), without("uts")), "UTS"),
    Wrong("combination", "time offsets without their namespace",
          setting("linux.timeOffsets", {"boottime": {"secs": 5}}), "timeOffsets", 0, "runc 1.1 has no time namespaces"),
    Wrong("combination", "mappings without their namespace",
          setting("linux.uidMappings", [{"containerID": 0, "hostID": 0, "size": 1}]), "uidMappings", 0, RUNS),
    Wrong("combination", "an rlimit twice",
          setting("process.rlimits", [{"type": "RLIMIT_NOFILE", "soft": 5, "hard": 5}] * 2), "RLIMIT_NOFILE"),
    Wrong("combination", "a soft limit above the hard one",
          setting("process.rlimits", [{"type": "RLIMIT_NOFILE", "soft": 9, "hard": 5}]), "limit"),
    Wrong("combination", "a bind without a source", mount(destination="/x", type="bind", options=["bind"]), "source", 0,
          "runc binds the bundle's directory"),
    Wrong("sysctl", "the machine's", setting("linux.sysctl", {"kernel.panic": "1"}), "kernel.panic"),
    Wrong("sysctl", "of a namespace that it has not",
          all_of(setting("linux.sysctl", {"net.ipv4.ip_forward": "1"}), without("network")), "net.ipv4.ip_forward"),
    Wrong("sysctl", "the machine's host name",
          all_of(setting("linux.sysctl", {"kernel.hostname": "x"}), without("uts")), "kernel.hostname"),
    Wrong("path", "cgroupsPath that leads upwards", setting("linux.cgroupsPath", f"{CGROUPS}/../../x"), "cgroupsPath",
          0, "runc takes the dots away"),
    Wrong("path", "relative cwd", setting("process.cwd", "tmp"), "cwd"),
    Wrong("path", "relative hook", setting("hooks", {"prestart": [{"path": "hook"}]}), "hooks.prestart", 1,
          WITHOUT_A_NAME),
    Wrong("path", "a namespace that is not there",
          all_of(without("network"), adding("linux.namespaces", {"type": "network", "path": "/no/such"})), "/no/such"),
    Wrong("path", "a bind that is not there", mount(destination="/x", type="bind", source="/no/such", options=["bind"]),
          "/no/such"),
    Wrong("rootfs", "missing", setting("root.path", "nowhere"), "nowhere"),
    Wrong("rootfs", "a file", setting("root.path", "config.json"), "config.json"),
    Wrong("rootfs", "empty", setting("root.path", ""), "root.path", 1, WITHOUT_A_NAME),
    Wrong("id", "taken", None, TAKEN, identity=TAKEN),
    Wrong("id", "with a slash", None, "a/b", identity="a/b"),
    Wrong("id", "dots", None, "..", identity=".."),
    Wrong("id", "empty", None, "id", identity=""),
    Wrong("id", "with a space", None, "a b", identity="a b"),
    Wrong("id", "too long", None, "xxx", identity="x" * 2000),
]  # fmt: skip


def logged(path: Path, form: str) -> list[tuple[str, str]]:
    """(level, message) of each line of a log."""
    found = []
    for line in path.read_text().splitlines():
        if form == "json":
            entry = json.loads(line)
            found.append((entry["level"], entry["msg"]))
        else:
            parts = re.fullmatch(r'time="[^"]*" level=(\w+) msg=("(?:[^"\\]|\\.)*"|\S+)', line)
            assert parts, line
            found.append((parts[1], json.loads(parts[2]) if parts[2].startswith('"') else parts[2]))
    return found


def left(bench: Bench) -> list[str]:
    """What a failed start could leave: state, mounts, cgroups."""
    state = [path.name for path in (bench.folder / "root").glob("*") if path.name not in (TAKEN, ".seccomp")]
    mounts = [line for line in Path("/proc/self/mountinfo").read_text().splitlines() if str(bench.folder) in line]
    inner = [str(path) for place in cgroups.directories(CGROUPS) for path in Path(place).glob("*/")]
    return state + mounts + [path for path in inner if path not in bench.folder.name]


@pytest.fixture
def taken(bench: Bench) -> Callable[[], None]:
    """Make the container whose id is taken."""

    def make() -> None:
        bench.configure(None, "sleep 1000")
        bench.used.add(TAKEN)
        assert bench.call("create", TAKEN).code == 0

    return make


@pytest.mark.parametrize("form", ["text", "json"])
@pytest.mark.parametrize("row", ROWS, ids=[f"{row.kind}: {row.name}" for row in ROWS])
def test_wrong(bench: Bench, row: Wrong, form: str, taken: Callable[[], None]) -> None:
    ours = bench.name != "runc"
    if not ours and form == "text":
        pytest.skip("one form is enough of the peer")
    if row.identity == TAKEN:
        taken()
    before = left(bench)
    log = bench.folder / "log"
    log.unlink(missing_ok=True)
    bench.configure(row.change)
    identity = bench.id() if row.kind != "id" else row.identity
    result = bench.call("run", identity, flags=("--log", str(log), "--log-format", form))
    assert result.code == (1 if ours else row.peer), result.err
    if not ours:
        return
    assert result.err.count("\n") == 1
    assert row.word in result.err
    ((level, message),) = logged(log, form)
    assert level == "error"
    assert result.err == f"pycompose-runtime: error: {message}\n"
    assert left(bench) == before


def test_each_difference_is_explained() -> None:
    assert not [row.name for row in ROWS if row.peer != 1 and not row.why]
    assert len({row.kind for row in ROWS}) == 9


@pytest.mark.parametrize("text", ["", "{", "[]", '{"ociVersion": 1}', '{"ociVersion": "1.0.2"}', "[" * 100000])
def test_a_file_that_is_no_configuration(bench: Bench, text: str) -> None:
    (bench.bundle / "config.json").write_text(text)
    result = bench.call("create", bench.id())
    assert result.code == 1
    if bench.name != "runc":
        assert "config.json" in result.err
        assert result.err.count("\n") == 1


def test_unknown_keys_are_nobodys(bench: Bench) -> None:
    """The specification's rule for what it does not know: no error ("Extensibility")."""
    assert bench.run(all_of(setting("linux.somebodys", 1), setting("process.elses", [2])), "echo ok").out == "ok\n"


@pytest.mark.parametrize("form", ["text", "json"])
def test_an_unknown_capability_is_left_out_with_a_warning(bench: Bench, form: str) -> None:
    """As the specification wants it; in a configuration and of exec."""
    log = bench.folder / "log"
    log.unlink(missing_ok=True)
    sets = {kind: ["CAP_FLY", "CAP_KILL"] for kind in ("bounding", "effective", "permitted")}
    bench.configure(setting("process.capabilities", sets), "grep CapEff /proc/self/status; sleep 1000")
    container, flags = bench.id(), ("--log", str(log), "--log-format", form)
    assert bench.call("create", container, flags=flags).code == 0
    assert bench.call("start", container).code == 0
    words = ("grep", "CapEff", "/proc/self/status")
    assert bench.call("exec", container, *words).out.split() == ["CapEff:", "0000000000000020"]
    if bench.name != "runc":
        ((level, message),) = logged(log, form)
        assert level == "warning"
        assert "CAP_FLY" in message
        done = bench.call("exec", "--cap", "CAP_SWIM", container, *words)
        assert done.code == 0
        assert "CAP_SWIM" in done.err
