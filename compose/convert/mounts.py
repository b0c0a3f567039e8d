"""Volumes, binds and tmpfs of a service."""

from __future__ import annotations

from typing import Any

from pycompose.compose.convert.desired import Machine
from pycompose.compose.convert.problems import Problems
from pycompose.compose.convert.values import size
from pycompose.compose.loader import Project
from pycompose.proto.v1 import container_pb2 as pb

DOCKER_SOCKETS = ("/var/run/docker.sock", "/run/docker.sock")
_TMPFS_DEFAULTS = {"rw", "nosuid", "nodev", "noexec", "defaults"}


def mounts(project: Project, name: str, machine: Machine, problems: Problems) -> list[pb.Mount]:
    """Return everything that the service mounts besides secrets and configs."""
    service = project.services[name]
    result = []
    for index, entry in enumerate(service.get("volumes") or ()):
        mount = _mount(project, entry, ("services", name, "volumes", index), machine, problems)
        if mount is not None:
            result.append(mount)
    for index, text in enumerate(service.get("tmpfs") or ()):
        result.append(_tmpfs(text, ("services", name, "tmpfs", index), problems))
    taken = {mount.target for mount in result}
    for index, text in enumerate(service.get("volumes_from") or ()):
        for mount in _volumes_from(project, text, ("services", name, "volumes_from", index), machine, problems):
            if mount.target not in taken:
                taken.add(mount.target)
                result.append(mount)
    return result


def _mount(
    project: Project, entry: dict[str, Any], path: tuple[str | int, ...], machine: Machine, problems: Problems
) -> pb.Mount | None:
    kind = entry["type"]
    mount = pb.Mount(target=entry.get("target", ""), read_only=entry.get("read_only", False))
    source = entry.get("source") or ""
    if kind == "bind":
        return _bind(project, mount, entry, source, path, machine, problems)
    if kind == "volume":
        options = entry.get("volume") or {}
        mount.type = pb.MOUNT_TYPE_VOLUME
        if source:
            volume = (project.model.get("volumes") or {}).get(source) or {}
            mount.source = volume.get("name") or source
        mount.no_copy = options.get("nocopy", False)
        mount.subpath = options.get("subpath", "")
        if options.get("labels"):
            problems.warn((*path, "volume", "labels"), "labels of a mount are not kept")
        return mount
    if kind == "tmpfs":
        options = entry.get("tmpfs") or {}
        mount.type = pb.MOUNT_TYPE_TMPFS
        mount.tmpfs_size_bytes = size(options.get("size"))
        mount.tmpfs_mode = int(options.get("mode") or 0)
        return mount
    if kind == "image":
        mount.type = pb.MOUNT_TYPE_IMAGE
        mount.source = source
        mount.subpath = (entry.get("image") or {}).get("subpath", "")
        return mount
    problems.error(path, f'mounts of type "{kind}" cannot be made on Linux', "use bind, volume, tmpfs or image")
    return None


def _declined(project: Project, path: tuple[str | int, ...]) -> bool:
    """Return whether the file says `create_host_path: false`: the model, as Docker prints it, leaves that out."""
    written = project.tree
    for part in (*path, "bind", "create_host_path"):
        try:
            written = written[part]
        except (KeyError, IndexError, TypeError):
            return False
    return written is False


def _bind(
    project: Project,
    mount: pb.Mount,
    entry: dict[str, Any],
    source: str,
    path: tuple[str | int, ...],
    machine: Machine,
    problems: Problems,
) -> pb.Mount:
    options = entry.get("bind") or {}
    mount.type = pb.MOUNT_TYPE_BIND
    mount.source = source
    mount.create_host_path = not _declined(project, path)
    mount.propagation = options.get("propagation", "")
    mount.recursive = options.get("recursive", "")
    mount.selinux = options.get("selinux", "")
    idmap = entry.get("x-idmap", options.get("x-idmap", ""))
    if idmap not in ("", "auto"):
        problems.error((*path, "x-idmap"), f'unknown value "{idmap}"', 'want "auto"')
    else:
        mount.idmap = idmap
    if not machine.exists(source):
        if source in DOCKER_SOCKETS:
            problems.error(
                path,
                f"bind source {source} does not exist: the Docker API is not there on this machine",
                "leave the mount out, or run a Docker daemon beside pycompose",
            )
        elif not mount.create_host_path:
            problems.error(
                path, f"bind source {source} does not exist", "make it, or leave create_host_path: false out"
            )
    return mount


def _tmpfs(text: str, path: tuple[str | int, ...], problems: Problems) -> pb.Mount:
    target, _, options = text.partition(":")
    mount = pb.Mount(type=pb.MOUNT_TYPE_TMPFS, target=target)
    for option in filter(None, options.split(",")):
        key, _, value = option.partition("=")
        try:
            if key == "size":
                mount.tmpfs_size_bytes = size(value)
            elif key == "mode":
                mount.tmpfs_mode = int(value, 8)
            elif key == "ro":
                mount.read_only = True
            elif key not in _TMPFS_DEFAULTS:
                problems.warn(path, f"tmpfs option {option} has no effect; known are size, mode and ro")
        except ValueError:
            problems.error(path, f'tmpfs option {key}: "{value}" is not a value of it', "write size=64m or mode=1777")
    return mount


def _volumes_from(
    project: Project, text: str, path: tuple[str | int, ...], machine: Machine, problems: Problems
) -> list[pb.Mount]:
    first, _, rest = text.partition(":")
    if first == "container":
        problems.error(path, "volumes of a container outside the project cannot be taken", "name the volumes")
        return []
    if first not in project.services:
        problems.error(path, f'no service "{first}" in this run', "name a service of the file")
        return []
    result = mounts(project, first, machine, Problems(project))
    for mount in result:
        if mount.type == pb.MOUNT_TYPE_VOLUME and not mount.source:
            problems.error(
                path,
                f"{first} has an anonymous volume at {mount.target}, which cannot be shared",
                f"give it a name: volumes: [data:{mount.target}]",
            )
        mount.read_only = mount.read_only or rest == "ro"
    return result


def writable_state(all_mounts: list[pb.Mount]) -> bool:
    """Return whether two containers would write the same data: a writable bind or named volume."""
    return any(
        not mount.read_only
        and (mount.type == pb.MOUNT_TYPE_BIND or (mount.type == pb.MOUNT_TYPE_VOLUME and mount.source))
        for mount in all_mounts
    )
