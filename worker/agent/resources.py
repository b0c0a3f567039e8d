"""A spec's limits as OCI ``linux.resources`` (runtime-spec config-linux.md). Pure: device numbers come in resolved."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

from pycompose.proto.v1 import container_pb2
from pycompose.worker.agent.oci_config import SpecError

DEFAULT_PERIOD_US = 100_000
_RATES = {
    container_pb2.BLKIO_RATE_KIND_READ_BPS: "throttleReadBpsDevice",
    container_pb2.BLKIO_RATE_KIND_WRITE_BPS: "throttleWriteBpsDevice",
    container_pb2.BLKIO_RATE_KIND_READ_IOPS: "throttleReadIOPSDevice",
    container_pb2.BLKIO_RATE_KIND_WRITE_IOPS: "throttleWriteIOPSDevice",
}
Number = Callable[[str], tuple[int, int]]


def most_pids(kernel: str = "/proc/sys/kernel") -> int:
    """How many processes and threads a container may have by default: 15 % of what the machine can have.

    As systemd's DefaultTasksMax (systemd-system.conf(5)).
    """
    return min(int(Path(kernel, name).read_text()) for name in ("pid_max", "threads-max")) * 15 // 100


def resources_of(container: container_pb2.ContainerSpec, number: Number, most_pids: int) -> dict[str, Any]:
    """Return everything of ``linux.resources`` but its device rules.

    Args:
        container: the spec.
        number: gives (major, minor) of a block device's path on this node.
        most_pids: how many processes a container may have that does not say so itself; 0: no limit is set.
    """
    wanted = container.resources
    pids = wanted.limits.pids or most_pids  # below 0: no limit
    found = {
        "memory": _memory(wanted, disable_killer=container.oom_kill_disable),
        "cpu": _cpu(wanted),
        "blockIO": _block_io(wanted, number),
        "pids": {"limit": pids} if pids else {},
    }
    return {section: values for section, values in found.items() if values}


def _memory(wanted: container_pb2.Resources, *, disable_killer: bool) -> dict[str, Any]:
    memory: dict[str, Any] = {}
    if wanted.limits.memory_bytes:
        memory["limit"] = wanted.limits.memory_bytes
        memory["swap"] = wanted.memory_swap_bytes or 2 * wanted.limits.memory_bytes
    if wanted.memory_reservation_bytes:
        memory["reservation"] = wanted.memory_reservation_bytes
    if wanted.HasField("memory_swappiness"):
        memory["swappiness"] = wanted.memory_swappiness
    if disable_killer:
        memory["disableOOMKiller"] = True
    return memory


def _cpu(wanted: container_pb2.Resources) -> dict[str, Any]:
    cpu: dict[str, Any] = {}
    period = wanted.cpu_period_us or DEFAULT_PERIOD_US
    if wanted.limits.nano_cpus:
        cpu |= {"period": period, "quota": wanted.limits.nano_cpus * period // 1_000_000_000}
    elif wanted.cpu_quota_us or wanted.cpu_period_us:
        cpu |= {"period": period, "quota": wanted.cpu_quota_us or -1}
    values = {
        "shares": wanted.cpu_shares,
        "cpus": wanted.cpuset_cpus,
        "mems": wanted.cpuset_mems,
        "realtimePeriod": wanted.cpu_rt_period_us,
        "realtimeRuntime": wanted.cpu_rt_runtime_us,
    }
    return cpu | {key: value for key, value in values.items() if value}


def _block_io(wanted: container_pb2.Resources, number: Number) -> dict[str, Any]:
    found: dict[str, Any] = {}
    if wanted.blkio_weight:
        found["weight"] = wanted.blkio_weight
    for weight in wanted.blkio_device_weights:
        major, minor = number(weight.path)
        found.setdefault("weightDevice", []).append({"major": major, "minor": minor, "weight": weight.weight})
    for rate in wanted.blkio_rates:
        major, minor = number(rate.path)
        found.setdefault(_RATES[rate.kind], []).append({"major": major, "minor": minor, "rate": rate.rate})
    return found


_LIMITS = {
    "memory": "mem_limit, deploy.resources.limits.memory and the like",
    "cpu": "cpus, cpu_shares, deploy.resources.limits.cpus and the like",
    "cpuset": "cpuset",
    "io": "blkio_config",
    "pids": "pids_limit and deploy.resources.limits.pids",
}


def refuse_limits(found: Mapping[str, Any], controllers: Collection[str]) -> None:
    """Refuse limits that an ordinary user's node cannot keep.

    Args:
        found: `linux.resources`.
        controllers: what is delegated to the node (cgroup-v2.rst), such as cpu, memory, pids.

    Raises:
        SpecError: names the attributes, and what helps.
    """
    for controller in _needed(found):
        if not controllers:
            raise SpecError(
                f"{_LIMITS[controller]}: this node is an ordinary user's, and no cgroup is delegated to it, so it can "
                "enforce no limit; leave it out, or use root's node; pycompose node status says why"
            )
        if controller not in controllers:
            raise SpecError(
                f"{_LIMITS[controller]}: this node is an ordinary user's, to which systemd delegates "
                f"{', '.join(sorted(controllers))} and no {controller}; leave it out, or as root: systemctl edit "
                "user@.service, [Service] Delegate=cpu cpuset io memory pids"
            )


def _needed(found: Mapping[str, Any]) -> Iterator[str]:
    """Yield the controllers that limits need."""
    for section in found:
        if section == "cpu":
            pinned = found["cpu"].keys() & {"cpus", "mems"}
            yield from ["cpu"] * (found["cpu"].keys() > pinned) + ["cpuset"] * bool(pinned)
        else:
            yield {"blockIO": "io"}.get(section, section)


def without_version_1(found: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """Return `found` without what only version 1 of cgroups knows, and a warning for each that goes.

    Source: kernel Documentation/admin-guide/cgroup-v2.rst, "Deprecated v1 Core Features".
    """
    kept = {section: dict(values) for section, values in found.items()}
    warnings = []
    for section, key, attribute in (
        ("memory", "swappiness", "mem_swappiness"),
        ("memory", "disableOOMKiller", "oom_kill_disable"),
        ("cpu", "realtimePeriod", "cpu_rt_period"),
        ("cpu", "realtimeRuntime", "cpu_rt_runtime"),
    ):
        if kept.get(section, {}).pop(key, None) is not None:
            warnings.append(f"{attribute} has no effect: this node's cgroups are version 2, which has no such limit")
    return {section: values for section, values in kept.items() if values}, warnings
