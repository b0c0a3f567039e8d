"""Limits in version 1's terms as version 2's files."""

from __future__ import annotations

from typing import Any

import pytest

from pycompose.worker.runtime import cgroup_v2
from pycompose.worker.runtime.errors import StepError


@pytest.mark.parametrize(
    ("resources", "expected"),
    [
        ({"memory": {"limit": 1000, "swap": 1500, "reservation": 10}}, ["memory.swap.max 500", "memory.max 1000",
         "memory.low 10"]),
        ({"memory": {"limit": -1, "swap": -1}}, ["memory.swap.max max", "memory.max max"]),
        ({"cpu": {"shares": 1024}}, ["cpu.weight 39"]),
        ({"cpu": {"shares": 262144}}, ["cpu.weight 10000"]),
        ({"cpu": {"quota": 50000}}, ["cpu.max 50000 100000"]),
        ({"cpu": {"quota": -1, "period": 5000}}, ["cpu.max max 5000"]),
        ({"cpu": {"cpus": "0-1", "mems": "0"}}, ["cpuset.cpus 0-1", "cpuset.mems 0"]),
        ({"pids": {"limit": 0}}, ["pids.max max"]),
        ({"pids": {"limit": 7}}, ["pids.max 7"]),
        ({"blockIO": {"weight": 1000}}, ["io.weight default 10000"]),
        ({"blockIO": {"throttleReadBpsDevice": [{"major": 8, "minor": 0, "rate": 5}]}}, ["io.max 8:0 rbps=5"]),
        ({"blockIO": {"weightDevice": [{"major": 8, "minor": 0, "weight": 10}]}}, ["io.weight 8:0 1"]),
        ({"rdma": {"mlx5_0": {"hcaHandles": 3}, "mlx5_1": {"hcaHandles": 1, "hcaObjects": 2}}},
         ["rdma.max mlx5_0 hca_handle=3", "rdma.max mlx5_1 hca_handle=1 hca_object=2"]),
        ({"unified": {"memory.high": "5"}}, ["memory.high 5"]),
        ({"memory": {"kernel": -1, "disableOOMKiller": False}}, []),
    ],
)  # fmt: skip
def test_settings(resources: dict[str, Any], expected: list[str]) -> None:
    assert [f"{name} {value}" for name, value in cgroup_v2.settings(resources)] == expected


@pytest.mark.parametrize(
    ("section", "values"),
    [
        ("memory", {"kernel": 4096}), ("memory", {"kernelTCP": 4096}), ("memory", {"swappiness": 10}),
        ("memory", {"disableOOMKiller": True}), ("cpu", {"realtimePeriod": 5}), ("cpu", {"realtimeRuntime": 5}),
        ("network", {"classID": 7}), ("network", {"priorities": [{"name": "lo", "priority": 1}]}),
        ("blockIO", {"leafWeight": 10}),
    ],
)  # fmt: skip
def test_what_version_2_has_not_is_refused(section: str, values: dict[str, Any]) -> None:
    with pytest.raises(StepError, match=rf"linux\.resources\.{section}\.{next(iter(values))}"):
        list(cgroup_v2.settings({section: values}))


def test_swap_below_memory_is_refused() -> None:
    with pytest.raises(StepError, match=r"memory\.swap"):
        list(cgroup_v2.settings({"memory": {"limit": 1000, "swap": 500}}))
