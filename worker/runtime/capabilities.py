"""Capabilities: names, numbers, and the five sets of a process.

Source: capabilities(7), capset(2), prctl(2).
"""

from __future__ import annotations

import os

from pycompose.worker.runtime import syscalls
from pycompose.worker.runtime.errors import ConfigError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

#: In the order of their numbers in linux/capability.h.
NAMES: tuple[str, ...] = tuple(
    "CAP_" + name
    for name in [
        "CHOWN",
        "DAC_OVERRIDE",
        "DAC_READ_SEARCH",
        "FOWNER",
        "FSETID",
        "KILL",
        "SETGID",
        "SETUID",
        "SETPCAP",
        "LINUX_IMMUTABLE",
        "NET_BIND_SERVICE",
        "NET_BROADCAST",
        "NET_ADMIN",
        "NET_RAW",
        "IPC_LOCK",
        "IPC_OWNER",
        "SYS_MODULE",
        "SYS_RAWIO",
        "SYS_CHROOT",
        "SYS_PTRACE",
        "SYS_PACCT",
        "SYS_ADMIN",
        "SYS_BOOT",
        "SYS_NICE",
        "SYS_RESOURCE",
        "SYS_TIME",
        "SYS_TTY_CONFIG",
        "MKNOD",
        "LEASE",
        "AUDIT_WRITE",
        "AUDIT_CONTROL",
        "SETFCAP",
        "MAC_OVERRIDE",
        "MAC_ADMIN",
        "SYSLOG",
        "WAKE_ALARM",
        "BLOCK_SUSPEND",
        "AUDIT_READ",
        "PERFMON",
        "BPF",
        "CHECKPOINT_RESTORE",
    ]
)
NUMBERS: dict[str, int] = {name: number for number, name in enumerate(NAMES)}


def last_capability() -> int:
    """The highest capability number that the kernel knows (a file of the host: call it before pivot)."""
    try:
        with open("/proc/sys/kernel/cap_last_cap") as file:
            return int(file.read())
    except OSError:
        return len(NAMES) - 1


def held() -> list[str]:
    """The names of all that this process may give away: its bounding set (on some machines not all there are)."""
    with open("/proc/self/status") as file:
        bounding = next(int(line.split()[1], 16) for line in file if line.startswith("CapBnd:"))
    return [name for name, number in NUMBERS.items() if bounding >> number & 1]


def mask(names: Iterable[str], last: int) -> int:
    """The set as a bit mask; names that this kernel does not know are left out.

    Raises:
        ConfigError: a name that is no capability.
    """
    result = 0
    for name in names:
        number = NUMBERS.get(name)
        if number is None:
            raise ConfigError(f"process.capabilities: {name!r} is not a capability; see capabilities(7)")
        if number <= last:
            result |= 1 << number
    return result


class CapabilitySets:
    """The five sets as masks, made before the point of no return and applied after it."""

    __slots__ = ("ambient", "bounding", "effective", "inheritable", "last", "permitted")

    def __init__(self, process: dict[str, list[str]], last: int) -> None:
        self.last = last
        self.bounding = mask(process.get("bounding", ()), last)
        self.effective = mask(process.get("effective", ()), last)
        self.permitted = mask(process.get("permitted", ()), last)
        self.inheritable = mask(process.get("inheritable", ()), last)
        # others cannot be ambient (capabilities(7)); `runc spec` asks for them all the same, and runc leaves them out
        self.ambient = mask(process.get("ambient", ()), last) & self.inheritable & self.permitted

    def limit_bounding(self) -> None:
        """Drop from the bounding set whatever is not in it; needs CAP_SETPCAP, so it comes first."""
        for number in range(self.last + 1):
            if not self.bounding >> number & 1:
                syscalls.prctl(syscalls.PR_CAPBSET_DROP, number)

    def become(self, uid: int, gid: int, groups: list[int], umask: int | None) -> None:
        """Change to the user with the sets kept, then set all of them."""
        syscalls.prctl(syscalls.PR_SET_KEEPCAPS, 1)
        _set_groups(groups, gid)
        os.setresgid(gid, gid, gid)
        os.setresuid(uid, uid, uid)
        if umask is not None:
            os.umask(umask)
        syscalls.prctl(syscalls.PR_SET_KEEPCAPS, 0)
        syscalls.capset(self.effective, self.permitted, self.inheritable)
        for number in range(self.last + 1):
            if self.ambient >> number & 1:
                syscalls.prctl(syscalls.PR_CAP_AMBIENT, 2, number)


def _set_groups(groups: list[int], own: int) -> None:
    try:
        os.setgroups(groups)
    except PermissionError:  # the user namespace of an ordinary user (user_namespaces(7), "setgroups")
        if set(groups) - {own}:
            raise ConfigError(
                "process.user.additionalGids: an ordinary user cannot give groups; leave it out"
            ) from None
