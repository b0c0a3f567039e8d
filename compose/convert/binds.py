"""Binds where there are several nodes: the folder of the project is on the machine of the command, not on theirs.

A service that a constraint keeps on one node means that node's files, as on one machine. Else files of the project that
are only read go along as configs, by their digest; what an image has beside them stays visible. What remains could be
empty on one node and full on another, and is refused.
"""

from __future__ import annotations

import hashlib
import os
import re
import stat
from collections.abc import Iterator, Sequence

from pycompose.compose.convert.desired import Desired
from pycompose.compose.convert.files import LIMITS
from pycompose.compose.labels import PROJECT
from pycompose.compose.loader import Project
from pycompose.proto.v1 import container_pb2, secret_pb2, service_pb2

_ONE_NODE = re.compile(r"\s*node\.(hostname|id)\s*==\s*\S+\s*")


def for_several_nodes(project: Project, desired: Desired) -> list[str]:
    """Turn files that can go along into configs; return what is wrong with other binds, each with its place."""
    wrong = []
    for name, spec in desired.services.items():
        if not keeps_to_one_node(spec.task.placement.constraints):
            wrong += _service(project, name, spec, desired)
    return wrong


def keeps_to_one_node(constraints: Sequence[str]) -> bool:
    """Return whether constraints name a node."""
    return any(_ONE_NODE.fullmatch(one) for one in constraints)


def _service(project: Project, name: str, spec: service_pb2.ServiceSpec, desired: Desired) -> list[str]:
    container, wrong = spec.task.container, []
    kept = []
    for index, mount in enumerate(container.mounts):
        if mount.type != container_pb2.MOUNT_TYPE_BIND:
            kept.append(mount)
            continue
        try:
            container.configs.extend(_shipped(project, mount, desired))
        except _UnfitError as error:
            wrong.append(str(project.problem(("services", name, "volumes", index), f"{error}; {_REMEDY}")))
    del container.mounts[:]
    container.mounts.extend(kept)
    return wrong


_REMEDY = (
    "the cluster has several nodes: name one (deploy.placement.constraints: [node.hostname == NAME]), "
    "use a named volume, or files of the project with read_only: true"
)
MOST_FILES, MOST_BYTES = 200, 64 << 20


class _UnfitError(Exception):
    """Why a bind cannot go along."""


def _shipped(project: Project, mount: container_pb2.Mount, desired: Desired) -> list[container_pb2.ConfigReference]:
    """Add the configs of a bind's files; return what the container has of them."""
    source, inside = os.path.realpath(mount.source), os.path.realpath(project.working_dir)
    if not mount.read_only:
        raise _UnfitError(f"{mount.source} would be written on the node where the container happens to run")
    if os.path.commonpath([source, inside]) != inside:
        raise _UnfitError(f"{mount.source} is outside of the project's folder")
    total = 0
    found: list[container_pb2.ConfigReference] = []
    for path in _files(source):
        name, mode, size = _config(project, path, desired)
        total += size
        if total > MOST_BYTES or len(found) >= MOST_FILES:
            raise _UnfitError(f"{mount.source} has more than {MOST_FILES} files or {MOST_BYTES >> 20} MB")
        target = os.path.join(mount.target, os.path.relpath(path, source)) if path != source else mount.target
        found.append(container_pb2.ConfigReference(name=name, target=target, mode=mode))
    if not found:
        raise _UnfitError(f"{mount.source} has no files")
    return found


def _files(source: str) -> Iterator[str]:
    """Yield the files of a path in order: itself, or all below it."""
    if not os.path.isdir(source):
        yield source
        return
    for folder, folders, files in os.walk(source):
        folders.sort()
        yield from (os.path.join(folder, name) for name in sorted(files))


def _config(project: Project, path: str, desired: Desired) -> tuple[str, int, int]:
    """Add the config of one file; return its name, and the file's permission bits and size in bytes."""
    try:
        kind = os.lstat(path)
        if not stat.S_ISREG(kind.st_mode):
            raise _UnfitError(f"{path} is not an ordinary file")
        if kind.st_size > LIMITS["configs"]:
            raise _UnfitError(f"{path} is longer than {LIMITS['configs'] >> 10} KiB")
        with open(path, "rb") as file:
            data = file.read()
    except OSError as error:
        raise _UnfitError(f"{path}: {error.strerror}") from None
    name = f"{project.name}_file-{hashlib.sha256(data).hexdigest()[:32]}"
    labels = {PROJECT: project.name}
    desired.configs[name] = secret_pb2.ConfigSpec(name=name, project=project.name, labels=labels, data=data)
    return name, kind.st_mode & 0o777, len(data)
