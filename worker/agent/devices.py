"""Devices of the machine for a container: the files, and the cgroup's rules about them."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from typing import Any

from pycompose.proto.v1 import container_pb2
from pycompose.worker.agent.oci_config import SpecError

#: What of /dev is the container's own also when it is privileged.
_OWN = frozenset(["pts", "shm", "fd", "mqueue", "console", "ptmx", "tty", "stdin", "stdout", "stderr", "core"])


def devices_of(spec: container_pb2.ContainerSpec) -> list[dict[str, Any]]:
    """Return OCI devices: those of the spec with "access", and all of the machine's for a privileged container.

    A directory stands for all devices below it, as in Docker.

    Raises:
        SpecError: one is not there, or no device.
    """
    found = []
    for device in spec.devices:
        target, access = device.target or device.source, device.permissions or "rwm"
        below = list(_describe(device.source, target))
        if not below:
            raise SpecError(f"{device.source} is no device and holds none; name a file below /dev")
        found += [one | {"access": access} for one in below]
    if spec.privileged:
        for entry in sorted(os.scandir("/dev"), key=lambda one: one.name):
            if entry.name not in _OWN and not entry.is_symlink():
                found += _describe(entry.path, entry.path)
    return found


def _describe(source: str, target: str) -> Iterator[dict[str, Any]]:
    try:
        status = os.stat(source)
    except OSError as error:
        raise SpecError(f"device {source}: {error.strerror}") from error
    if stat.S_ISDIR(status.st_mode):
        for entry in sorted(os.scandir(source), key=lambda one: one.name):
            if not entry.is_symlink():
                yield from _describe(entry.path, f"{target}/{entry.name}")
    elif stat.S_ISCHR(status.st_mode) or stat.S_ISBLK(status.st_mode):
        yield {
            "path": target,
            "type": "c" if stat.S_ISCHR(status.st_mode) else "b",
            "major": os.major(status.st_rdev),
            "minor": os.minor(status.st_rdev),
            "fileMode": stat.S_IMODE(status.st_mode),
            "uid": status.st_uid,
            "gid": status.st_gid,
        }


def rules_of(spec: container_pb2.ContainerSpec) -> list[dict[str, Any]]:
    """Return device_cgroup_rules ("c 1:3 mr") as OCI rules."""
    found = []
    for text in spec.device_cgroup_rules:
        kind, numbers, access = text.split()
        rule: dict[str, Any] = {"allow": True, "type": kind, "access": access}
        for key, number in zip(("major", "minor"), numbers.split(":"), strict=True):
            if number != "*":
                rule[key] = int(number)
        found.append(rule)
    return found


def block_number(path: str) -> tuple[int, int]:
    """Return (major, minor) of a block device. Raises SpecError."""
    try:
        status = os.stat(path)
    except OSError as error:
        raise SpecError(f"blkio_config: {path}: {error.strerror}") from error
    if not stat.S_ISBLK(status.st_mode):
        raise SpecError(f"blkio_config: {path} is no block device")
    return os.major(status.st_rdev), os.minor(status.st_rdev)
