"""Words that fields of the API may hold, for both who writes and who reads them. Pure; Linux' own, on any system.

Sources: capabilities(7), getrlimit(2), signal(7), mount_namespaces(7), mount(8), tmpfs(5).
"""

from __future__ import annotations

import re

_CAPABILITIES = """
    AUDIT_CONTROL AUDIT_READ AUDIT_WRITE BLOCK_SUSPEND BPF CHECKPOINT_RESTORE CHOWN DAC_OVERRIDE DAC_READ_SEARCH
    FOWNER FSETID IPC_LOCK IPC_OWNER KILL LEASE LINUX_IMMUTABLE MAC_ADMIN MAC_OVERRIDE MKNOD NET_ADMIN
    NET_BIND_SERVICE NET_BROADCAST NET_RAW PERFMON SETFCAP SETGID SETPCAP SETUID SYSLOG SYS_ADMIN SYS_BOOT
    SYS_CHROOT SYS_MODULE SYS_NICE SYS_PACCT SYS_PTRACE SYS_RAWIO SYS_RESOURCE SYS_TIME SYS_TTY_CONFIG WAKE_ALARM"""
_ULIMITS = "as core cpu data fsize locks memlock msgqueue nice nofile nproc rss rtprio rttime sigpending stack"
_TMPFS_FLAGS = """
    rw ro suid nosuid dev nodev exec noexec atime noatime diratime nodiratime relatime strictatime sync async dirsync
    defaults"""
_TMPFS_VALUES = "size mode uid gid nr_inodes nr_blocks huge mpol"
_SIGNAL_NAMES = """
    HUP INT QUIT ILL TRAP ABRT BUS FPE KILL USR1 SEGV USR2 PIPE ALRM TERM STKFLT CHLD CONT STOP TSTP TTIN TTOU URG XCPU
    XFSZ VTALRM PROF WINCH IO PWR SYS"""

CAPABILITIES = frozenset(_CAPABILITIES.split())
"""ContainerSpec.cap_add and cap_drop, without "CAP_"; "ALL" stands for all of them."""

ULIMITS = frozenset(_ULIMITS.split())
"""Ulimit.name."""

PROPAGATIONS = ("private", "rprivate", "shared", "rshared", "slave", "rslave")
"""Mount.propagation."""

RECURSIVE = ("enabled", "disabled", "writable", "readonly")
"""Mount.recursive."""

TMPFS_FLAGS = frozenset(_TMPFS_FLAGS.split())
TMPFS_VALUES = frozenset(_TMPFS_VALUES.split())
"""Mount.tmpfs_options: flags, and options that have a value."""

LOG_DRIVERS = ("json-file", "local", "none")
"""Logging.driver."""

NAMESPACE_MODES = {
    "pid_mode": ("host", "service:NAME", "container:NAME"),
    "ipc_mode": ("private", "shareable", "host", "none", "service:NAME", "container:NAME"),
    "uts_mode": ("host",),
    "cgroup_mode": ("private", "host"),
    "userns_mode": ("host", "auto"),
}
"""Values of these fields of ContainerSpec besides ""; NAME stands for any name."""

_SIGNALS = {name: number for number, name in enumerate(_SIGNAL_NAMES.split(), start=1)} | {
    "IOT": 6,
    "CLD": 17,
    "POLL": 29,
}
_REAL_TIME = re.compile(r"RT(MIN|MAX)([+-]\d{1,2})?\Z")
_FIRST_REAL_TIME, _LAST = 34, 64


def signal_number(text: str) -> int | None:
    """Return the number of "SIGTERM", "term", "15" or "SIGRTMIN+3"; None when there is no such signal.

    Source: signal(7), the numbers of x86 and ARM; glibc keeps 32 and 33 to itself.
    """
    if text.isascii() and text.isdigit():
        return int(text) if 0 < int(text) <= _LAST else None
    name = text.upper().removeprefix("SIG")
    match = _REAL_TIME.match(name)
    if match is None:
        return _SIGNALS.get(name)
    number = (_FIRST_REAL_TIME if match[1] == "MIN" else _LAST) + int(match[2] or 0)
    return number if _FIRST_REAL_TIME <= number <= _LAST else None


def against_userns(userns_mode: str, *, privileged: bool, network_mode: str, pid_mode: str) -> str:
    """Return the field that a user namespace of its own is not to be combined with, as in Docker; "" when none is.

    All three would give the container parts of the machine that its users have no rights to.
    """
    if userns_mode != "auto":
        return ""
    wrong = {"privileged": privileged, "network_mode": network_mode == "host", "pid_mode": pid_mode == "host"}
    return next((field for field, there in wrong.items() if there), "")


def matches_mode(field: str, value: str) -> bool:
    """Return whether `value` is one of the field's NAMESPACE_MODES."""
    kind, colon, name = value.partition(":")
    for allowed in ("", *NAMESPACE_MODES[field]):
        if value == allowed or (colon and name and allowed == f"{kind}:NAME"):
            return True
    return False
