"""What a configuration may have on Linux: the properties of OCI runtime-spec 1.2.1, and what came later and is here.

Taken from config.md and config-linux.md. "[]" is an item of a list, ".*" a value of a map whose keys are free. A list
or map of plain values is one property. Left out: what is another platform's (process.commandLine,
process.user.username, windows, solaris, vm, zos).
"""

from __future__ import annotations

VERSION = "1.2.1"
_HOOK = "path args env timeout"
_MAPPING = "containerID hostID size"
_THROTTLE = "major minor rate"
_OFFSET = "secs nanosecs"

#: Prefix -> the names below it.
_TABLE = {
    "": "ociVersion annotations hostname domainname",
    "root": "path readonly",
    "mounts[]": "source destination options type",
    "mounts[].uidMappings[]": _MAPPING,
    "mounts[].gidMappings[]": _MAPPING,
    "hooks.prestart[]": _HOOK,
    "hooks.createRuntime[]": _HOOK,
    "hooks.createContainer[]": _HOOK,
    "hooks.startContainer[]": _HOOK,
    "hooks.poststart[]": _HOOK,
    "hooks.poststop[]": _HOOK,
    "process": "args cwd env terminal apparmorProfile oomScoreAdj selinuxLabel noNewPrivileges",
    "process.consoleSize": "height width",
    "process.user": "uid gid umask additionalGids",
    "process.capabilities": "bounding permitted effective inheritable ambient",
    "process.ioPriority": "class priority",
    "process.scheduler": "policy nice priority flags runtime deadline period",
    "process.rlimits[]": "hard soft type",
    "process.execCPUAffinity": "initial final",
    "linux": "cgroupsPath rootfsPropagation sysctl maskedPaths readonlyPaths mountLabel",
    "linux.devices[]": "type path fileMode major minor uid gid",
    "linux.uidMappings[]": _MAPPING,
    "linux.gidMappings[]": _MAPPING,
    "linux.namespaces[]": "type path",
    "linux.resources": "unified",
    "linux.resources.devices[]": "allow type major minor access",
    "linux.resources.pids": "limit",
    "linux.resources.blockIO": "weight leafWeight",
    "linux.resources.blockIO.throttleReadBpsDevice[]": _THROTTLE,
    "linux.resources.blockIO.throttleWriteBpsDevice[]": _THROTTLE,
    "linux.resources.blockIO.throttleReadIOPSDevice[]": _THROTTLE,
    "linux.resources.blockIO.throttleWriteIOPSDevice[]": _THROTTLE,
    "linux.resources.blockIO.weightDevice[]": "major minor weight leafWeight",
    "linux.resources.cpu": "cpus mems period quota burst realtimePeriod realtimeRuntime shares idle",
    "linux.resources.hugepageLimits[]": "pageSize limit",
    "linux.resources.memory": (
        "kernel kernelTCP limit reservation swap swappiness disableOOMKiller useHierarchy checkBeforeUpdate"
    ),
    "linux.resources.network": "classID",
    "linux.resources.network.priorities[]": "name priority",
    "linux.resources.rdma.*": "hcaHandles hcaObjects",
    "linux.seccomp": "defaultAction defaultErrnoRet flags listenerPath listenerMetadata architectures",
    "linux.seccomp.syscalls[]": "names action errnoRet",
    "linux.seccomp.syscalls[].args[]": "index value valueTwo op",
    "linux.intelRdt": "closID l3CacheSchema memBwSchema enableCMT enableMBM",
    "linux.personality": "domain flags",
    "linux.timeOffsets.boottime": _OFFSET,
    "linux.timeOffsets.monotonic": _OFFSET,
    # 1.3.0
    "linux.netDevices.*": "name",
}
PROPERTIES = frozenset(
    f"{prefix}.{name}" if prefix else name for prefix, names in _TABLE.items() for name in names.split()
)
