"""``linux.netDevices``: devices of the machine, here of a network namespace that stands for it, go into a container."""

from __future__ import annotations

from typing import Any

import pytest
from oci.bundles import Bench, all_of, setting

MACHINE = """
set -e
ip link set lo up
ip link add outer0 type veth peer name outer1
ip address add 198.51.100.7/24 dev outer0
ip address add 2001:db8::7/64 dev outer0 nodad
ip address add 169.254.3.4/16 dev outer0 scope link
ip link set outer0 up
ip link set outer1 up
exec "$@"
"""
BEFORE = ("unshare", "--net", "sh", "-c", MACHINE, "machine")


def run(bench: Bench, devices: dict[str, Any], command: str, **more: Any) -> tuple[str, str, int]:
    if bench.name == "runc":
        pytest.skip("network devices came with runc 1.4")
    changes = [setting("ociVersion", "1.2.1"), setting("linux.netDevices", devices)]
    bench.configure(all_of(*changes, *(setting(key, value) for key, value in more.items())), command)
    found = bench.call("run", bench.id(), before=BEFORE)
    return found.out, found.err, found.code


def test_a_device_comes_with_its_global_addresses(bench: Bench) -> None:
    out, err, code = run(bench, {"outer0": {}}, "ip -o address show dev outer0; ip -o link show dev outer0")
    assert code == 0, err
    assert "198.51.100.7/24" in out
    assert "2001:db8::7/64" in out
    assert "169.254.3.4" not in out
    assert "UP" in out


def test_it_may_have_another_name(bench: Bench) -> None:
    out, err, code = run(bench, {"outer0": {"name": "eth7"}, "outer1": {}}, "ip -o link | cut -d' ' -f2")
    assert code == 0, err
    assert {word.partition("@")[0].rstrip(":") for word in out.split()} >= {"lo", "eth7", "outer1"}


@pytest.mark.parametrize(
    ("devices", "named"),
    [
        ({"nothere": {}}, "linux.netDevices.nothere"),
        ({"outer0": {"name": "lo"}}, "linux.netDevices.outer0"),
        ({"outer0": {"name": "x"}, "outer1": {"name": "x"}}, "linux.netDevices.outer1"),
        ({"outer0": {"name": "a/b"}}, "a/b"),
        ({"outer0": {"name": "sixteen-letters-"}}, "sixteen-letters-"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_devices_that_cannot_be_moved(bench: Bench, devices: dict[str, Any], named: str) -> None:
    out, err, code = run(bench, devices, "echo ran")
    assert out == ""
    assert code != 0
    assert named in err
    assert len(err.splitlines()) == 1
    assert bench.call("list", "--quiet").out == ""


def test_the_machines_own_namespace_has_them_already(bench: Bench) -> None:
    kinds = [{"type": kind} for kind in ("pid", "mount", "uts", "ipc", "cgroup")]
    out, err, code = run(bench, {"outer0": {}}, "echo ran", **{"linux.namespaces": kinds})
    assert (out, code) != ("ran\n", 0)
    assert "linux.netDevices" in err
