"""Pieces of an OCI configuration with Docker's defaults, for whoever composes one; pure.

The agent starts from ``default_config()`` and changes what the service says. Sources: OCI
runtime-spec 1.2 (config.md, config-linux.md) and Docker's reference ("Runtime privilege and
Linux capabilities").
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from pycompose.worker.runtime import seccomp_default

OciConfig = dict[str, Any]
SPEC_VERSION = "1.2.0"
#: ``annotations[INIT_ANNOTATION] = "true"`` runs the program below an init helper (Compose ``init: true``).
INIT_ANNOTATION = "pycompose.init"

DEFAULT_PATH = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

DEFAULT_CAPABILITIES: tuple[str, ...] = (
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_FSETID",
    "CAP_FOWNER",
    "CAP_MKNOD",
    "CAP_NET_RAW",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETFCAP",
    "CAP_SETPCAP",
    "CAP_NET_BIND_SERVICE",
    "CAP_SYS_CHROOT",
    "CAP_KILL",
    "CAP_AUDIT_WRITE",
)
DEFAULT_MASKED_PATHS: tuple[str, ...] = (
    "/proc/asound",
    "/proc/acpi",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/sys/firmware",
    "/sys/devices/virtual/powercap",
)
DEFAULT_READONLY_PATHS: tuple[str, ...] = (
    "/proc/bus",
    "/proc/fs",
    "/proc/irq",
    "/proc/sys",
    "/proc/sysrq-trigger",
)
_CHARACTER_DEVICES = (
    ("null", 1, 3),
    ("zero", 1, 5),
    ("full", 1, 7),
    ("random", 1, 8),
    ("urandom", 1, 9),
    ("tty", 5, 0),
)


def default_devices() -> list[dict[str, Any]]:
    """``linux.devices``: what every container finds in /dev."""
    return [
        {"path": f"/dev/{name}", "type": "c", "major": major, "minor": minor, "fileMode": 0o666, "uid": 0, "gid": 0}
        for name, major, minor in _CHARACTER_DEVICES
    ]


def default_device_rules() -> list[dict[str, Any]]:
    """``linux.resources.devices``: nothing, but mknod, the default devices, terminals."""
    usable = [(major, minor) for _, major, minor in _CHARACTER_DEVICES] + [(5, 1), (5, 2), (136, None)]
    rules: list[dict[str, Any]] = [{"allow": False, "access": "rwm"}]
    rules += [{"allow": True, "type": kind, "access": "m"} for kind in ("c", "b")]
    for major, minor in usable:
        rule = {"allow": True, "type": "c", "major": major, "access": "rwm"}
        rules.append(rule if minor is None else rule | {"minor": minor})
    return rules


def default_mounts(shm_bytes: int = 64 * 1024 * 1024) -> list[dict[str, Any]]:
    """``mounts``: /proc, /dev, /dev/pts, /sys, cgroup, mqueue and shm (bytes) as Docker mounts them."""
    hidden = ["nosuid", "noexec", "nodev"]

    def mount(destination: str, kind: str, source: str, *options: str) -> dict[str, Any]:
        return {"destination": destination, "type": kind, "source": source, "options": list(options)}

    return [
        mount("/proc", "proc", "proc", *hidden),
        mount("/dev", "tmpfs", "tmpfs", "nosuid", "strictatime", "mode=755", "size=65536k"),
        mount("/dev/pts", "devpts", "devpts", "nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"),
        mount("/sys", "sysfs", "sysfs", *hidden, "ro"),
        mount("/sys/fs/cgroup", "cgroup", "cgroup", *hidden, "ro"),
        mount("/dev/mqueue", "mqueue", "mqueue", *hidden),
        mount("/dev/shm", "tmpfs", "shm", *hidden, "mode=1777", f"size={shm_bytes}"),
    ]


def namespaces(network_path: str | None = None, *, host_network: bool = False) -> list[dict[str, Any]]:
    """``linux.namespaces``: all new, but the network's, which is joined by path, new, or the host's."""
    result: list[dict[str, Any]] = [{"type": kind} for kind in ("pid", "mount", "uts", "ipc", "cgroup")]
    if network_path:
        result.append({"type": "network", "path": network_path})
    elif not host_network:
        result.append({"type": "network"})
    return result


def capabilities(names: tuple[str, ...] | list[str] = DEFAULT_CAPABILITIES) -> dict[str, list[str]]:
    """``process.capabilities``: the names in the bounding, effective and permitted sets."""
    return {kind: list(names) for kind in ("bounding", "effective", "permitted")}


def default_seccomp(names: Iterable[str] = DEFAULT_CAPABILITIES) -> dict[str, Any]:
    """``linux.seccomp``: the default profile for a container with these capabilities."""
    return seccomp_default.profile(names)


def default_config(arguments: list[str]) -> OciConfig:
    """A whole configuration that runs ``arguments`` as root of the image with Docker's defaults."""
    return {
        "ociVersion": SPEC_VERSION,
        "process": {
            "terminal": False,
            "user": {"uid": 0, "gid": 0},
            "args": arguments,
            "env": [DEFAULT_PATH],
            "cwd": "/",
            "capabilities": capabilities(),
            "rlimits": [],
            "noNewPrivileges": False,
        },
        "root": {"path": "rootfs", "readonly": False},
        "mounts": default_mounts(),
        "linux": {
            "namespaces": namespaces(),
            "devices": default_devices(),
            "resources": {"devices": default_device_rules()},
            "maskedPaths": list(DEFAULT_MASKED_PATHS),
            "readonlyPaths": list(DEFAULT_READONLY_PATHS),
            "seccomp": default_seccomp(),
        },
    }


def for_user(config: OciConfig, uid: int, gid: int) -> OciConfig:
    """The configuration as an ordinary user can run it: no limits, the machine's network and /sys."""
    linux = config["linux"]
    kinds = [{"type": "user"}, *(entry for entry in linux["namespaces"] if entry["type"] != "network")]
    own = {
        "namespaces": kinds,
        "uidMappings": [{"containerID": 0, "hostID": uid, "size": 1}],
        "gidMappings": [{"containerID": 0, "hostID": gid, "size": 1}],
    }
    mounts = []
    for mount in config["mounts"]:
        options = [option for option in mount["options"] if not option.startswith("gid=")]
        if mount["destination"] == "/sys":
            options = ["rbind", *options[:-1], "rro"]
            mount = mount | {"type": "none", "source": "/sys"}
        if mount["type"] != "cgroup":  # those of the machine come with /sys
            mounts.append(mount | {"options": options})
    return config | {"mounts": mounts, "linux": {**linux, **own, "resources": {}}}
