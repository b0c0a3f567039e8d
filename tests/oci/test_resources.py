"""`linux.resources`: each limit as the container's own control file shows it, or refused where the kernel has none.

Sources: runtime-spec config-linux.md "Control groups"; kernel admin-guide/cgroup-v1 and cgroup-v2.rst. What a machine
does not have (a controller, a file) is to be refused, never left out; so a row's outcome depends on the machine.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from oci.bundles import CGROUPS, Bench, all_of, setting
from oci.test_config import V2, Row, hold, namespace, show

MB = 1 << 20
V1_ONLY = "runc leaves it out on version 2"
OLD = "runc 1.1 does not know it"
NEVER = "echo NEVER"


def there(controller: str, file: str) -> bool:
    """Whether a cgroup of this machine has the control file."""
    if V2:
        return controller in Path("/sys/fs/cgroup/cgroup.controllers").read_text().split()
    place = Path("/sys/fs/cgroup", controller, f"{CGROUPS[1:]}-look")
    if not place.parent.is_dir():
        return False
    place.mkdir()
    try:
        return (place / file).exists()
    finally:
        place.rmdir()


def limit(section: str, values: object, v1: str, v2: str, peer: str = "") -> Row:
    """A row that shows a limit.

    Args:
        section: below linux.resources.
        values: what it is set to.
        v1: "controller/file text", or "" where version 1 has no such limit.
        v2: "file text", or "".
        peer: why runc is left out.
    """
    change, wanted = setting(f"linux.resources.{section}", values), v2 if V2 else v1
    name = f"{section}: {', '.join(values)}" if isinstance(values, dict) else section
    file, _, text = wanted.partition(" ")
    controller = file.partition("." if V2 else "/")[0]
    if file and there(controller, Path(file).name):
        return Row(name, change, show(file, file), text, peer=peer)
    return Row(name, change, NEVER, code=1, err=controller or "leave it out", peer=peer or OLD)


def disk() -> tuple[int, int]:
    """A disk of this machine."""
    found = sorted(path for path in Path("/sys/block").iterdir() if path.name.startswith(("vd", "sd", "nvme", "loop")))
    major, _, minor = (found[0] / "dev").read_text().strip().partition(":")
    return int(major), int(minor)


MAJOR, MINOR = disk()


def throttle(kind: str, v1: str, v2: str) -> Row:
    rule = {"major": MAJOR, "minor": MINOR, "rate": 7 * MB}
    words = {"rbps": "max", "wbps": "max", "riops": "max", "wiops": "max"} | {v2: str(7 * MB)}
    text = f"{MAJOR}:{MINOR} " + " ".join(f"{word}={number}" for word, number in words.items())
    return Row(
        kind,
        setting(f"linux.resources.blockIO.{kind}", [rule]),
        show("io.max", f"blkio/blkio.throttle.{v1}"),
        text if V2 else f"{MAJOR}:{MINOR} {7 * MB}",
    )


ROWS = [
    limit("memory", {"reservation": 16 * MB}, "memory/memory.soft_limit_in_bytes 16777216",
          "memory.low 16777216"),
    limit("memory", {"limit": 32 * MB, "swap": 64 * MB}, "memory/memory.memsw.limit_in_bytes 67108864",
          "memory.swap.max 33554432"),
    limit("memory", {"swappiness": 10}, "memory/memory.swappiness 10", "", peer=V1_ONLY if V2 else ""),
    limit("memory", {"kernelTCP": 16 * MB}, "memory/memory.kmem.tcp.limit_in_bytes 16777216", "", peer=OLD),
    Row(
        "memory: kernel",  # the kernel takes it on version 1, and has not heeded it since Linux 5.16
        setting("linux.resources.memory", {"kernel": 16 * MB}),
        NEVER if V2 else "echo taken",
        "" if V2 else "taken",
        code=int(V2),
        peer="runc leaves it out",
        err="memory.kernel" if V2 else "",
    ),
    limit("memory", {"disableOOMKiller": True}, "memory/memory.oom_control oom_kill_disable 1", "",
          peer=V1_ONLY if V2 else ""),
    limit("memory", {"useHierarchy": True}, "memory/memory.use_hierarchy 1", "memory.max max"),
    limit("cpu", {"mems": "0"}, "cpuset/cpuset.mems 0", "cpuset.mems 0"),
    limit("cpu", {"quota": 50000, "burst": 20000}, "cpu/cpu.cfs_burst_us 20000", "cpu.max.burst 20000",
          peer=OLD),
    limit("cpu", {"idle": 1}, "cpu/cpu.idle 1", "cpu.idle 1", peer=OLD),
    limit("cpu", {"realtimePeriod": 900000, "realtimeRuntime": 0}, "cpu/cpu.rt_period_us 900000", "",
          peer=V1_ONLY if V2 else ""),
    throttle("throttleReadBpsDevice", "read_bps_device", "rbps"),
    throttle("throttleWriteBpsDevice", "write_bps_device", "wbps"),
    throttle("throttleReadIOPSDevice", "read_iops_device", "riops"),
    throttle("throttleWriteIOPSDevice", "write_iops_device", "wiops"),
    limit("blockIO", {"leafWeight": 10}, "", "", peer="runc leaves it out"),
    Row("weightDevice: leafWeight",
        setting("linux.resources.blockIO.weightDevice", [{"major": MAJOR, "minor": MINOR, "leafWeight": 10}]),
        NEVER, code=1, err="leafWeight", peer="runc leaves it out"),
    limit("network", {"classID": 7}, "net_cls/net_cls.classid 7", "", peer=V1_ONLY),
    limit("network", {"priorities": [{"name": "lo", "priority": 3}]}, "net_prio/net_prio.ifpriomap lo 3", "",
          peer=V1_ONLY),
    Row("rdma", setting("linux.resources.rdma", {"none0": {"hcaHandles": 3, "hcaObjects": 10}}), NEVER, code=1,
        err="rdma", peer=OLD),
    Row("unified", setting("linux.resources.unified", {"memory.high": str(16 * MB)}),
        show("memory.high", "") if V2 else NEVER, str(16 * MB) if V2 else "", code=0 if V2 else 1,
        err="" if V2 else "unified"),
    Row("unified: a file that is not there", setting("linux.resources.unified", {"memory.no_such": "1"}), NEVER, code=1,
        err="memory.no_such" if V2 else "unified"),
    limit("hugepageLimits", [{"pageSize": "2MB", "limit": 4 * MB}], "hugetlb/hugetlb.2MB.limit_in_bytes 4194304",
          "hugetlb.2MB.max 4194304", peer="runc leaves it out where there is none"),
    Row("devices: what is allowed more",
        setting("linux.resources.devices", [{"allow": False, "access": "rwm"},
                {"allow": True, "type": "c", "major": 1, "minor": 11, "access": "wm"}]),
        "mknod /tmp/k c 1 11; : > /tmp/k && echo opened; head -c 1 /tmp/k 2>/dev/null || echo refused; rm /tmp/k; "
        "echo x > /dev/null; head -c 2 /dev/zero | wc -c",
        "opened\nrefused\n2", peer="runc 1.1 forbids itself its own /dev/null then"),
    Row("cgroupsPath",
        all_of(setting("linux.cgroupsPath", f"{CGROUPS}/deep/er"), namespace("cgroup", keep=False)),
        f"grep -c {CGROUPS}/deep/er$ /proc/self/cgroup | grep -qv ^0 && echo there", "there"),
]  # fmt: skip


@pytest.mark.parametrize("row", ROWS, ids=[row.name for row in ROWS])
def test_limit(bench: Bench, row: Row) -> None:
    hold(bench, row)


WEIGHTS = {
    "weight": setting("linux.resources.blockIO.weight", 300),
    "weightDevice": setting("linux.resources.blockIO.weightDevice", [{"major": MAJOR, "minor": MINOR, "weight": 300}]),
}


@pytest.mark.parametrize("name", WEIGHTS)
def test_weights(bench: Bench, name: str) -> None:
    """Set where the kernel has weights of that kind (a scheduler that knows them), refused with a reason otherwise."""
    result = bench.run(WEIGHTS[name], f"cat {place('io.*weight', 'blkio/blkio.*weight*')}")
    if result.code == 0:
        assert "300" in result.out or str(1 + 290 * 9999 // 990) in result.out
    elif bench.name != "runc":
        assert "scheduler" in result.err or "weight" in result.err


def place(v2: str, v1: str) -> str:
    return f"/sys/fs/cgroup/{v2 if V2 else v1}"


CHECK = {"memory": {"limit": 4 * MB, "checkBeforeUpdate": True}}


def test_a_limit_below_use_is_refused_where_a_check_is_asked_for(bench: Bench) -> None:
    if bench.name == "runc" and V2:
        pytest.skip(OLD)
    bench.configure(setting("linux.resources.memory", {"limit": 64 * MB}), HOLD)
    container = bench.id()
    for verb in ("create", "start"):
        assert bench.call(verb, container).code == 0
    while bench.call("exec", container, "test", "-e", "/dev/shm/held").code:
        pass
    done = bench.call("update", "--resources", "-", container, stdin=json.dumps(CHECK))
    assert done.code == 1
    assert bench.call("exec", container, "true").code == 0
    assert json.loads(bench.call("state", container).out)["status"] == "running"


HOLD = "dd if=/dev/zero of=/dev/shm/f bs=1M count=32 2>/dev/null; touch /dev/shm/held; sleep 1000"


def test_no_limit_is_no_limit(bench: Bench) -> None:
    """What older writers of configurations say for "none" is not refused."""
    values = {"kernel": -1, "kernelTCP": -1, "disableOOMKiller": False, "useHierarchy": False}
    assert bench.run(setting("linux.resources.memory", values), "echo ok").out == "ok\n"
