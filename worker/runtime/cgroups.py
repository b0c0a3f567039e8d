"""Cgroups: one interface, version 1 (and hybrid) or version 2 behind it, chosen by what is mounted.

Source: cgroups(7), kernel Documentation/admin-guide/cgroup-v1 and cgroup-v2.rst.
"""

from __future__ import annotations

import contextlib
import functools
import os
import signal

from pycompose.worker.runtime import state
from pycompose.worker.runtime.errors import StepError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any, Protocol

    class Cgroup(Protocol):
        """One container's place in the machine's cgroups. Paths are absolute below each hierarchy's root."""

        def create(self, resources: dict[str, Any]) -> None:
            """Make the directories and set the limits of OCI ``linux.resources``."""

        def update(self, resources: dict[str, Any]) -> None:
            """Change limits of a live container."""

        def join(self) -> None:
            """Move the calling process in."""

        def freeze(self, frozen: bool) -> None:
            """Stop or continue all processes; returns when it is so."""

        def frozen(self) -> bool:
            """Whether all processes are stopped."""

        def processes(self) -> list[int]:
            """Process ids inside."""

        def kill(self) -> None:
            """Send SIGKILL to every process inside, also to those that are stopped; who forks meanwhile may be missed,
            where the kernel has no such call of its own: look and repeat."""

        def oom_kills(self) -> int:
            """How many processes the kernel killed here for want of memory."""

        def usage(self) -> dict[str, Any]:
            """Current consumption; keys as in ``client.Usage``."""

        def remove(self) -> None:
            """Remove the directories; those that are gone already are fine."""


@functools.cache
def mounted() -> tuple[dict[str, str], str]:
    """What is mounted: ({v1 controller: mount point}, v2 mount point or ""); the machine's, asked once a process."""
    controllers: dict[str, str] = {}
    unified = ""
    with open("/proc/self/mountinfo") as file:
        for line in file:
            left, _, right = line.partition(" - ")
            kind, _, options = right.split()[:3]
            point = left.split()[4]
            if kind == "cgroup2":
                unified = point
            elif kind == "cgroup":
                for option in options.split(","):
                    if option in KNOWN_V1:
                        controllers.setdefault(option, point)
    return controllers, unified


KNOWN_V1 = frozenset(
    [
        "blkio",
        "cpu",
        "cpuacct",
        "cpuset",
        "devices",
        "freezer",
        "hugetlb",
        "memory",
        "net_cls",
        "net_prio",
        "perf_event",
        "pids",
        "rdma",
    ]
)


def at(path: str) -> Cgroup:
    """The cgroup ``path`` (such as ``/pycompose/ID``) on this machine; a hybrid machine counts as version 1.

    ``path`` is "" for a container of an ordinary user, which has none of its own.
    """
    if not path:
        return NoCgroup()
    controllers, unified = mounted()
    if controllers:
        from pycompose.worker.runtime.cgroup_v1 import CgroupV1

        return CgroupV1(path, controllers)
    if not unified:
        raise StepError("cgroup: none is mounted; mount them at /sys/fs/cgroup (cgroups(7))")
    from pycompose.worker.runtime.cgroup_v2 import CgroupV2

    return CgroupV2(path, unified)


class NoCgroup:
    """A container that stays in its caller's cgroup: it has no limits, and is known by its first process alone."""

    def __init__(self, pid: int = 0) -> None:
        self._pid = pid

    def create(self, resources: dict[str, Any]) -> None:
        """Refuse limits; rules for devices are void, since nothing that they allow can be made."""
        wanted = sorted(key for key, value in resources.items() if value and key != "devices")
        if wanted:
            raise _none(f"linux.resources.{wanted[0]}")

    def update(self, resources: dict[str, Any]) -> None:
        """Refuse."""
        raise _none("update")

    def join(self) -> None:
        """Stay."""

    def freeze(self, frozen: bool) -> None:
        """Refuse to stop; what was never stopped goes on."""
        if frozen:
            raise _none("pause")

    def frozen(self) -> bool:
        """Never."""
        return False

    def processes(self) -> list[int]:
        """Those in the first process's pid namespace, which end with it."""
        found = []
        try:
            own = os.stat(f"/proc/{self._pid}/ns/pid").st_ino
        except OSError:
            return []
        for name in filter(str.isdigit, os.listdir("/proc")):
            try:
                if os.stat(f"/proc/{name}/ns/pid").st_ino == own:
                    found.append(int(name))
            except OSError:
                continue
        return found

    def kill(self) -> None:
        """One by one."""
        kill_each(self.processes())

    def oom_kills(self) -> int:
        """Unknown."""
        return 0

    def usage(self) -> dict[str, Any]:
        """Refuse."""
        raise _none("events")

    def remove(self) -> None:
        """There is nothing."""


def _none(what: str) -> StepError:
    return StepError(
        f"{what}: a container of an ordinary user has no cgroup; name one in linux.cgroupsPath that is yours"
    )


def directories(path: str) -> list[str]:
    """Where the cgroup ``path`` is, or would be, in each hierarchy that containers use."""
    controllers, unified = mounted()
    roots = dict.fromkeys(controllers.values()) if controllers else [unified]
    return [root + path for root in roots]


def refuse(resources: dict[str, Any], lacking: tuple[tuple[str, str, str], ...]) -> None:
    """Refuse what cannot be set here rather than leave it out.

    Args:
        resources: OCI ``linux.resources``.
        lacking: (section, key, why there is no such limit); a value that asks for no limit is let through.

    Raises:
        StepError: names the first key.
    """
    for section, key, reason in lacking:
        value = (resources.get(section) or {}).get(key)
        if value and not (isinstance(value, int) and (value < 0 or value >= (1 << 63) - 4096)):
            raise StepError(f"linux.resources.{section}.{key}: {reason}; leave it out")
    for number, device in enumerate((resources.get("blockIO") or {}).get("weightDevice") or ()):
        if device.get("leafWeight"):
            raise StepError(f"linux.resources.blockIO.weightDevice[{number}].leafWeight: {NO_LEAVES}; leave it out")


NO_LEAVES = "leaf weights went with the scheduler CFQ (Linux 5.0)"


def rdma(limits: dict[str, dict[str, int]]) -> Iterable[str]:
    """Lines for ``rdma.max``, the same file in both versions (kernel admin-guide/cgroup-v1/rdma.rst)."""
    for device, limit in limits.items():
        words = [("hca_handle", limit.get("hcaHandles")), ("hca_object", limit.get("hcaObjects"))]
        yield " ".join([device, *(f"{word}={number}" for word, number in words if number is not None)])


def kill_each(pids: Iterable[int]) -> None:
    """SIGKILL to each; who is gone is gone."""
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def write(directory: str, name: str, value: str) -> None:
    """Write one control file.

    Raises:
        StepError: names the file and the value.
    """
    path = f"{directory}/{name}"
    try:
        fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
        try:
            os.write(fd, value.encode())
        finally:
            os.close(fd)
    except OSError as error:
        raise StepError(f"cgroup: cannot write {value!r} to {path}: {error.strerror}") from error


def read(directory: str, name: str, default: str = "") -> str:
    """A control file's text; ``default`` where it is not there."""
    try:
        return state.read(f"{directory}/{name}").decode()
    except OSError:
        return default


def pairs(text: str) -> dict[str, int]:
    """``key number`` lines as a dict."""
    result = {}
    for line in text.splitlines():
        key, _, value = line.rpartition(" ")
        if key and value.lstrip("-").isdigit():
            result[key] = int(value)
    return result


def remove_directories(paths: Iterable[str]) -> None:
    """rmdir each with the directories below it; a directory in use is tried for up to 1 s."""
    import time

    for path in paths:
        for _ in range(200):
            try:
                os.rmdir(path)
                break
            except FileNotFoundError:
                break
            except OSError as error:
                if error.errno != 16:  # EBUSY: a process is still on its way out, or there are children
                    raise
                for entry in os.scandir(path):
                    if entry.is_dir(follow_symlinks=False):
                        remove_directories([entry.path])
                time.sleep(0.005)
