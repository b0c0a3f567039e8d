"""Each property of the specification's configuration has a test here: rows for what test_config has none for, and the
check that none is without.

A property counts as tested when a row's change sets it, or when ELSEWHERE names the test that does.
"""

from __future__ import annotations

import ast
import json
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from oci import test_bad_input, test_config, test_lifecycle, test_resources, test_userns
from oci.bundles import Bench, Change, all_of, setting
from oci.specification import PROPERTIES
from oci.test_config import Row, hold, namespace

from pycompose.worker.runtime import oci

NEVER = "echo NEVER"
#: A cgroup has no real time unless it is given some (kernel scheduler/sched-rt-group.rst).
RT_GROUPS = test_resources.there("cpu", "cpu.rt_runtime_us") and not test_config.V2
LATER = "came with 1.1 of the specification"
ALLOW = "SCMP_ACT_ALLOW"


def offsets(clock: str) -> Row:
    return Row(
        f"time offset: {clock}",
        all_of(
            setting("ociVersion", "1.1.0"),
            namespace("time"),
            setting("linux.timeOffsets", {clock: {"secs": 1_000_000, "nanosecs": 5}}),
        ),
        f"grep {clock} /proc/self/timens_offsets | tr -s ' '",
        f"{clock} 1000000 5",
        peer="time namespaces came with runc 1.2",
    )


def refused(path: str, value: object, word: str, peer: str = "") -> Row:
    """What this runtime refuses, whatever the kernel has."""
    return Row(f"refused: {path}", setting(path, value), NEVER, code=1, err=word, peer=peer)


def propagation(kind: str, shown: str, peer: str = "") -> Row:
    return Row(
        f"propagation of the root: {kind}",
        setting("linux.rootfsPropagation", kind),
        "grep -E '^[0-9]+ [0-9]+ [0-9:]+ [^ ]+ / ' /proc/self/mountinfo | grep -oE '(shared|master|unbindable)' || "
        "echo private",
        shown,
        peer=peer,
    )


def calls(*rules: dict[str, object], **more: object) -> Change:
    return setting("linux.seccomp", {"defaultAction": ALLOW, "syscalls": list(rules), **more})


NO_MKDIR = {"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 1}
MKDIR = "mkdir /tmp/x 2>&1 | grep -oE 'not permitted|not implemented'"
ROWS = [
    Row(
        "the devices that every container has",
        all_of(setting("linux.devices", []), setting("linux.resources.devices", [{"allow": False, "access": "rwm"}])),
        "for n in null zero full random urandom tty; do test -c /dev/$n || echo no $n; done; echo x > /dev/null; "
        "head -c 2 /dev/zero | wc -c",
        "2",
    ),
    propagation("shared", "shared", peer="runc's root is no mount of its own kind"),
    propagation("slave", "private"),
    propagation("private", "private"),
    propagation("unbindable", "unbindable", peer="runc cannot bind the root then"),
    offsets("boottime"),
    offsets("monotonic"),
    Row(
        "scheduler: real time",
        setting("process.scheduler", {"policy": "SCHED_FIFO", "priority": 3, "flags": ["SCHED_FLAG_RESET_ON_FORK"]}),
        "cut -d' ' -f40,41 /proc/self/stat",
        *(("", 1) if RT_GROUPS else ("3 1",)),
        peer=LATER,
        err="scheduler" if RT_GROUPS else "",
    ),
    Row(
        "scheduler: deadline",
        setting(
            "process.scheduler",
            {"policy": "SCHED_DEADLINE", "runtime": 10_000_000, "deadline": 20_000_000, "period": 30_000_000},
        ),
        "cut -d' ' -f41 /proc/self/stat",
        "6",
        peer=LATER,
    ),
    Row(
        "I/O priority: a level",
        setting("process.ioPriority", {"class": "IOPRIO_CLASS_BE", "priority": 6}),
        "ionice -p $$",
        "best-effort: prio 6",
        peer=LATER,
    ),
    Row(
        "seccomp: architectures",
        calls(NO_MKDIR, architectures=["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_AARCH64"]),
        MKDIR,
        "not permitted",
    ),
    Row(
        "seccomp: flags",
        calls(NO_MKDIR, flags=["SECCOMP_FILTER_FLAG_LOG"]),
        MKDIR,
        "not permitted",
        peer="came with runc 1.1.6",
    ),
    Row(
        "seccomp: the errno of the default",
        setting("linux.seccomp", oci.default_seccomp() | {"defaultErrnoRet": 38}),
        "unshare -m true 2>&1 | grep -oE 'not permitted|not implemented'",
        "not implemented",
    ),
    Row(
        "seccomp: a masked argument",
        calls(
            {
                "names": ["kill"],
                "action": "SCMP_ACT_ERRNO",
                "args": [{"index": 1, "value": 8, "valueTwo": 8, "op": "SCMP_CMP_MASKED_EQ"}],
            }
        ),
        "kill -10 1 2>/dev/null || echo refused; kill -12 1 2>/dev/null || echo refused; kill -16 1 && echo sent",
        "refused\nrefused\nsent",
    ),
    Row(
        "seccomp: a filter that forbids what the runtime itself does at the end",
        calls({"names": ["close_range", "rt_sigaction", "openat2"], "action": "SCMP_ACT_ERRNO"}),
        "echo ok",
        "ok",
    ),
    refused("process.apparmorProfile", "no-such-profile", "AppArmor", peer="tells it in words of its own"),
    refused("process.selinuxLabel", "a_u:a_r:a_t:s0", "SELinux", peer="tells it in words of its own"),
    refused("linux.mountLabel", "system_u:object_r:a_t:s0", "linux.mountLabel", peer="tells it in words of its own"),
    refused("linux.personality", {"domain": "LINUX", "flags": ["X"]}, "personality.flags", peer="came with runc 1.2"),
    *(
        refused("linux.intelRdt", {key: value}, "linux.intelRdt", peer="drives it where the machine has it")
        for key, value in {
            "closID": "a",
            "l3CacheSchema": "L3:0=f",
            "memBwSchema": "MB:0=50",
            "enableCMT": True,
            "enableMBM": True,
        }.items()
    ),
]


@pytest.mark.parametrize("row", ROWS, ids=[row.name for row in ROWS])
def test_property(bench: Bench, row: Row) -> None:
    hold(bench, row)


# hooks

KINDS = ("prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop")
INSIDE = "startContainer"


def hook(kind: str, record: str, seconds: str) -> Change:
    """One hook that notes its arguments and its whole environment, after `seconds`."""
    script = f'sleep {seconds}; cat > /dev/null; echo "$0 $1 $A" >> {record}'
    entry = {"path": "/bin/sh", "args": ["sh", "-c", script, "zero", "one"], "env": ["A=b", "PATH=/bin"], "timeout": 1}
    return setting("hooks", {kind: [entry]})


@pytest.mark.parametrize("kind", KINDS)
def test_a_hook_has_its_arguments_and_environment(bench: Bench, kind: str) -> None:
    name = f"hook-{kind}"
    inside = bench.bundle / "rootfs/tmp" / name
    record = f"/tmp/{name}" if kind == INSIDE else str(inside)
    result = bench.run(hook(kind, record, "0"))
    assert result.code == 0, result.err
    assert inside.read_text() == "zero one b\n"
    inside.unlink()


@pytest.mark.parametrize("kind", KINDS)
def test_a_hook_has_a_second(bench: Bench, kind: str) -> None:
    """A timeout ends the hook; the container fails, but for the hooks whose failure is only told."""
    if bench.name == "runc" and kind != "createRuntime":
        pytest.skip("one is enough of the peer")
    record = bench.folder / "late"
    result = bench.run(hook(kind, "/tmp/late" if kind == INSIDE else str(record), "30"))
    assert (result.code == 0) == (kind == "poststop")
    if bench.name != "runc":
        assert f"{kind}[0]" in result.err
        assert "1 s" in result.err
    assert not record.exists()


# terminal

CONSOLE = setting("process", {"terminal": True, "consoleSize": {"height": 33, "width": 77}})


def test_a_terminal_has_its_size(bench: Bench) -> None:
    path = bench.folder / "size"
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        listener.bind(str(path))
        listener.listen(1)
        bench.configure(
            all_of(setting("process.terminal", True), setting("process.consoleSize", {"height": 33, "width": 77})),
            "stty size; sleep 1000",
        )
        container = bench.id()
        assert bench.call("create", "--console-socket", str(path), container).code == 0
        connection, _ = listener.accept()
        with connection:
            _, fds, _, _ = socket.recv_fds(connection, 4096, 1)
    path.unlink()
    assert bench.call("start", container).code == 0
    assert "33 77" in test_lifecycle.read_until(fds[0], "33 77")
    os.close(fds[0])


# the check

FOLDER = Path(__file__).parent
#: Property -> the test, of another form than a row, that is of it.
ELSEWHERE = {
    "mounts[].uidMappings[]": "test_userns.test_mounts_are_id_mapped",
    "mounts[].gidMappings[]": "test_userns.test_mounts_are_id_mapped",
    "linux.seccomp.listenerPath": "test_seccomp_notify.test_a_listener_decides_about_calls",
    "linux.seccomp.listenerMetadata": "test_seccomp_notify.test_a_listener_decides_about_calls",
    "linux.netDevices.*.name": "test_netdevices.test_it_may_have_another_name",
}


def leaves(value: object, path: str = "") -> Iterator[tuple[str, str]]:
    """(property, value) of all that a configuration says; other keys are nobody's."""
    if path in PROPERTIES or not isinstance(value, (dict, list)):
        yield path, json.dumps(value)
    elif isinstance(value, list):
        for item in value:
            yield from leaves(item, f"{path}[]")
    else:
        for key, item in value.items():
            places = (f"{path}.{key}" if path else key, f"{path}.*")
            known = [
                each for each in places if any(f"{name}.".startswith((f"{each}.", f"{each}[")) for name in PROPERTIES)
            ]
            if known:
                yield from leaves(item, known[0])


def set_by(change: Change) -> set[str]:
    """The properties that a change gives other values than every container here has."""
    config = oci.default_config(["true"])
    before = values(config)
    change(config)
    return {name for name, found in values(config).items() if found != before.get(name)}


def values(config: object) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for name, value in leaves(config):
        found.setdefault(name, []).append(value)
    return found


def tested() -> set[str]:
    """What rows and changes set."""
    rows = [*ROWS, *test_config.ROWS, *test_userns.ROWS, *test_resources.ROWS]
    changes = [row.change for row in rows if row.change is not None]
    changes += [row.change for row in test_bad_input.ROWS if row.change is not None]
    changes += [*test_resources.WEIGHTS.values(), CONSOLE, test_userns.mapped]
    changes += [setting("linux.resources", test_resources.CHECK), *(hook(kind, "", "0") for kind in KINDS)]
    return set().union(*map(set_by, changes))


def test_each_property_has_a_test() -> None:
    there = tested()
    missing = {name for name in PROPERTIES - there if not name.startswith(tuple(ELSEWHERE))}
    assert not missing


@pytest.mark.parametrize("name", ELSEWHERE)
def test_tests_elsewhere_are_there(name: str) -> None:
    """The named test exists, and its module has the property's word."""
    module, _, function = ELSEWHERE[name].partition(".")
    text = (FOLDER / f"{module}.py").read_text()
    assert function in {node.name for node in ast.walk(ast.parse(text)) if isinstance(node, ast.FunctionDef)}
    assert name.replace("[]", "").rpartition(".")[2] in text
    assert name not in tested()


def test_a_property_without_a_test_is_found() -> None:
    assert "process.args" in set_by(setting("process.args", ["x"]))
    assert set_by(setting("linux.rdma", {})) == set()
    assert set_by(setting("process.terminal", True)) == {"process.terminal"}
