"""Kernel resources that containers share or lie below: /dev/shm of a shareable container, parents of cgroups."""

from __future__ import annotations

import asyncio
import contextlib
import os
import subprocess
from pathlib import Path

from pycompose.proto.v1 import container_pb2
from pycompose.worker.agent.oci_config import SpecError
from pycompose.worker.runtime import cgroups
from pycompose.worker.runtime.errors import StepError

REAL_TIME_PERIOD_US = 1_000_000


class SharedMemory:
    """``RUN/shm/ID``: a tmpfs for each container with ``ipc: shareable``, which others mount too."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def path(self, container_id: str) -> Path:
        """Return where the container's is."""
        return self.directory / container_id

    async def make(self, container_id: str, size: int) -> Path:
        """Mount it (`size` in bytes) unless it is there. Raises SpecError."""
        path = self.path(container_id)
        if os.path.ismount(path):
            return path
        path.mkdir(parents=True, exist_ok=True, mode=0o700)
        options = f"mode=1777,size={size},nosuid,nodev,noexec"
        child = await asyncio.create_subprocess_exec("mount", "-t", "tmpfs", "-o", options, "shm", str(path))
        if await child.wait() != 0:
            raise SpecError(f"cannot mount a tmpfs on {path}")
        return path

    def remove(self, container_id: str) -> None:
        """Undo ``make``; containers that mounted it keep it."""
        path = self.path(container_id)
        if os.path.ismount(path):
            subprocess.run(["umount", "-l", str(path)], check=False)
        with contextlib.suppress(OSError):
            path.rmdir()
            self.directory.rmdir()


class Cgroups:
    """Where containers' cgroups are, and the parents among them that were made for ``cgroup_parent``.

    A parent that this node made goes when its last container is gone; one that was there before stays. Their names
    are kept in a file, one a line, so that a new agent knows them.
    """

    def __init__(self, default: str, file: Path, *, users: bool = False) -> None:
        """Args: default: without a wish; file: remembers; users: nothing beside `default` is this node's."""
        self._default, self._file, self._users = default, file, users

    def parent(self, container: container_pb2.ContainerSpec) -> str:
        """Return the cgroup below which the container's is made: an absolute path. Raises SpecError."""
        if self._users and container.cgroup_parent:
            have = f"cgroups below {self._default} alone" if self._default else "no cgroups"
            raise SpecError(f"cgroup_parent {container.cgroup_parent}: this node is an ordinary user's and has {have}")
        if not container.cgroup_parent:
            return self._default
        parts = [part for part in container.cgroup_parent.split("/") if part]
        if not parts or any(part in (".", "..") for part in parts):
            raise SpecError(f"cgroup_parent {container.cgroup_parent!r} is no cgroup; write it like /limited")
        return "/" + "/".join(parts)

    def path(self, container: container_pb2.ContainerSpec, container_id: str) -> str:
        """Return the container's own cgroup. Raises SpecError."""
        parent = self.parent(container)
        return f"{parent}/{container_id}" if parent else ""

    def ready(self, container: container_pb2.ContainerSpec) -> None:
        """Prepare the parent for a start: remember what of it is ours, give it real-time if its child wants some.

        Raises:
            SpecError: the kernel gives none.
        """
        parent = self.parent(container)
        if not parent:
            return
        if parent != self._default:
            missing = {one for one in _ancestry(parent) if not any(map(os.path.isdir, _directories(one)))}
            if missing:
                self._remember(self._ours() | missing)
        runtime = container.resources.cpu_rt_runtime_us
        if runtime:
            _give_real_time(parent, runtime, container.resources.cpu_rt_period_us or REAL_TIME_PERIOD_US)

    def release(self, container: container_pb2.ContainerSpec) -> None:
        """A container is gone: remove of its parents those that are ours and empty."""
        with contextlib.suppress(SpecError):
            ours = self._ours()
            for one in _ancestry(self.parent(container)):
                if one in ours:
                    for directory in _directories(one):
                        with contextlib.suppress(OSError):
                            os.rmdir(directory)
                    if not any(map(os.path.isdir, _directories(one))):
                        self._remember(self._ours() - {one})

    def _ours(self) -> set[str]:
        with contextlib.suppress(OSError):
            return set(self._file.read_text().split())
        return set()

    def _remember(self, ours: set[str]) -> None:
        if ours:
            self._file.write_text("".join(f"{one}\n" for one in sorted(ours)))
        else:
            self._file.unlink(missing_ok=True)


def _ancestry(path: str) -> list[str]:
    """Return a path and those above it, longest first: /a/b, /a."""
    parts = path.strip("/").split("/")
    return ["/" + "/".join(parts[:count]) for count in range(len(parts), 0, -1)]


def _directories(path: str) -> list[str]:
    controllers, unified = cgroups.mounted()
    return [point + path for point in dict.fromkeys([*controllers.values(), unified]) if point]


def _give_real_time(parent: str, runtime_us: int, period_us: int) -> None:
    """A child gets no greater part of the time than its parents have (sched-rt-group.rst): raise those with less."""
    controllers, _ = cgroups.mounted()
    for one in reversed(_ancestry(parent)):
        directory = controllers.get("cpu", "") + one
        try:
            os.makedirs(directory, exist_ok=True)
            period = int(cgroups.read(directory, "cpu.rt_period_us", str(REAL_TIME_PERIOD_US)))
            needed = -(-runtime_us * period // period_us)
            if int(cgroups.read(directory, "cpu.rt_runtime_us", "0")) < needed:
                cgroups.write(directory, "cpu.rt_runtime_us", str(needed))
        except (OSError, StepError, ValueError) as error:
            raise SpecError(f"cpu_rt_runtime: this node's kernel gives no real-time to containers: {error}") from None
