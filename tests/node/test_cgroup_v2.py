"""Version 2 of cgroups: the device program and the freezer on the unified hierarchy, which hybrid machines have too."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from pycompose.worker.runtime import cgroup_v2, cgroups, device_filter, oci


@pytest.fixture
def cgroup() -> Iterator[cgroup_v2.CgroupV2]:
    """A cgroup of the unified hierarchy."""
    _, unified = cgroups.mounted()
    if not unified:
        pytest.skip("no unified hierarchy is mounted")
    found = cgroup_v2.CgroupV2(f"/pycompose-test-{os.getpid()}", unified)
    found.create({})
    yield found
    found.remove()


def inside(cgroup: cgroup_v2.CgroupV2, script: str) -> str:
    """What a shell in the cgroup prints."""
    enter = f"echo 0 > {cgroup.directory}/cgroup.procs; "
    return subprocess.run(["sh", "-c", enter + script], capture_output=True, text=True).stdout


@pytest.mark.parametrize(
    ("rules", "expected"),
    [
        ([], "null zero"),
        ([{"allow": False}], ""),
        (oci.default_device_rules(), "null zero"),
        ([{"allow": True}, {"allow": False, "type": "c", "major": 1, "minor": 3}], "zero"),
        ([{"allow": False}, {"allow": True, "type": "c", "major": 1, "access": "r"}], "zero"),
        ([{"allow": False}, {"allow": True, "type": "b"}], ""),
    ],
)
def test_device_rules_decide(
    cgroup: cgroup_v2.CgroupV2, tmp_path: Path, rules: list[dict[str, object]], expected: str
) -> None:
    node = tmp_path / "zero"
    os.mknod(node, 0o600 | 0o020000, os.makedev(1, 5))
    if rules:
        device_filter.attach(cgroup.directory, rules)
    script = f"(: > /dev/null) 2>&- && echo null; (: < {node}) 2>&- && echo zero"
    assert inside(cgroup, script).split() == expected.split()


def test_freezing_and_processes(cgroup: cgroup_v2.CgroupV2) -> None:
    with subprocess.Popen(["sleep", "1000"]) as sleeper:
        cgroups.write(cgroup.directory, "cgroup.procs", str(sleeper.pid))
        assert cgroup.processes() == [sleeper.pid]
        cgroup.freeze(True)
        assert cgroup.frozen()
        cgroup.freeze(False)
        assert not cgroup.frozen()
        sleeper.kill()
