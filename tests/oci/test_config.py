"""Each subject of the OCI configuration, as one row: a change, a command in the container, what it must print.

The same rows run on our runtime and on Debian's runc; where the peer differs the row says why.
Sources: runtime-spec config.md and config-linux.md; ideas for subjects from runtime-tools' validation programs.
"""

from __future__ import annotations

import os
from dataclasses import dataclass

import pytest
from oci.bundles import Bench, Change, adding, all_of, setting

from pycompose.worker.runtime import cgroups


@dataclass(frozen=True)
class Row:
    """`out` must be the whole output, stripped; `code` the exit status; `peer` says why runc 1.1 is left out.

    `err` must be in what is written to standard error.
    """

    name: str
    change: Change | None
    command: str
    out: str = ""
    code: int = 0
    peer: str = ""
    err: str = ""


def namespace(kind: str, keep: bool = True) -> Change:
    """Leave a namespace out (the machine's is used then), or add it."""

    def change(config: dict[str, object]) -> None:
        linux = config["linux"]
        assert isinstance(linux, dict)
        linux["namespaces"] = [entry for entry in linux["namespaces"] if entry["type"] != kind]
        if keep:
            linux["namespaces"].append({"type": kind})

    return change


def mount(destination: str, kind: str, source: str, *options: str) -> Change:
    """Add one mount."""
    return adding("mounts", {"destination": destination, "type": kind, "source": source, "options": list(options)})


CAP_NONE = setting("process.capabilities", {"bounding": [], "effective": [], "permitted": []})
V2 = not cgroups.mounted()[0]


def show(v2: str, v1: str) -> str:
    """Print a control file of the container's own cgroup."""
    return f"cat /sys/fs/cgroup/{v2 if V2 else v1} | head -1"


STATUS = "grep -E '^{}:' /proc/self/status | tr -d ' \\t'"
ROWS = [
    # process
    Row("args", setting("process.args", ["echo", "a b", "c"]), "", "a b c"),
    Row("cwd", setting("process.cwd", "/tmp"), "pwd", "/tmp"),
    Row("cwd is made", setting("process.cwd", "/made/here"), "pwd", "/made/here"),
    Row("env", setting("process.env", ["PATH=/bin", "A=1 2", "B="]), 'echo "$A,$B,$PATH"', "1 2,,/bin"),
    Row("exit status", None, "exit 42", code=42),
    Row(
        "user",
        setting("process.user", {"uid": 5, "gid": 6, "additionalGids": [7, 8]}),
        "id -u; id -g; id -G",
        "5\n6\n6 7 8",
    ),
    Row("umask", setting("process.user", {"uid": 0, "gid": 0, "umask": 0o27}), "umask", "0027"),
    Row("capabilities: none", CAP_NONE, STATUS.format("CapEff"), "CapEff:0000000000000000"),
    Row("capabilities: bounding", CAP_NONE, STATUS.format("CapBnd"), "CapBnd:0000000000000000"),
    Row(
        "capabilities: one",
        setting("process.capabilities", {k: ["CAP_KILL"] for k in ("bounding", "effective", "permitted")}),
        STATUS.format("CapPrm"),
        "CapPrm:0000000000000020",
    ),
    Row(
        "capabilities: ambient of a user",
        all_of(
            setting("process.user", {"uid": 9, "gid": 9}),
            setting(
                "process.capabilities",
                {k: ["CAP_NET_BIND_SERVICE"] for k in ("bounding", "effective", "permitted", "inheritable", "ambient")},
            ),
        ),
        STATUS.format("CapAmb"),
        "CapAmb:0000000000000400",
    ),
    Row("no new privileges", setting("process.noNewPrivileges", True), STATUS.format("NoNewPrivs"), "NoNewPrivs:1"),
    Row(
        "rlimits",
        setting("process.rlimits", [{"type": "RLIMIT_NOFILE", "soft": 100, "hard": 200}]),
        "ulimit -Sn; ulimit -Hn",
        "100\n200",
    ),
    Row("out-of-memory score", setting("process.oomScoreAdj", 77), "cat /proc/self/oom_score_adj", "77"),
    Row(
        "scheduler",
        setting("process.scheduler", {"policy": "SCHED_BATCH", "nice": 7}),
        "cut -d' ' -f19,41 /proc/self/stat",
        "7 3",
        peer="came with 1.1 of the specification",
    ),
    Row(
        "I/O priority",
        setting("process.ioPriority", {"class": "IOPRIO_CLASS_IDLE"}),
        "ionice -p $$",
        "idle",
        peer="came with 1.1 of the specification",
    ),
    Row(
        "CPUs",
        setting("process.execCPUAffinity", {"initial": "0", "final": "0"}),
        "grep Cpus_allowed_list /proc/self/status | cut -f2",
        "0",
        peer="came with 1.2 of the specification",
    ),
    Row(
        "personality",
        setting("linux.personality", {"domain": "LINUX32"}),
        "uname -m",
        {"x86_64": "i686", "aarch64": "armv8l"}.get(os.uname().machine, ""),
        peer="came with runc 1.2",
    ),
    Row(
        "no signal is ignored",
        None,
        "echo $((0x$(grep SigIgn /proc/self/status | cut -f2) & 0x7fffffff))",  # above are the C library's own
        "0",
    ),
    # root, names
    Row("read-only root", setting("root.readonly", True), "touch /x 2>/dev/null || echo refused", "refused"),
    Row("host name", setting("hostname", "box"), "hostname", "box"),
    Row(
        "domain name",
        all_of(setting("ociVersion", "1.1.0"), setting("domainname", "dom.example")),
        "cat /proc/sys/kernel/domainname",
        "dom.example",
        peer="domainname came with 1.1 of the specification",
    ),
    # mounts
    Row(
        "tmpfs",
        mount("/t", "tmpfs", "tmpfs", "size=1m", "mode=1770"),
        "stat -c %a /t; df -k /t | tail -1 | tr -s ' ' | cut -d' ' -f2",
        "1770\n1024",
    ),
    Row(
        "bind",
        mount("/b", "bind", "/bin", "bind", "ro"),
        "test -e /b/busybox -o -e /b/sh && echo there; touch /b/x 2>/dev/null || echo refused",
        "there\nrefused",
    ),
    Row("bind of a file", mount("/etc/one", "bind", "/proc/version", "bind"), "cut -d' ' -f1 /etc/one", "Linux"),
    Row(
        "mount options",
        mount("/t", "tmpfs", "tmpfs", "nosuid", "nodev", "noexec", "ro"),
        "grep ' /t ' /proc/self/mounts | cut -d' ' -f4 | tr , '\\n' | grep -E '^(ro|nosuid|nodev|noexec)$' | sort "
        "| tr '\\n' ' '",
        "nodev noexec nosuid ro",
    ),
    Row(
        "mount order",
        all_of(mount("/t", "tmpfs", "tmpfs"), mount("/t/inner/deep", "tmpfs", "tmpfs")),
        "grep -c ' /t' /proc/self/mounts",
        "2",
    ),
    Row(
        "recursive read-only",
        all_of(mount("/t", "tmpfs", "tmpfs"), mount("/r", "bind", "/proc", "rbind", "rro")),
        "grep ' /r ' /proc/self/mounts | cut -d' ' -f4 | cut -d, -f1",
        "ro",
    ),
    Row(
        "defaults: /dev",
        None,
        "ls /dev | grep -vE '^(core|console)$' | tr '\\n' ' '",
        "fd full mqueue null ptmx pts random shm stderr stdin stdout tty urandom zero",
    ),
    # linux
    Row("pid namespace", None, "echo $$", "1"),
    Row(
        "masked paths",
        setting("linux.maskedPaths", ["/proc/interrupts", "/proc/acpi", "/no/such"]),
        "wc -c < /proc/interrupts; ls /proc/acpi | wc -l",
        "0\n0",
    ),
    Row(
        "read-only paths",
        setting("linux.readonlyPaths", ["/proc/sys", "/no/such"]),
        "grep ' /proc/sys ' /proc/self/mounts | cut -d' ' -f4 | cut -d, -f1",
        "ro",
    ),
    Row(
        "sysctl",
        setting("linux.sysctl", {"net.ipv4.ip_forward": "1", "kernel.shmmax": "65536"}),
        "cat /proc/sys/net/ipv4/ip_forward /proc/sys/kernel/shmmax",
        "1\n65536",
    ),
    Row(
        "devices",
        adding(
            "linux.devices",
            {"path": "/dev/made/null", "type": "c", "major": 1, "minor": 3, "fileMode": 0o640, "uid": 3, "gid": 4},
        ),
        "stat -c '%a %u %g %t:%T' /dev/made/null",
        "640 3 4 1:3",
    ),
    Row(
        "a fifo",
        adding("linux.devices", {"path": "/dev/pipe", "type": "p", "fileMode": 0o600}),
        "test -p /dev/pipe && echo fifo",
        "fifo",
    ),
    Row("device rules", None, "mknod /tmp/m b 8 0 && cat /tmp/m 2>/dev/null || echo refused; rm /tmp/m", "refused"),
    Row(
        "memory limit",
        setting("linux.resources.memory", {"limit": 33554432}),
        show("memory.max", "memory/memory.limit_in_bytes"),
        "33554432",
    ),
    Row(
        "cpu quota",
        setting("linux.resources.cpu", {"quota": 50000, "period": 100000}),
        show("cpu.max", "cpu*/cpu.cfs_quota_us"),
        "50000 100000" if V2 else "50000",
    ),
    Row(
        "cpu shares",
        setting("linux.resources.cpu", {"shares": 512}),
        show("cpu.weight", "cpu*/cpu.shares"),
        "20" if V2 else "512",
    ),
    Row("pids limit", setting("linux.resources.pids", {"limit": 17}), show("pids.max", "pids/pids.max"), "17"),
    Row("cpuset", setting("linux.resources.cpu", {"cpus": "0"}), show("cpuset.cpus", "cpuset/cpuset.cpus"), "0"),
    Row(
        "seccomp: errno",
        setting(
            "linux.seccomp",
            {
                "defaultAction": "SCMP_ACT_ALLOW",
                "syscalls": [{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 1}],
            },
        ),
        "mkdir /tmp/x 2>&1 | grep -o 'not permitted'",
        "not permitted",
    ),
    Row(
        "seccomp: kill",
        setting(
            "linux.seccomp",
            {
                "defaultAction": "SCMP_ACT_ALLOW",
                "syscalls": [{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_KILL_PROCESS"}],
            },
        ),
        "mkdir /tmp/x 2>/dev/null; echo $?",
        "159",
    ),
    Row(
        "seccomp: an argument",
        setting(
            "linux.seccomp",
            {
                "defaultAction": "SCMP_ACT_ALLOW",
                "syscalls": [
                    {
                        "names": ["kill"],
                        "action": "SCMP_ACT_ERRNO",
                        "args": [{"index": 1, "value": 10, "op": "SCMP_CMP_EQ"}],
                    }
                ],
            },
        ),
        "kill -10 1 2>/dev/null || echo refused; kill -12 1 && echo sent",
        "refused\nsent",
    ),
    Row("terminal is none", None, "tty", "not a tty", code=1),
    Row("a new network is down", None, "ip -o link | wc -l", "1"),
    Row("the machine's uts namespace", namespace("uts", keep=False), "hostname", os.uname().nodename),
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
    Row("annotations are kept", setting("annotations", {"a.b": "c"}), "echo ok", "ok"),
    Row("unknown keys are allowed", setting("somebody.elses", {"key": 1}), "echo ok", "ok"),
]


def hold(bench: Bench, row: Row) -> None:
    """Run a row's container and compare."""
    if bench.name == "runc" and row.peer:
        pytest.skip(row.peer)
    result = bench.run(row.change, row.command) if row.command else bench.run(row.change)
    assert (result.out.strip(), result.code) == (row.out, row.code), result.err
    assert row.err in result.err


@pytest.mark.parametrize("row", ROWS, ids=[row.name for row in ROWS])
def test_configuration(bench: Bench, row: Row) -> None:
    hold(bench, row)
