"""CPU, memory, process and block I/O limits of a service."""

from __future__ import annotations

from typing import Any

from pycompose.compose.convert.problems import Problems
from pycompose.compose.convert.values import size
from pycompose.proto.v1 import container_pb2 as pb

_RATES = {
    "device_read_bps": pb.BLKIO_RATE_KIND_READ_BPS,
    "device_write_bps": pb.BLKIO_RATE_KIND_WRITE_BPS,
    "device_read_iops": pb.BLKIO_RATE_KIND_READ_IOPS,
    "device_write_iops": pb.BLKIO_RATE_KIND_WRITE_IOPS,
}
MINIMUM_MEMORY = 6 << 20
DEVICE_REMEDY = "name device files under devices:, such as /dev/dri or /dev/nvidia0"

Path = tuple[str | int, ...]


def resources(service: dict[str, Any], name: str, problems: Problems) -> pb.Resources:
    """Return the service's limits and reservations; deploy.resources and the short keys say the same where both are."""
    result = pb.Resources()
    deploy = (service.get("deploy") or {}).get("resources") or {}
    limits, reserved = deploy.get("limits") or {}, deploy.get("reservations") or {}
    _amounts(result.limits, limits)
    _amounts(result.reservations, reserved)
    if service.get("cpus"):
        result.limits.nano_cpus = round(float(service["cpus"]) * 1e9)
    if service.get("mem_limit"):
        result.limits.memory_bytes = size(service["mem_limit"])
    if service.get("pids_limit"):
        result.limits.pids = int(service["pids_limit"])
    _memory(result, service, reserved, ("services", name), problems)
    _cpu(result, service, ("services", name), problems)
    _block_io(result, service.get("blkio_config") or {}, name, problems)
    for index, device in enumerate(reserved.get("devices") or ()):
        path = ("services", name, "deploy", "resources", "reservations", "devices", index)
        what = ", ".join(device.get("capabilities") or ()) or "devices"
        problems.error(path, f"{what} cannot be reserved: this node has none to give", DEVICE_REMEDY)
    return result


def _amounts(amounts: pb.ResourceAmounts, values: dict[str, Any]) -> None:
    if values.get("cpus"):
        amounts.nano_cpus = round(float(values["cpus"]) * 1e9)
    if values.get("memory"):
        amounts.memory_bytes = size(values["memory"])
    if values.get("pids"):
        amounts.pids = int(values["pids"])
    for entry in values.get("generic_resources") or ():
        one = entry.get("discrete_resource_spec") or {}
        amounts.generic[one.get("kind", "")] = int(one.get("value", 0))


def _memory(
    result: pb.Resources, service: dict[str, Any], reserved: dict[str, Any], path: Path, problems: Problems
) -> None:
    soft = service.get("mem_reservation") or reserved.get("memory")
    if soft:
        result.memory_reservation_bytes = size(soft)
    if service.get("memswap_limit"):
        result.memory_swap_bytes = size(service["memswap_limit"])
    if service.get("mem_swappiness") is not None:
        swappiness = int(service["mem_swappiness"])
        if not 0 <= swappiness <= 100:
            problems.error((*path, "mem_swappiness"), f"{swappiness} is out of range", "want 0 to 100")
        else:
            result.memory_swappiness = swappiness
    memory, both = result.limits.memory_bytes, result.memory_swap_bytes
    if 0 < memory < MINIMUM_MEMORY:
        problems.error((*path, "mem_limit"), f"{memory} bytes are too few", "the least is 6m")
    if 0 < memory < result.memory_reservation_bytes:
        problems.error((*path, "mem_reservation"), "more is reserved than the limit allows", "lower it")
    if both > 0 and not memory:
        problems.error((*path, "memswap_limit"), "means nothing without a memory limit", "add mem_limit")
    elif 0 < both < memory:
        problems.error((*path, "memswap_limit"), "lower than the memory limit", "it counts memory and swap")


def _cpu(result: pb.Resources, service: dict[str, Any], path: Path, problems: Problems) -> None:
    result.cpu_shares = int(service.get("cpu_shares") or 0)
    result.cpu_quota_us = int(service.get("cpu_quota") or 0)
    result.cpu_period_us = int(service.get("cpu_period") or 0)
    result.cpu_rt_period_us = int(service.get("cpu_rt_period") or 0)
    result.cpu_rt_runtime_us = int(service.get("cpu_rt_runtime") or 0)
    result.cpuset_cpus = service.get("cpuset") or ""
    for key in ("cpu_quota", "cpu_period"):
        if service.get(key) and result.limits.nano_cpus:
            problems.error((*path, key), "says the same as the limit of cpus", f"keep {key} or cpus")
    if result.cpu_period_us and not 1000 <= result.cpu_period_us <= 1_000_000:
        problems.error((*path, "cpu_period"), f"{result.cpu_period_us} µs is out of range", "want 1000 to 1000000")
    if 0 < result.cpu_quota_us < 1000:
        problems.error((*path, "cpu_quota"), f"{result.cpu_quota_us} µs are too few", "the least is 1000")


def _block_io(result: pb.Resources, values: dict[str, Any], name: str, problems: Problems) -> None:
    path: Path = ("services", name, "blkio_config")
    result.blkio_weight = _weight(values.get("weight"), (*path, "weight"), problems)
    for key, kind in _RATES.items():
        for entry in values.get(key) or ():
            result.blkio_rates.add(kind=kind, path=entry["path"], rate=size(entry["rate"]))
    for index, entry in enumerate(values.get("weight_device") or ()):
        weight = _weight(entry["weight"], (*path, "weight_device", index, "weight"), problems)
        result.blkio_device_weights.add(path=entry["path"], weight=weight)


def _weight(value: Any, path: Path, problems: Problems) -> int:
    weight = int(value or 0)
    if weight and not 10 <= weight <= 1000:
        problems.error(path, f"{weight} is out of range", "want 10 to 1000")
        return 0
    return weight
