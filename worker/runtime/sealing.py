"""The interpreter's own file, made unwritable for whoever finds it in /proc.

A container can reach the program of a process that enters it (``/proc/PID/exe``), and what it opens there for
writing would be the machine's Python (CVE-2019-5736). So before anything enters a container, the process executes
itself once more from a read-only detached copy of the mount that its program lies on: opening ``/proc/PID/exe`` for
writing then fails with EROFS, whatever capabilities the container has, and the machine's mounts are untouched.
An ordinary user, who may copy no mount, executes a sealed copy of the program in memory instead (memfd_create(2)).
Sources: open_tree(2), mount_setattr(2), execveat(2).
"""

from __future__ import annotations

import fcntl
import os
import sys

from pycompose.worker.runtime import syscalls

MOUNT_ATTR_RDONLY = 0x1
_COPY = "pycompose-runtime"


def sealed() -> bool:
    """Whether this process's program cannot be written, by whomever."""
    if os.geteuid():
        return os.readlink("/proc/self/exe").startswith(f"/memfd:{_COPY}")
    return bool(os.statvfs("/proc/self/exe").f_flag & os.ST_RDONLY)


def seal() -> None:
    """Execute this program again from a read-only copy of its mount; returns only when that is so already.

    Raises:
        OSError: the kernel refuses (older than 5.12, or no CAP_SYS_ADMIN).
    """
    if sealed():
        return
    copy = _in_memory() if os.geteuid() else _read_only()
    arguments = [os.fsencode(word) for word in (sys.executable, *sys.orig_argv[1:])]
    syscalls.execveat(copy, arguments, [key + b"=" + value for key, value in os.environb.items()])


def _read_only() -> int:
    copy = syscalls.open_tree(syscalls.AT_FDCWD, os.fsencode(sys.executable))
    syscalls.mount_setattr(copy, set_=MOUNT_ATTR_RDONLY)
    return copy


def _in_memory() -> int:
    copy = os.memfd_create(_COPY, os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    source = os.open("/proc/self/exe", os.O_RDONLY | os.O_CLOEXEC)
    while os.sendfile(copy, source, None, 1 << 30):
        pass
    os.close(source)
    fcntl.fcntl(
        copy, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE
    )
    return copy
