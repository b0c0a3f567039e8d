"""The label that a program gets from AppArmor or SELinux, where the kernel has them.

The file that takes it is opened while paths are still the machine's and written just before exec, which applies it.
Sources: apparmor(7), kernel Documentation/userspace-api/lsm.rst, proc_pid_attr(5).
"""

from __future__ import annotations

import os

from pycompose.worker.runtime.errors import ConfigError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def apparmor_enabled() -> bool:
    """Whether the kernel confines by AppArmor."""
    try:
        with open("/sys/module/apparmor/parameters/enabled") as file:
            return file.read(1) == "Y"
    except OSError:
        return False


def selinux_enabled() -> bool:
    """Whether SELinux's file system is mounted."""
    return os.path.exists("/sys/fs/selinux/enforce")


class Label:
    """What to write, and where.

    Raises:
        ConfigError: the kernel does not have what is asked for.
    """

    __slots__ = ("fd", "text")

    def __init__(self, process: dict[str, Any]) -> None:
        profile, context = process.get("apparmorProfile") or "", process.get("selinuxLabel") or ""
        self.fd, self.text = -1, b""
        if profile and profile != "unconfined":
            if not apparmor_enabled():
                raise ConfigError("process.apparmorProfile: this kernel has no AppArmor; leave the profile out")
            self.text = b"exec " + profile.encode()
            self.fd = _open("/proc/self/attr/apparmor/exec", "/proc/self/attr/exec")
        elif context:
            if not selinux_enabled():
                raise ConfigError("process.selinuxLabel: this kernel has no SELinux; leave the label out")
            self.text = context.encode()
            self.fd = _open("/proc/self/attr/exec")

    def apply(self) -> None:
        """Let the next exec take the label."""
        if self.fd >= 0:
            os.write(self.fd, self.text)


def _open(*candidates: str) -> int:
    for path in candidates:
        if os.path.exists(path):
            return os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    raise ConfigError(f"{candidates[-1]} is missing: is /proc mounted?")
