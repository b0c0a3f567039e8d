"""Volumes, binds and tmpfs of a service."""

from __future__ import annotations

import re
from typing import Any

from pycompose.compose.convert.desired import Machine
from pycompose.compose.convert.problems import Problems
from pycompose.compose.convert.values import size
from pycompose.compose.loader import Project
from pycompose.proto.v1 import container_pb2 as pb
from pycompose.proto.vocabulary import PROPAGATIONS, TMPFS_FLAGS, TMPFS_VALUES

Path = tuple[str | int, ...]
DOCKER_SOCKETS = ("/var/run/docker.sock", "/run/docker.sock")
_PERCENT = re.compile(r"\d{1,3}%\Z")


def mounts(project: Project, name: str, machine: Machine, problems: Problems) -> list[pb.Mount]:
    """Return everything that the service itself mounts besides secrets and configs."""
    service = project.services[name]
    result = []
    for index, entry in enumerate(service.get("volumes") or ()):
        mount = _mount(project, entry, ("services", name, "volumes", index), machine, problems)
        if mount is not None:
            result.append(mount)
    for index, text in enumerate(service.get("tmpfs") or ()):
        result.append(_tmpfs(text, ("services", name, "tmpfs", index), problems))
    return result


def volumes_from(project: Project, name: str, problems: Problems) -> list[pb.VolumesFrom]:
    """Return the containers whose volumes the service mounts too."""
    result = []
    for index, text in enumerate(project.services[name].get("volumes_from") or ()):
        path = ("services", name, "volumes_from", index)
        outside = text.startswith("container:")
        source, _, mode = text.removeprefix("container:").partition(":")
        if mode not in ("", "rw", "ro"):
            problems.error(path, f'unknown mode "{mode}"', "want ro or rw")
        if not outside and source not in project.services:
            problems.error(path, f'no service "{source}" in this run', "name a service of the file")
        kind = "container" if outside else "service"
        result.append(pb.VolumesFrom(source=f"{kind}:{source}", read_only=mode == "ro"))
    return result


def _mount(
    project: Project, entry: dict[str, Any], path: Path, machine: Machine, problems: Problems
) -> pb.Mount | None:
    kind = entry["type"]
    mount = pb.Mount(target=entry.get("target", ""), read_only=entry.get("read_only", False))
    source = entry.get("source") or ""
    if not mount.target.startswith("/"):
        problems.error(path, f'the target "{mount.target}" is not absolute', "begin it with /")
    if kind == "bind":
        return _bind(mount, entry, source, path, machine, problems)
    if kind == "volume":
        options = entry.get("volume") or {}
        mount.type = pb.MOUNT_TYPE_VOLUME
        if source:
            volume = (project.model.get("volumes") or {}).get(source) or {}
            mount.source = volume.get("name") or source
        mount.no_copy = options.get("nocopy", False)
        mount.subpath = options.get("subpath", "")
        if options.get("labels"):
            problems.warn((*path, "volume", "labels"), "labels of a mount are not kept; label the volume")
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
        mount.read_only = True
        mount.subpath = (entry.get("image") or {}).get("subpath", "")
        if not source:
            problems.error(path, "an image has to be named", "add source: IMAGE")
        return mount
    what = {"npipe": "named pipes are Windows'", "cluster": "volumes of type cluster are Swarm's"}.get(kind, kind)
    problems.error(path, f"{what} and cannot be mounted here", "use bind, volume, tmpfs or image")
    return None


def _bind(
    mount: pb.Mount,
    entry: dict[str, Any],
    source: str,
    path: Path,
    machine: Machine,
    problems: Problems,
) -> pb.Mount:
    options = entry.get("bind") or {}
    mount.type = pb.MOUNT_TYPE_BIND
    mount.source = source
    # the model, as Docker prints it, leaves a false one out
    mount.create_host_path = problems.written((*path, "bind", "create_host_path")) is not False
    mount.propagation = options.get("propagation", "")
    mount.recursive = options.get("recursive", "")
    mount.selinux = options.get("selinux", "")
    if mount.propagation and mount.propagation not in PROPAGATIONS:
        place = (*path, "bind", "propagation")
        problems.error(place, f'unknown propagation "{mount.propagation}"', f"want one of {', '.join(PROPAGATIONS)}")
    if mount.recursive == "readonly" and not (mount.read_only and mount.propagation in ("", "rprivate")):
        place = (*path, "bind", "recursive")
        problems.error(place, "readonly needs read_only: true and no propagation", "add read_only: true")
    idmap = entry.get("x-idmap", options.get("x-idmap", ""))
    if idmap not in ("", "auto"):
        problems.error((*path, "x-idmap"), f'unknown value "{idmap}"', 'want "auto"')
    elif idmap:
        mount.idmap = "{}:{}".format(*machine.caller())
    if not machine.exists(source):
        _missing(mount, source, path, problems)
    return mount


def _missing(mount: pb.Mount, source: str, path: Path, problems: Problems) -> None:
    if source in DOCKER_SOCKETS:
        problems.error(
            path,
            f"bind source {source} does not exist: the Docker API is not there on this machine",
            "leave the mount out, or run a Docker daemon beside pycompose",
        )
    elif not mount.create_host_path:
        problems.error(path, f"bind source {source} does not exist", "make it, or leave create_host_path: false out")


def _tmpfs(text: str, path: Path, problems: Problems) -> pb.Mount:
    """Read "/run:size=64m,mode=755,uid=1000,exec"."""
    target, _, options = text.partition(":")
    mount = pb.Mount(type=pb.MOUNT_TYPE_TMPFS, target=target)
    if not target.startswith("/"):
        problems.error(path, f'the target "{target}" is not absolute', "begin it with /")
    for option in filter(None, options.split(",")):
        key, equals, value = option.partition("=")
        if not equals and key in TMPFS_FLAGS:
            if key == "ro":
                mount.read_only = True
            elif key not in ("rw", "defaults"):
                mount.tmpfs_options.append(key)
        elif equals and value and key in TMPFS_VALUES:
            _tmpfs_value(mount, key, value, path, problems)
        else:
            known = ", ".join(sorted(TMPFS_VALUES))
            problems.error(
                path, f'unknown tmpfs option "{option}"', f"known are {known}, and flags such as ro, exec, dev"
            )
    return mount


def _tmpfs_value(mount: pb.Mount, key: str, value: str, path: Path, problems: Problems) -> None:
    try:
        if key == "size" and not _PERCENT.match(value):
            mount.tmpfs_size_bytes = size(value)
        elif key == "mode":
            mount.tmpfs_mode = int(value, 8)
        elif key in ("uid", "gid"):
            mount.tmpfs_options.append(f"{key}={int(value)}")
        else:
            mount.tmpfs_options.append(f"{key}={value}")
    except ValueError:
        examples = {"size": "64m", "mode": "1777"}
        problems.error(
            path, f'tmpfs option {key}: "{value}" is not a value of it', f"write {key}={examples.get(key, 0)}"
        )


def writable_state(spec: pb.ContainerSpec) -> bool:
    """Return whether two containers would write the same data: a writable bind or named volume."""
    return any(not one.read_only for one in spec.volumes_from) or any(
        not mount.read_only
        and (mount.type == pb.MOUNT_TYPE_BIND or (mount.type == pb.MOUNT_TYPE_VOLUME and mount.source))
        for mount in spec.mounts
    )
