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
    if service.get("mem_reservation"):
        result.memory_reservation_bytes = size(service["mem_reservation"])
    elif reserved.get("memory"):
        result.memory_reservation_bytes = size(reserved["memory"])
    if service.get("memswap_limit"):
        result.memory_swap_bytes = size(service["memswap_limit"])
    if service.get("mem_swappiness") is not None:
        result.memory_swappiness = int(service["mem_swappiness"])
    result.cpu_shares = int(service.get("cpu_shares") or 0)
    result.cpu_quota_us = int(service.get("cpu_quota") or 0)
    result.cpu_period_us = int(service.get("cpu_period") or 0)
    result.cpuset_cpus = service.get("cpuset") or ""
    _block_io(result, service.get("blkio_config") or {}, name, problems)
    memory = result.limits.memory_bytes
    if 0 < memory < MINIMUM_MEMORY:
        problems.error(("services", name, "mem_limit"), f"{memory} bytes are too few", "the least is 6m")
    if 0 < memory < result.memory_reservation_bytes:
        problems.error(("services", name, "mem_reservation"), "more is reserved than the limit allows", "lower it")
    if 0 < result.memory_swap_bytes < memory:
        problems.error(("services", name, "memswap_limit"), "lower than the memory limit", "it counts memory and swap")
    for index, device in enumerate(reserved.get("devices") or ()):
        path = ("services", name, "deploy", "resources", "reservations", "devices", index)
        what = ", ".join(device.get("capabilities") or ()) or "devices"
        problems.error(path, f"reserving {what} is not there yet", "name device files under `devices:`")
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


def _block_io(result: pb.Resources, values: dict[str, Any], name: str, problems: Problems) -> None:
    result.blkio_weight = int(values.get("weight") or 0)
    for key, kind in _RATES.items():
        for entry in values.get(key) or ():
            result.blkio_rates.add(kind=kind, path=entry["path"], rate=size(entry["rate"]))
    if values.get("weight_device"):
        problems.error(
            ("services", name, "blkio_config", "weight_device"),
            "weights of single devices are not supported",
            "use weight, or device_read_bps and its like",
        )
