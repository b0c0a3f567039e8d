"""`--systemd-cgroup`: the rows of tests/oci with systemd making the cgroups, on our runtime and on runc.

And what only systemd adds: the scope's name, slice and properties, a reload that must not undo limits, its end.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from oci import bundles
from oci.bundles import SLICE, Bench, all_of, setting
from oci.conftest import bench
from oci.test_config import ROWS, Row
from oci.test_lifecycle import (
    SLEEP,
    created,
    test_a_created_container_can_be_killed_and_deleted,
    test_exec,
    test_the_states_of_a_life,
    test_update_and_events,
    until,
)

from pycompose.worker.runtime import cgroups

__all__ = [
    "bench",
    "test_a_created_container_can_be_killed_and_deleted",
    "test_exec",
    "test_the_states_of_a_life",
    "test_update_and_events",
]
V2 = not cgroups.mounted()[0]
LIMITED = {
    "memory": {"limit": 64 << 20, "swap": 64 << 20},
    "cpu": {"shares": 512, "quota": 25_000, "period": 50_000, "cpus": "0"},
    "pids": {"limit": 33},
}
SUBJECTS = (
    "memory limit",
    "cpu quota",
    "cpu shares",
    "pids limit",
    "cpuset",
    "device rules",
    "devices",
    "pid namespace",
)


@pytest.fixture(scope="module", params=list(bundles.RUNTIMES))
def runtime(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    """The runtime under test, then the peer, both with systemd."""
    with bundles.open_bench(request.param, tmp_path_factory.mktemp(request.param)) as found:
        found.systemd = True
        yield found
    subprocess.run(["systemctl", "stop", SLICE], check=False)


@pytest.mark.parametrize("row", [row for row in ROWS if row.name in SUBJECTS], ids=lambda row: row.name)
def test_configuration(bench: Bench, row: Row) -> None:
    result = bench.run(row.change, row.command) if row.command else bench.run(row.change)
    assert (result.out.strip(), result.code) == (row.out, row.code), result.err


def shown(unit: str, *names: str) -> dict[str, str]:
    """Properties of a unit."""
    words = ["systemctl", "show", unit, *(f"--property={name}" for name in names)]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    return dict(line.split("=", 1) for line in done.stdout.splitlines())


def unit(bench: Bench) -> str:
    """The scope of the container that was configured last."""
    return bench.cgroup.rpartition("/")[2]


def running(bench: Bench, *changes: bundles.Change) -> str:
    """A started container."""
    bench.configure(all_of(*changes), SLEEP)
    container = bench.id()
    for words in (("create", container), ("start", container)):
        result = bench.call(*words)
        assert result.code == 0, result.err
    return container


def test_the_scope(bench: Bench) -> None:
    container = running(bench, setting("linux.resources", LIMITED | default_devices()))
    pid = json.loads(bench.call("state", container).out)["pid"]
    assert f"{bench.cgroup}\n" in Path(f"/proc/{pid}/cgroup").read_text()
    found = shown(unit(bench), "ActiveState", "Slice", "Delegate", "TasksMax", "CPUQuotaPerSecUSec")
    assert found == {
        "ActiveState": "active",
        "Slice": SLICE,
        "Delegate": "yes",
        "TasksMax": "33",
        "CPUQuotaPerSecUSec": "500ms",
    }
    limits = shown(unit(bench), "MemoryMax", "MemoryLimit", "CPUWeight", "CPUShares", "AllowedCPUs")
    if V2:
        assert (limits["MemoryMax"], limits["CPUWeight"], limits["AllowedCPUs"]) == (str(64 << 20), "20", "0")
    else:
        assert (limits["MemoryLimit"], limits["CPUShares"]) == (str(64 << 20), "512")
    assert bench.call("kill", container, "KILL").code == 0
    until(bench, container, "stopped")
    assert bench.call("delete", container).code == 0
    assert shown(unit(bench), "ActiveState", "LoadState") == {"ActiveState": "inactive", "LoadState": "not-found"}
    assert not list(Path("/sys/fs/cgroup").glob(f"*{bench.cgroup}"))
    assert not Path(f"/sys/fs/cgroup{bench.cgroup}").exists()


def default_devices() -> dict[str, object]:
    """Device rules as a container usually has them."""
    from pycompose.worker.runtime import oci

    return {"devices": oci.default_device_rules()}


def test_a_reload_undoes_nothing(bench: Bench) -> None:
    container = running(bench, setting("linux.resources", LIMITED | default_devices()))
    assert bench.call("update", "--memory", str(48 << 20), "--memory-swap", str(48 << 20), container).code == 0
    assert bench.call("update", "--pids-limit", "44", container).code == 0
    subprocess.run(["systemctl", "daemon-reload"], check=True)
    place = Path("/sys/fs/cgroup" + ("" if V2 else "/memory") + bench.cgroup)
    assert int((place / ("memory.max" if V2 else "memory.limit_in_bytes")).read_text()) == 48 << 20
    pids = Path("/sys/fs/cgroup" + ("" if V2 else "/pids") + bench.cgroup) / "pids.max"
    assert pids.read_text() == "44\n"
    assert shown(unit(bench), "TasksMax") == {"TasksMax": "44"}
    number = os.stat("/dev/vda").st_rdev
    node = f"mknod /tmp/m b {os.major(number)} {os.minor(number)}"
    script = f"{node}; cat /tmp/m >/dev/null 2>&1 && echo read || echo refused; rm /tmp/m; cat /dev/null"
    assert bench.call("exec", container, "sh", "-c", script).out == "refused\n"
    assert bench.call("delete", "--force", container).code == 0


def test_names_that_nobody_gave(bench: Bench) -> None:
    bench.configure(setting("linux.cgroupsPath", None), SLEEP)
    container = bench.id()
    assert bench.call("create", container).code == 0
    prefix = "runc" if bench.name == "runc" else "pycompose"
    assert shown(f"{prefix}-{container}.scope", "Slice") == {"Slice": "system.slice"}
    assert bench.call("delete", "--force", container).code == 0
    bench.configure(setting("linux.cgroupsPath", "a-b.slice:p:n"), SLEEP)
    container = bench.id()
    assert bench.call("create", container).code == 0
    assert shown("p-n.scope", "ControlGroup") == {"ControlGroup": "/a.slice/a-b.slice/p-n.scope"}
    assert bench.call("delete", "--force", container).code == 0


def test_annotations_become_properties(bench: Bench) -> None:
    wanted = {"org.systemd.property.Description": "'a box'", "org.systemd.property.TimeoutStopSec": "7"}
    container = running(bench, setting("annotations", wanted))
    found = shown(unit(bench), "Description", "TimeoutStopUSec")
    assert found == {"Description": "a box", "TimeoutStopUSec": "7s"}
    assert bench.call("delete", "--force", container).code == 0


@pytest.mark.parametrize("path", ["/just/a/path", "a:b", "not-a-slice:p:n", "a--b.slice:p:n", "-a.slice:p:n"])
def test_paths_that_are_none(bench: Bench, path: str) -> None:
    bench.configure(setting("linux.cgroupsPath", path))
    result = bench.call("run", bench.id())
    assert result.code == 1
    assert path.partition(":")[0] in result.err
    assert bench.call("list", "--quiet").out.strip() == ""


def test_a_failed_start_leaves_no_scope(bench: Bench) -> None:
    bench.configure(setting("process.args", ["no-such-program"]))
    assert bench.call("run", bench.id()).code != 0
    assert shown(unit(bench), "LoadState") == {"LoadState": "not-found"}


def test_the_scope_is_taken(bench: Bench) -> None:
    if bench.name == "runc":
        pytest.skip("runc 1.1 joins a scope that is taken, with a warning")
    container = created(bench)
    path = json.loads((bench.bundle / "config.json").read_text())["linux"]["cgroupsPath"]
    bench.configure(setting("linux.cgroupsPath", path), SLEEP)
    result = bench.call("create", bench.id())
    assert result.code == 1
    assert "has processes in it" in result.err
    assert result.err.count("\n") == 1
    assert json.loads(bench.call("state", container).out)["status"] == "created"
    assert bench.call("delete", "--force", container).code == 0
