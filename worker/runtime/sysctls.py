"""Sysctls of a container's namespaces. Sources: OCI runtime-spec config-linux.md "Sysctl", proc_sys(5)."""

from __future__ import annotations

import os
import socket

from pycompose.worker.runtime import syscalls
from pycompose.worker.runtime.errors import ConfigError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from pycompose.worker.runtime.namespaces import Plan
    from pycompose.worker.runtime.root import Progress

#: Sysctls that belong to a namespace of the container; others would change the machine.
_SYSCTL_PREFIXES = ("net.", "fs.mqueue.")
_SYSCTLS = frozenset(
    "kernel." + name
    for name in (
        *("msgmax", "msgmnb", "msgmni", "sem", "shmall", "shmmax", "shmmni", "shm_rmid_forced"),
        *("domainname", "hostname"),
    )
)


def write(config: dict[str, Any], plan: Plan, progress: Progress, mine: int) -> None:
    """Write them through the host's own /proc, which shows the namespaces of whoever writes.

    Args:
        config: the configuration.
        plan: its namespaces.
        progress: for errors.
        mine: CLONE_NEW* flags of the namespaces whose sysctls are written now.

    Raises:
        ConfigError: one that would change the machine.
    """
    for name, value in ((config.get("linux") or {}).get("sysctl") or {}).items():
        progress.step = f"set sysctl {name}"
        if not (name in _SYSCTLS or name.startswith(_SYSCTL_PREFIXES)) or ".." in name or "/" in name:
            raise ConfigError(f"{name} belongs to the machine, not to a container")
        names = name in ("kernel.domainname", "kernel.hostname")
        kind, flag = ("uts", syscalls.CLONE_NEWUTS) if names else ("ipc", syscalls.CLONE_NEWIPC)
        if name.startswith("net."):
            kind, flag = "network", syscalls.CLONE_NEWNET
        if not (plan.new | plan.joined()) & flag:
            raise ConfigError(f"{name} needs a {kind} namespace of the container's own")
        if not mine & flag:
            continue
        if names and plan.user is not None:  # the file is the machine's root's
            if name == "kernel.hostname":
                socket.sethostname(str(value))
            else:
                syscalls.setdomainname(str(value).encode())
            continue
        fd = os.open("/proc/sys/" + name.replace(".", "/"), os.O_WRONLY | os.O_CLOEXEC)
        try:
            os.write(fd, str(value).encode())
        finally:
            os.close(fd)
