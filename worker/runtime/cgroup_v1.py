"""Cgroup version 1, also its hybrid form: one directory per hierarchy.

Source: kernel Documentation/admin-guide/cgroup-v1/*.rst, OCI runtime-spec config-linux.md.
"""

from __future__ import annotations

import contextlib
import os
import time

from pycompose.worker.runtime import cgroups
from pycompose.worker.runtime.errors import StepError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

#: (section, key in OCI linux.resources) -> (controller, file), written as they are
_PLAIN: tuple[tuple[str, str, str, str], ...] = (
    ("memory", "reservation", "memory", "memory.soft_limit_in_bytes"),
    ("memory", "swappiness", "memory", "memory.swappiness"),
    ("memory", "kernel", "memory", "memory.kmem.limit_in_bytes"),
    ("memory", "kernelTCP", "memory", "memory.kmem.tcp.limit_in_bytes"),
    ("cpu", "shares", "cpu", "cpu.shares"),
    ("cpu", "period", "cpu", "cpu.cfs_period_us"),
    ("cpu", "quota", "cpu", "cpu.cfs_quota_us"),
    ("cpu", "burst", "cpu", "cpu.cfs_burst_us"),
    ("cpu", "idle", "cpu", "cpu.idle"),
    ("cpu", "realtimePeriod", "cpu", "cpu.rt_period_us"),
    ("cpu", "realtimeRuntime", "cpu", "cpu.rt_runtime_us"),
    ("cpu", "cpus", "cpuset", "cpuset.cpus"),
    ("cpu", "mems", "cpuset", "cpuset.mems"),
    ("network", "classID", "net_cls", "net_cls.classid"),
)
_LACKING = (("blockIO", "leafWeight", cgroups.NO_LEAVES),)
_THROTTLES: tuple[tuple[str, str], ...] = (
    ("throttleReadBpsDevice", "blkio.throttle.read_bps_device"),
    ("throttleWriteBpsDevice", "blkio.throttle.write_bps_device"),
    ("throttleReadIOPSDevice", "blkio.throttle.read_iops_device"),
    ("throttleWriteIOPSDevice", "blkio.throttle.write_iops_device"),
)


class CgroupV1:
    """One container's directories, one per mounted hierarchy."""

    def __init__(self, path: str, controllers: dict[str, str]) -> None:
        self._roots = controllers
        self.directories = {name: root + path for name, root in controllers.items()}

    def create(self, resources: dict[str, Any]) -> None:
        for directory in dict.fromkeys(self.directories.values()):
            try:
                with contextlib.suppress(FileNotFoundError, FileExistsError):
                    os.mkdir(directory)
                    continue
                os.makedirs(directory, exist_ok=True)
            except OSError as error:
                raise StepError(f"cgroup: cannot make {directory}: {error.strerror}") from error
        if "cpuset" in self.directories:
            self._inherit_cpuset(self.directories["cpuset"])
        self.update(resources)
        self._devices(resources.get("devices") or [])

    def _inherit_cpuset(self, directory: str) -> None:
        """A new cpuset is empty and takes no process: copy the parents' sets downwards.

        A parent may be half done by another shim just now: then it is done twice.
        """
        names = ("cpuset.cpus", "cpuset.mems")
        missing = [directory]
        while not all(cgroups.read(missing[-1], name).strip() for name in names):
            missing.append(os.path.dirname(missing[-1]))
        source = missing.pop()
        for each in reversed(missing):
            for name in names:
                cgroups.write(each, name, cgroups.read(source, name).strip())

    def update(self, resources: dict[str, Any]) -> None:
        cgroups.refuse(resources, _LACKING)
        for name in resources.get("unified") or ():
            raise StepError(
                f"linux.resources.unified.{name}: this machine's controllers are of version 1; leave it out"
            )
        self._memory(resources.get("memory") or {})
        for section, key, controller, name in _PLAIN:
            value = (resources.get(section) or {}).get(key)
            if value not in (None, ""):
                self._write(controller, name, str(value))
        pids = (resources.get("pids") or {}).get("limit")
        if pids is not None:
            self._write("pids", "pids.max", str(pids) if pids > 0 else "max")
        self._block_io(resources.get("blockIO") or {})
        for page in resources.get("hugepageLimits") or ():
            self._write("hugetlb", f"hugetlb.{page['pageSize']}.limit_in_bytes", str(page["limit"]))
        for priority in (resources.get("network") or {}).get("priorities") or ():
            self._write("net_prio", "net_prio.ifpriomap", f"{priority['name']} {priority['priority']}")
        for line in cgroups.rdma(resources.get("rdma") or {}):
            self._write("rdma", "rdma.max", line)

    def _block_io(self, block: dict[str, Any]) -> None:
        for key, name in _THROTTLES:
            for rule in block.get(key) or ():
                self._write("blkio", name, f"{rule['major']}:{rule['minor']} {rule['rate']}")
        # which of the two there is depends on the kernel's I/O schedulers (block/bfq-iosched.rst)
        directory = self.directories.get("blkio", "")
        prefix = "blkio" if os.path.exists(f"{directory}/blkio.weight") else "blkio.bfq"
        if block.get("weight"):
            self._write("blkio", f"{prefix}.weight", str(block["weight"]))
        for rule in block.get("weightDevice") or ():
            if not rule.get("weight"):
                continue
            number = f"{rule['major']}:{rule['minor']}"
            try:
                self._write("blkio", f"{prefix}.weight_device", f"{number} {rule['weight']}")
            except StepError as error:
                raise StepError(
                    f"cgroup: the I/O of device {number} has no weights: its scheduler is not bfq"
                ) from error

    def _memory(self, memory: dict[str, Any]) -> None:
        limit, swap = memory.get("limit"), memory.get("swap")
        writes = [(limit, "memory.limit_in_bytes"), (swap, "memory.memsw.limit_in_bytes")]
        writes = [(value, name) for value, name in writes if value is not None]
        if len(writes) == 2 and "memory" in self.directories:
            # limit may never exceed limit+swap: when the new limit is above the old sum, the sum goes first
            current = int(cgroups.read(self.directories["memory"], "memory.memsw.limit_in_bytes", "0") or 0)
            if (swap or 0) < 0 or (limit or 0) > current:
                writes.reverse()
        for value, name in writes:
            self._write("memory", name, str(value))
        if memory.get("disableOOMKiller"):
            self._write("memory", "memory.oom_control", "1")

    def _write(self, controller: str, name: str, value: str) -> None:
        directory = self.directories.get(controller)
        if directory is None:
            raise StepError(f"cgroup: this machine has no {controller} controller for {name}")
        cgroups.write(directory, name, value)

    def _devices(self, rules: list[dict[str, Any]]) -> None:
        for rule in rules:
            kind = rule.get("type") or "a"
            name = "devices.allow" if rule.get("allow") else "devices.deny"
            if kind == "a":
                self._write("devices", name, "a")
                continue
            major, minor = (rule.get(key) for key in ("major", "minor"))
            numbers = ":".join("*" if number in (None, -1) else str(number) for number in (major, minor))
            self._write("devices", name, f"{kind} {numbers} {rule.get('access') or 'rwm'}")

    def join(self) -> None:
        """By ``tasks``: a single thread that moves itself needs no lock on all thread groups of the machine.

        Through ``cgroup.procs`` the same takes an RCU grace period, 5 to 15 ms
        (cgroup_procs_write_start in kernel/cgroup/cgroup.c).
        """
        for directory in dict.fromkeys(self.directories.values()):
            cgroups.write(directory, "tasks", "0")

    def freeze(self, frozen: bool) -> None:
        directory, wanted = self.directories["freezer"], "FROZEN" if frozen else "THAWED"
        for _ in range(400):
            cgroups.write(directory, "freezer.state", wanted)
            if cgroups.read(directory, "freezer.state").strip() == wanted:
                return
            time.sleep(0.005)
        raise StepError(f"cgroup: {directory} did not become {wanted} within 2 s")

    def frozen(self) -> bool:
        return cgroups.read(self.directories.get("freezer", ""), "freezer.state").strip() == "FROZEN"

    def processes(self) -> list[int]:
        directory = self.directories.get("pids") or next(iter(self.directories.values()))
        return [int(line) for line in cgroups.read(directory, "cgroup.procs").split()]

    def kill(self) -> None:
        cgroups.kill_each(self.processes())

    def oom_kills(self) -> int:
        text = cgroups.read(self.directories.get("memory", ""), "memory.oom_control")
        return cgroups.pairs(text).get("oom_kill", 0)

    def usage(self) -> dict[str, Any]:
        def number(controller: str, name: str) -> int:
            text = cgroups.read(self.directories.get(controller, ""), name).strip()
            return int(text) if text.isdigit() else 0

        memory = cgroups.pairs(cgroups.read(self.directories.get("memory", ""), "memory.stat"))
        block = cgroups.read(self.directories.get("blkio", ""), "blkio.throttle.io_service_bytes")
        sums = {"Read": 0, "Write": 0}
        for line in block.splitlines():
            fields = line.split()
            if len(fields) == 3 and fields[1] in sums:
                sums[fields[1]] += int(fields[2])
        cached = memory.get("total_inactive_file", 0)
        used = number("memory", "memory.usage_in_bytes")
        return {
            "cpu_ns": number("cpuacct", "cpuacct.usage"),
            "memory_bytes": max(used - cached, 0),
            "memory_limit": number("memory", "memory.limit_in_bytes"),
            "pids": number("pids", "pids.current"),
            "read_bytes": sums["Read"],
            "write_bytes": sums["Write"],
        }

    def remove(self) -> None:
        cgroups.remove_directories(dict.fromkeys(self.directories.values()))
