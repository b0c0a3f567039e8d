"""The container's part of a service's spec."""

from __future__ import annotations

import ipaddress
from collections.abc import Collection, Iterable, Iterator
from typing import Any

from pycompose.manager.control.validate.shape import Violation
from pycompose.proto import vocabulary
from pycompose.proto.v1 import container_pb2

PLACE = "spec.task.container"
LEAST_MEMORY = 6 * 1024 * 1024
TESTS = ("NONE", "CMD", "CMD-SHELL")


def container(
    spec: container_pb2.ContainerSpec, secrets: Collection[str], configs: Collection[str]
) -> Iterator[Violation]:
    """Check the container; `secrets`, `configs`: names of those that exist."""
    if not spec.image or spec.image != spec.image.strip() or " " in spec.image or spec.image.startswith("-"):
        yield f"{PLACE}.image", f"{spec.image!r} names no image; write it like redis:7"
    yield from _process(spec)
    yield from _mounts(spec)
    yield from _files(spec.secrets, "secret", secrets)
    yield from _files(spec.configs, "config", configs)
    yield from _resources(spec)
    yield from _names(spec)


def _process(spec: container_pb2.ContainerSpec) -> Iterator[Violation]:
    for index, pair in enumerate(spec.env):
        if not pair.partition("=")[0]:
            yield f"{PLACE}.env[{index}]", "has no name; write it like KEY=value"
    if spec.working_dir and not spec.working_dir.startswith("/"):
        yield f"{PLACE}.working_dir", f"{spec.working_dir!r} is not absolute; begin it with /"
    for field, text in (("hostname", spec.hostname), ("domainname", spec.domainname)):
        if len(text.encode()) > 64:  # sethostname(2)
            yield f"{PLACE}.{field}", f"has {len(text.encode())} characters; the kernel takes 64"
    if spec.stop_signal and vocabulary.signal_number(spec.stop_signal) is None:
        yield f"{PLACE}.stop_signal", f"there is no signal {spec.stop_signal!r}; see signal(7)"
    if not -1000 <= spec.oom_score_adj <= 1000:
        yield f"{PLACE}.oom_score_adj", f"{spec.oom_score_adj} is not within -1000 to 1000"
    for index, limit in enumerate(spec.ulimits):
        if limit.name not in vocabulary.ULIMITS:
            yield f"{PLACE}.ulimits[{index}].name", f"there is no limit {limit.name!r}; use one such as nofile"
        if limit.hard != -1 and (limit.soft > limit.hard or limit.soft == -1):
            yield f"{PLACE}.ulimits[{index}].soft", f"{limit.soft} is above the hard limit {limit.hard}"
    test = spec.healthcheck.test
    if test and (test[0] not in TESTS or (test[0] != "NONE" and len(test) < 2)):
        yield f"{PLACE}.healthcheck.test", f"{list(test)} is no test; begin it with NONE, CMD or CMD-SHELL"
    for kind in ("post_start", "pre_stop"):
        for index, hook in enumerate(getattr(spec, kind)):
            if not hook.command:
                yield f"{PLACE}.{kind}[{index}].command", "is needed"


def _mounts(spec: container_pb2.ContainerSpec) -> Iterator[Violation]:
    targets: dict[str, int] = {}
    for index, mount in enumerate(spec.mounts):
        field = f"{PLACE}.mounts[{index}]"
        target = mount.target.rstrip("/")
        if not mount.target.startswith("/"):
            yield f"{field}.target", f"{mount.target!r} is not absolute; begin it with /"
        elif target in targets:
            yield f"{field}.target", f"{mount.target!r} is mounted by mounts[{targets[target]}] already"
        targets.setdefault(target, index)
        if mount.type == container_pb2.MOUNT_TYPE_UNSPECIFIED:
            yield f"{field}.type", "a type is needed: bind, volume, tmpfs or image"
        if mount.type == container_pb2.MOUNT_TYPE_BIND and not mount.source.startswith("/"):
            yield f"{field}.source", f"{mount.source!r} is not absolute; begin it with /"
        if ".." in mount.subpath.split("/"):
            yield f"{field}.subpath", f"{mount.subpath!r} leads out of the volume"
        if mount.tmpfs_size_bytes < 0:
            yield f"{field}.tmpfs_size_bytes", "is negative"


def _files(references: Iterable[Any], kind: str, known: Collection[str]) -> Iterator[Violation]:
    for index, reference in enumerate(references):
        field = f"{PLACE}.{kind}s[{index}]"
        if reference.name not in known:
            yield f"{field}.name", f"there is no {kind} {reference.name!r}; create it first"
        for part in ("uid", "gid"):
            number = getattr(reference, part)
            if number and not number.isdigit():
                yield f"{field}.{part}", f"{number!r} is no number"
        if reference.mode > 0o7777:
            yield f"{field}.mode", f"{reference.mode:#o} are no permission bits; use at most 07777"
        if ".." in reference.target.split("/"):
            yield f"{field}.target", f"{reference.target!r} has '..'; write the path in full"


def _resources(spec: container_pb2.ContainerSpec) -> Iterator[Violation]:
    place, resources = f"{PLACE}.resources", spec.resources
    if 0 < resources.limits.memory_bytes < LEAST_MEMORY:
        text = f"{resources.limits.memory_bytes} bytes are less than the least, 6 MiB"
        yield f"{place}.limits.memory_bytes", text
    for part in ("limits", "reservations"):
        amounts = getattr(resources, part)
        for field in ("nano_cpus", "memory_bytes"):
            if getattr(amounts, field) < 0:
                yield f"{place}.{part}.{field}", "is negative"
        for kind, count in amounts.generic.items():
            if count < 0:
                yield f"{place}.{part}.generic[{kind!r}]", "is negative"
    if resources.HasField("memory_swappiness") and resources.memory_swappiness > 100:
        yield f"{place}.memory_swappiness", f"{resources.memory_swappiness} is not within 0 to 100"
    if resources.blkio_weight and not 10 <= resources.blkio_weight <= 1000:
        yield f"{place}.blkio_weight", f"{resources.blkio_weight} is not within 10 to 1000"
    if spec.shm_size_bytes < 0:
        yield f"{PLACE}.shm_size_bytes", "is negative"


def _names(spec: container_pb2.ContainerSpec) -> Iterator[Violation]:
    for index, server in enumerate(spec.dns):
        try:
            ipaddress.ip_address(server)
        except ValueError:
            yield f"{PLACE}.dns[{index}]", f"{server!r} is no address of a name server"
    for field, allowed in vocabulary.NAMESPACE_MODES.items():
        value = getattr(spec, field)
        if not vocabulary.matches_mode(field, value):
            yield f"{PLACE}.{field}", f"{value!r} cannot be done; use {', '.join(allowed)}, or leave it out"
    for field in ("cap_add", "cap_drop"):
        for index, word in enumerate(getattr(spec, field)):
            if word.upper().removeprefix("CAP_") not in {*vocabulary.CAPABILITIES, "ALL"}:
                yield f"{PLACE}.{field}[{index}]", f"there is no capability {word!r}; see capabilities(7)"
    if spec.logging.driver and spec.logging.driver not in vocabulary.LOG_DRIVERS:
        known = ", ".join(vocabulary.LOG_DRIVERS)
        yield f"{PLACE}.logging.driver", f"there is no log driver {spec.logging.driver!r}; use {known}"
    if spec.runtime not in ("", "pycompose"):
        yield f"{PLACE}.runtime", f"there is no runtime {spec.runtime!r}; leave it out"
    if spec.storage_options:
        yield f"{PLACE}.storage_options", "the writable layer of a container cannot be limited; leave it out"
    for index, other in enumerate(spec.volumes_from):
        kind, _, target = other.source.partition(":")
        if kind not in ("service", "container") or not target:
            yield f"{PLACE}.volumes_from[{index}].source", f"{other.source!r} is not service:NAME or container:NAME"
