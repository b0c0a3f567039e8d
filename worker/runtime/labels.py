"""The label that a program gets from AppArmor or SELinux, where the kernel has them.

The file that takes it is the process's own and writable by nobody else, a fork's parent included: so it is opened and
written just before exec, which applies it, below a descriptor of /proc from when paths were still the machine's.
Sources: apparmor(7), kernel Documentation/userspace-api/lsm.rst, proc_pid_attr(5).
"""

from __future__ import annotations

import errno
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

    __slots__ = ("files", "proc", "text", "what")

    def __init__(self, process: dict[str, Any]) -> None:
        profile, context = process.get("apparmorProfile") or "", process.get("selinuxLabel") or ""
        self.proc, self.text, self.what = -1, b"", ""
        self.files = ["self/attr/exec"]
        if profile and profile != "unconfined":
            if not apparmor_enabled():
                raise ConfigError("process.apparmorProfile: this kernel has no AppArmor; leave the profile out")
            self.text, self.what = b"exec " + profile.encode(), f"AppArmor profile {profile!r}"
            self.files.insert(0, "self/attr/apparmor/exec")
        elif context:
            if not selinux_enabled():
                raise ConfigError("process.selinuxLabel: this kernel has no SELinux; leave the label out")
            self.text, self.what = context.encode(), f"SELinux label {context!r}"
        if self.text:
            self.proc = os.open("/proc", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)

    def apply(self) -> None:
        """Let the next exec take the label.

        Raises:
            ConfigError: the kernel does not know it.
        """
        if self.proc < 0:
            return
        fd = self._open()
        try:
            os.write(fd, self.text)
        except OSError as error:
            reason = "it is not loaded" if error.errno == errno.ENOENT else error.strerror
            raise ConfigError(f"{self.what}: {reason}") from None
        finally:
            os.close(fd)

    def _open(self) -> int:
        for name in self.files:
            try:
                return os.open(name, os.O_WRONLY | os.O_CLOEXEC, dir_fd=self.proc)
            except FileNotFoundError:
                continue
        raise ConfigError(f"{self.what}: /proc/{self.files[-1]} is missing: is /proc mounted?")
