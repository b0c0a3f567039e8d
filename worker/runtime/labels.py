"""The label that a program gets from AppArmor or SELinux, where the kernel has them.

The file that takes it is the process's own: what a fork's parent opened cannot be written. A container's first process
opens it while paths are still the machine's. One that enters a container finds it in the container's /proc, which may
be anything: so the file must say afterwards what was written.
Sources: apparmor(7), kernel Documentation/userspace-api/lsm.rst, proc_pid_attr(5).
"""

from __future__ import annotations

import errno
import os

from pycompose.worker.runtime import paths
from pycompose.worker.runtime.errors import ConfigError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
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

    __slots__ = ("fd", "files", "text", "what")

    def __init__(self, process: dict[str, Any]) -> None:
        profile, context = process.get("apparmorProfile") or "", process.get("selinuxLabel") or ""
        self.fd, self.text, self.what = -1, "", ""
        self.files = ["/proc/self/attr/exec"]
        if profile and profile != "unconfined":
            if not apparmor_enabled():
                raise ConfigError("process.apparmorProfile: this kernel has no AppArmor; leave the profile out")
            self.text, self.what = f"exec {profile}", f"AppArmor profile {profile!r}"
            self.files.insert(0, "/proc/self/attr/apparmor/exec")
        elif context:
            if not selinux_enabled():
                raise ConfigError("process.selinuxLabel: this kernel has no SELinux; leave the label out")
            self.text, self.what = context, f"SELinux label {context!r}"

    def open(self) -> None:
        """Open the file by the machine's paths; by the process that will apply the label.

        Raises:
            ConfigError: there is none.
        """
        if self.text:
            self.fd = self._first(lambda path: os.open(path, os.O_RDWR | os.O_CLOEXEC))

    def apply(self) -> None:
        """Let the next exec take the label.

        Raises:
            ConfigError: the kernel does not know it, or the container's /proc is not what it should be.
        """
        if not self.text:
            return
        if self.fd < 0:
            root = os.open("/", os.O_PATH | os.O_CLOEXEC)
            self.fd = self._first(lambda path: paths.open_in_root(root, path.encode(), os.O_RDWR))
            os.close(root)
        try:
            os.write(self.fd, self.text.encode())
            said = os.pread(self.fd, 4096, 0).decode(errors="replace").rstrip("\0\n")
        except OSError as error:
            reason = "it is not loaded" if error.errno == errno.ENOENT else error.strerror
            raise ConfigError(f"{self.what}: {reason}") from None
        finally:
            os.close(self.fd)
        if said.split(" (")[0] != self.text.removeprefix("exec "):
            raise ConfigError(f"{self.what}: the container's /proc is not the kernel's")

    def _first(self, opened: Callable[[str], int]) -> int:
        for path in self.files:
            try:
                return opened(path)
            except OSError:
                continue
        raise ConfigError(f"{self.what}: {self.files[-1]} is missing: is /proc mounted?")
