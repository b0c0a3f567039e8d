"""How a process gets its share of the machine: scheduler, I/O priority, CPUs, personality.

Worked out before pivot_root, applied before capabilities are dropped. Sources: sched_setattr(2), ioprio_set(2),
personality(2), sched_setaffinity(2), OCI runtime-spec config.md "Linux Process" and config-linux.md "Personality".
"""

from __future__ import annotations

import os

from pycompose.worker.runtime import syscalls
from pycompose.worker.runtime.errors import ConfigError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

POLICIES = {
    "SCHED_OTHER": 0,
    "SCHED_FIFO": 1,
    "SCHED_RR": 2,
    "SCHED_BATCH": 3,
    "SCHED_ISO": 4,
    "SCHED_IDLE": 5,
    "SCHED_DEADLINE": 6,
}
FLAGS = {
    "SCHED_FLAG_RESET_ON_FORK": 0x01,
    "SCHED_FLAG_RECLAIM": 0x02,
    "SCHED_FLAG_DL_OVERRUN": 0x04,
    "SCHED_FLAG_KEEP_POLICY": 0x08,
    "SCHED_FLAG_KEEP_PARAMS": 0x10,
    "SCHED_FLAG_UTIL_CLAMP_MIN": 0x20,
    "SCHED_FLAG_UTIL_CLAMP_MAX": 0x40,
}
CLASSES = {"IOPRIO_CLASS_RT": 1, "IOPRIO_CLASS_BE": 2, "IOPRIO_CLASS_IDLE": 3}
PERSONALITIES = {"LINUX": 0, "LINUX32": 8}


class Scheduling:
    """What one process asks for; ``apply`` makes it so for the calling process.

    Raises:
        ConfigError: names the key.
    """

    __slots__ = ("_attributes", "_cpus", "_io", "_personality")

    def __init__(self, process: dict[str, Any], personality: dict[str, Any] | None = None) -> None:
        self._attributes = _attributes(process.get("scheduler") or {})
        self._io = _io_priority(process.get("ioPriority") or {})
        affinity = process.get("execCPUAffinity") or {}
        self._cpus = cpus(affinity.get("final") or affinity.get("initial") or "")
        self._personality = (
            _known(PERSONALITIES, personality["domain"], "linux.personality.domain") if personality else None
        )

    def apply(self) -> None:
        """Ask the kernel."""
        if self._personality is not None:
            syscalls.personality(self._personality)
        if self._attributes:
            syscalls.sched_setattr(**self._attributes)
        if self._io is not None:
            syscalls.ioprio_set(self._io)
        if self._cpus:
            os.sched_setaffinity(0, self._cpus)


def _known(names: dict[str, int], name: str, where: str) -> int:
    if name not in names:
        raise ConfigError(f"{where}: {name!r} is unknown; known: {', '.join(names)}")
    return names[name]


def _attributes(scheduler: dict[str, Any]) -> dict[str, int]:
    if not scheduler:
        return {}
    flags = (_known(FLAGS, name, "process.scheduler.flags") for name in scheduler.get("flags") or ())
    numbers = {key: int(scheduler.get(key) or 0) for key in ("nice", "priority", "runtime", "deadline", "period")}
    policy = _known(POLICIES, scheduler["policy"], "process.scheduler.policy")
    return {"policy": policy, "flags": sum(set(flags)), **numbers}


def _io_priority(wanted: dict[str, Any]) -> int | None:
    if not wanted:
        return None
    return _known(CLASSES, wanted["class"], "process.ioPriority.class") << 13 | int(wanted.get("priority") or 0)


def cpus(text: str) -> set[int]:
    """The numbers of a list such as "0-3,7" (cpuset(7), "List format").

    Raises:
        ConfigError: it is not one.
    """
    found: set[int] = set()
    for part in filter(None, text.replace(" ", "").split(",")):
        first, dash, last = part.partition("-")
        if not first.isdigit() or (dash and not last.isdigit()) or int(last or first) > 8191:
            raise ConfigError(f"process.execCPUAffinity: {text!r} is not a list of CPUs such as 0-3,7")
        found |= set(range(int(first), int(last or first) + 1))
    return found
