"""Whether a process would notice a signal."""

from __future__ import annotations

import os
import platform
import signal as signals
from pathlib import Path


def heeds(pid: int, signal: int) -> bool:
    """Whether a signal would have any effect on the process.

    PID 1 of a namespace gets only signals that it catches or blocks (pid_namespaces(7); SigCgt and
    SigBlk of proc_pid_status(5)). While a thread sleeps in sigtimedwait(2), as tini's does, the
    kernel shows the signals it waits for as not blocked: such a process counts as heeding.
    """
    if signal == signals.SIGKILL:
        return False
    try:
        threads = os.listdir(f"/proc/{pid}/task")
        return any(_thread_heeds(f"/proc/{pid}/task/{thread}", signal) for thread in threads)
    except OSError:
        return False


def _thread_heeds(directory: str, signal: int) -> bool:
    fields = dict(line.split(":\t", 1) for line in Path(directory, "status").read_text().splitlines() if ":\t" in line)
    numbers = fields.get("NSpid", "").split()
    if len(numbers) < 2 or numbers[-1] != "1":
        return True  # no first process of a namespace: default actions work
    mask = int(fields["SigCgt"], 16) | int(fields["SigBlk"], 16)
    if mask >> (signal - 1) & 1:
        return True
    try:
        return Path(directory, "syscall").read_text().split()[0] == _SIGTIMEDWAIT.get(platform.machine(), "unknown")
    except OSError:
        return True  # not to be known: give it its grace


#: rt_sigtimedwait(2) by architecture, as /proc/PID/syscall shows it.
_SIGTIMEDWAIT = {"x86_64": "128", "aarch64": "137"}
