"""Cgroup version 2: one directory, its controllers switched on in every directory above it.

Sources: kernel Documentation/admin-guide/cgroup-v2.rst, OCI runtime-spec config-linux.md. Limits are given in the
terms of version 1; how they become version 2's is what crun(1) documents under "CGROUP v2".
"""

from __future__ import annotations

import contextlib
import os
import time

from pycompose.worker.runtime import cgroups, device_filter, owning
from pycompose.worker.runtime.errors import StepError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from typing import Any

CONTROLLERS = ("cpu", "cpuset", "memory", "pids", "io")
#: Switched on only where they are asked for: systemd does not manage them, and most machines go without.
RARE = {"hugetlb": "hugepageLimits", "rdma": "rdma"}
_NOT_HERE = "cgroups of version 2 have no such limit"
_LACKING = (
    ("memory", "kernel", _NOT_HERE),
    ("memory", "kernelTCP", _NOT_HERE),
    ("memory", "swappiness", _NOT_HERE),
    ("memory", "disableOOMKiller", _NOT_HERE),
    ("cpu", "realtimePeriod", _NOT_HERE),
    ("cpu", "realtimeRuntime", _NOT_HERE),
    ("network", "classID", _NOT_HERE),
    ("network", "priorities", _NOT_HERE),
    ("blockIO", "leafWeight", cgroups.NO_LEAVES),
)
_THROTTLES = (
    ("throttleReadBpsDevice", "rbps"),
    ("throttleWriteBpsDevice", "wbps"),
    ("throttleReadIOPSDevice", "riops"),
    ("throttleWriteIOPSDevice", "wiops"),
)


def settings(resources: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """What to write into which file for OCI ``linux.resources``; device rules are not among them."""
    cgroups.refuse(resources, _LACKING)
    yield from _memory(resources.get("memory") or {})
    yield from _cpu(resources.get("cpu") or {})
    limit = (resources.get("pids") or {}).get("limit")
    if limit is not None:
        yield "pids.max", str(limit) if limit > 0 else "max"
    yield from _io(resources.get("blockIO") or {})
    for page in resources.get("hugepageLimits") or ():
        yield f"hugetlb.{page['pageSize']}.max", str(page["limit"])
    for line in cgroups.rdma(resources.get("rdma") or {}):
        yield "rdma.max", line
    yield from (resources.get("unified") or {}).items()


def _bytes(value: int) -> str:
    return "max" if value < 0 or value >= 1 << 63 else str(value)


def _memory(memory: dict[str, Any]) -> Iterator[tuple[str, str]]:
    limit, both = memory.get("limit"), memory.get("swap")
    if both is not None and both < 0:
        yield "memory.swap.max", "max"
    elif both and limit and limit > 0:
        if both < limit:
            raise StepError(f"memory.swap: {both} is below memory.limit {limit}; it counts memory and swap together")
        yield "memory.swap.max", _bytes(both - limit)
    if limit is not None and limit != 0:
        yield "memory.max", _bytes(limit)
    if memory.get("reservation") is not None:
        yield "memory.low", _bytes(memory["reservation"])


def _cpu(cpu: dict[str, Any]) -> Iterator[tuple[str, str]]:
    shares = cpu.get("shares")
    if shares:
        yield "cpu.weight", str(weight_of_shares(shares))
    quota, period = cpu.get("quota"), cpu.get("period")
    if quota is not None or period:
        yield "cpu.max", f"{quota if quota and quota > 0 else 'max'} {period or 100_000}"
    for key, name in (
        ("burst", "cpu.max.burst"),
        ("idle", "cpu.idle"),
        ("cpus", "cpuset.cpus"),
        ("mems", "cpuset.mems"),
    ):
        if cpu.get(key) not in (None, ""):
            yield name, str(cpu[key])


def weight_of_shares(shares: int) -> int:
    """cpu.shares (2 to 262144) as cpu.weight (1 to 10000)."""
    return 1 + (max(2, min(shares, 262_144)) - 2) * 9_999 // 262_142


def _io(block: dict[str, Any]) -> Iterator[tuple[str, str]]:
    weight = block.get("weight")
    if weight:
        yield "io.weight", f"default {_io_weight(weight)}"
    for rule in block.get("weightDevice") or ():
        if rule.get("weight"):
            yield "io.weight", f"{rule['major']}:{rule['minor']} {_io_weight(rule['weight'])}"
    for key, word in _THROTTLES:
        for rule in block.get(key) or ():
            yield "io.max", f"{rule['major']}:{rule['minor']} {word}={rule['rate'] or 'max'}"


def _io_weight(weight: int) -> int:
    """blkio.weight (10 to 1000) as io.weight (1 to 10000)."""
    return 1 + (weight - 10) * 9_999 // 990


class CgroupV2:
    """One container's directory below the mount point of the unified hierarchy."""

    def __init__(self, path: str, root: str) -> None:
        self._root = root
        self.directory = root + path

    def create(self, resources: dict[str, Any]) -> None:
        try:
            os.makedirs(self.directory, exist_ok=True)
        except OSError as error:
            raise StepError(f"cgroup: cannot make {self.directory}: {error.strerror}") from error
        named = [name.partition(".")[0] for name in resources.get("unified") or ()]
        rare = [name for name, key in RARE.items() if resources.get(key)]
        self._enable(dict.fromkeys((*CONTROLLERS, *rare, *named)))
        self.update(resources)
        rules = resources.get("devices") or []
        # an ordinary user loads no such program, and in a user namespace nothing that the rules allow can be made
        if rules and not os.geteuid() and owning.machines_root():
            try:
                device_filter.attach(self.directory, rules)
            except OSError as error:
                raise StepError(
                    f"cgroup: cannot attach the device rules to {self.directory}: {error.strerror}"
                ) from error

    def _enable(self, controllers: Iterable[str]) -> None:
        """Switch on what there is in the directories above; a controller that is not to be had fails at its file."""
        place = self._root
        for part in ["", *self.directory.removeprefix(self._root).strip("/").split("/")[:-1]]:
            place = f"{place}/{part}" if part else place
            there = set(cgroups.read(place, "cgroup.controllers").split())
            missing = [name for name in controllers if name in there - self._enabled(place)]
            for name in missing:
                with contextlib.suppress(StepError):
                    cgroups.write(place, "cgroup.subtree_control", f"+{name}")

    @staticmethod
    def _enabled(place: str) -> set[str]:
        return set(cgroups.read(place, "cgroup.subtree_control").split())

    def update(self, resources: dict[str, Any]) -> None:
        self._check_use(resources.get("memory") or {})
        for name, value in settings(resources):
            if name.startswith("memory.swap.") and not os.path.exists(f"{self.directory}/{name}"):
                continue  # a kernel without swap accounting: nothing can be swapped beyond the limit that it knows of
            cgroups.write(self.directory, name, value)

    def _check_use(self, memory: dict[str, Any]) -> None:
        """A limit below what is used already would have processes killed: version 1 refuses it by itself (EBUSY)."""
        limit, used = memory.get("limit") or -1, cgroups.read(self.directory, "memory.current").strip()
        if memory.get("checkBeforeUpdate") and used.isdigit() and 0 < limit < int(used):
            raise StepError(f"linux.resources.memory.limit: {limit} is below the {used} bytes that are in use")

    def join(self) -> None:
        cgroups.write(self.directory, "cgroup.procs", "0")

    def freeze(self, frozen: bool) -> None:
        wanted = int(frozen)
        cgroups.write(self.directory, "cgroup.freeze", str(wanted))
        for _ in range(400):
            if cgroups.pairs(cgroups.read(self.directory, "cgroup.events")).get("frozen") == wanted:
                return
            time.sleep(0.005)
        raise StepError(f"cgroup: {self.directory} did not become {'frozen' if frozen else 'thawed'} within 2 s")

    def frozen(self) -> bool:
        return cgroups.read(self.directory, "cgroup.freeze").strip() == "1"

    def processes(self) -> list[int]:
        found = []
        for place, _, _ in os.walk(self.directory):
            found += [int(line) for line in cgroups.read(place, "cgroup.procs").split()]
        return found

    def kill(self) -> None:
        """By ``cgroup.kill`` (Linux 5.14): also who is just being forked, and those below, in one step."""
        try:
            cgroups.write(self.directory, "cgroup.kill", "1")
        except StepError:  # an older kernel, or threads' cgroups below
            cgroups.kill_each(self.processes())

    def oom_kills(self) -> int:
        return cgroups.pairs(cgroups.read(self.directory, "memory.events")).get("oom_kill", 0)

    def usage(self) -> dict[str, Any]:
        def number(name: str) -> int:
            text = cgroups.read(self.directory, name).strip()
            return int(text) if text.isdigit() else 0

        sums = {"rbytes": 0, "wbytes": 0}
        for line in cgroups.read(self.directory, "io.stat").splitlines():
            for field in line.split()[1:]:
                key, _, value = field.partition("=")
                if key in sums and value.isdigit():
                    sums[key] += int(value)
        memory = cgroups.pairs(cgroups.read(self.directory, "memory.stat"))
        return {
            "cpu_ns": cgroups.pairs(cgroups.read(self.directory, "cpu.stat")).get("usage_usec", 0) * 1000,
            "memory_bytes": max(number("memory.current") - memory.get("inactive_file", 0), 0),
            "memory_limit": number("memory.max") or (1 << 63) - 4096,
            "pids": number("pids.current"),
            "read_bytes": sums["rbytes"],
            "write_bytes": sums["wbytes"],
        }

    def remove(self) -> None:
        cgroups.remove_directories([self.directory])
