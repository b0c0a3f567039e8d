"""A task's spec and its image become an OCI configuration (runtime-spec 1.2). Pure: paths come in resolved.

Semantics of ENTRYPOINT, CMD, ENV, USER, WORKDIR and of the options are Docker's ("Dockerfile reference", "docker run").
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pycompose.proto.v1 import container_pb2, service_pb2, task_pb2
from pycompose.worker.runtime import oci
from pycompose.worker.runtime.users import User


class SpecError(Exception):
    """The spec asks for something that this node cannot do; the message says what and what would work."""


@dataclass(frozen=True)
class Surroundings:
    """What the machine adds: a network namespace's path (None: the machine's own), mounts ready for OCI, devices."""

    network_path: str | None
    user: User
    hostname: str
    mounts: Sequence[dict[str, Any]] = ()
    devices: Sequence[dict[str, Any]] = field(default_factory=tuple)
    cgroup_path: str = ""


def command_of(spec: container_pb2.ContainerSpec, image: Mapping[str, Any]) -> list[str]:
    """Return the program and its arguments. Raises SpecError when there is none."""
    if spec.HasField("entrypoint"):
        words = list(spec.entrypoint.args) + list(spec.command.args)
    else:
        tail = spec.command.args if spec.HasField("command") else image.get("Cmd") or []
        words = [*(image.get("Entrypoint") or []), *tail]
    if not words:
        raise SpecError(f"image {spec.image} has no command; give one with `command:`")
    return [str(word) for word in words]


def environment_of(spec: container_pb2.ContainerSpec, image: Mapping[str, Any], hostname: str, home: str) -> list[str]:
    """Return "KEY=value" pairs: defaults, the image's, the spec's; the last of a key wins."""
    pairs: dict[str, str] = {"PATH": oci.DEFAULT_PATH.partition("=")[2], "HOSTNAME": hostname}
    if spec.tty:
        pairs["TERM"] = "xterm"
    for item in [*(image.get("Env") or []), *spec.env]:
        key, _, value = str(item).partition("=")
        pairs[key] = value
    pairs.setdefault("HOME", home)
    return [f"{key}={value}" for key, value in pairs.items()]


def capability_names(spec: container_pb2.ContainerSpec) -> list[str]:
    """Return the capabilities that the container has."""
    from pycompose.worker.runtime import capabilities

    every = list(capabilities.NUMBERS)

    def names(words: Sequence[str]) -> list[str]:
        full = [word.upper() if word.upper().startswith("CAP_") else f"CAP_{word.upper()}" for word in words]
        return every if "CAP_ALL" in full else full

    if spec.privileged:
        return capabilities.held()
    added, dropped = names(spec.cap_add), set(names(spec.cap_drop))
    for name in [*added, *dropped]:
        if name not in every:
            raise SpecError(f"there is no capability {name.removeprefix('CAP_')}; see capabilities(7)")
    base = [name for name in oci.DEFAULT_CAPABILITIES if name not in dropped]
    wanted = [name for name in added if name not in dropped or "ALL" not in [w.upper() for w in spec.cap_add]]
    return list(dict.fromkeys([*base, *wanted]))


def compose(
    task: task_pb2.Task, spec: service_pb2.TaskSpec, image: Mapping[str, Any], around: Surroundings
) -> oci.OciConfig:
    """Return the configuration. Raises SpecError."""
    container = spec.container
    config = oci.default_config(command_of(container, image))
    process, linux = config["process"], config["linux"]
    process["terminal"] = container.tty
    process["user"] = {
        "uid": around.user.uid,
        "gid": around.user.gid,
        "additionalGids": list(around.user.groups),
    }
    process["env"] = environment_of(container, image, around.hostname, around.user.home)
    process["cwd"] = container.working_dir or image.get("WorkingDir") or "/"
    names = capability_names(container)
    process["capabilities"] = oci.capabilities(names)
    process["rlimits"] = [
        {"type": f"RLIMIT_{limit.name.upper()}", "soft": _limit(limit.soft), "hard": _limit(limit.hard)}
        for limit in container.ulimits
    ]
    if container.oom_score_adj:
        process["oomScoreAdj"] = container.oom_score_adj
    config["root"]["readonly"] = container.read_only
    config["hostname"] = around.hostname
    if container.domainname:
        config["domainname"] = container.domainname
    config["annotations"] = dict(container.annotations)
    if container.init:
        config["annotations"][oci.INIT_ANNOTATION] = "true"
    config["mounts"] = _mounts(container, around.mounts)
    linux["namespaces"] = _namespaces(container, spec, around)
    linux["resources"] |= _resources(container.resources, container)
    linux["devices"] += around.devices
    for device in around.devices:
        rule = {"allow": True, "type": device["type"], "major": device["major"], "minor": device["minor"]}
        linux["resources"]["devices"].append(rule | {"access": device.get("access", "rwm")})
    if container.sysctls:
        linux["sysctl"] = dict(container.sysctls)
    if around.cgroup_path:
        linux["cgroupsPath"] = around.cgroup_path
    linux["seccomp"] = oci.default_seccomp(names)
    _security(container, process, linux)
    if container.privileged:
        linux.pop("seccomp", None)
        linux["maskedPaths"], linux["readonlyPaths"] = [], []
        linux["resources"]["devices"] = [{"allow": True, "access": "rwm"}]
        for mount in config["mounts"]:
            if mount["type"] in ("sysfs", "cgroup"):
                mount["options"] = [option for option in mount["options"] if option != "ro"]
    return config


def _limit(value: int) -> int:
    return (1 << 64) - 1 if value < 0 else value


def _security(container: container_pb2.ContainerSpec, process: dict[str, Any], linux: dict[str, Any]) -> None:
    for option in container.security_opt:
        key, _, value = option.replace(":", "=", 1).partition("=")
        if key == "no-new-privileges":
            process["noNewPrivileges"] = value in ("", "true")
        elif key == "seccomp" and value == "unconfined":
            linux.pop("seccomp", None)
        elif key == "seccomp" and value.startswith("{"):
            linux["seccomp"] = json.loads(value)
        elif key in ("apparmor", "label", "systempaths"):
            if option == "systempaths=unconfined":
                linux["maskedPaths"], linux["readonlyPaths"] = [], []
            elif value not in ("unconfined", "disable"):
                raise SpecError(f"security_opt {option!r}: this node has no {key}; leave it out")
        else:
            raise SpecError(f"security_opt {option!r} is not known; see `docker run --security-opt`")


def _namespaces(
    container: container_pb2.ContainerSpec, spec: service_pb2.TaskSpec, around: Surroundings
) -> list[dict[str, Any]]:
    host_network = spec.network_mode == "host"
    result = oci.namespaces(around.network_path, host_network=host_network)
    modes = {"pid": container.pid_mode, "ipc": container.ipc_mode, "uts": container.uts_mode}
    for kind, mode in modes.items():
        if mode == "host":
            result = [entry for entry in result if entry["type"] != kind]
        elif mode not in ("", "private", "shareable", "none"):
            raise SpecError(f"{kind}: {mode!r} is not supported yet; use host or leave it out")
    if container.cgroup_mode == "host":
        result = [entry for entry in result if entry["type"] != "cgroup"]
    return result


def _mounts(container: container_pb2.ContainerSpec, more: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    own = sorted(more, key=lambda mount: (str(mount["destination"]).count("/"), str(mount["destination"])))
    targets = {str(mount["destination"]).rstrip("/") or "/" for mount in own}
    defaults = oci.default_mounts(container.shm_size_bytes or 64 * 1024 * 1024)
    return [mount for mount in defaults if mount["destination"] not in targets] + own


def _resources(wanted: container_pb2.Resources, container: container_pb2.ContainerSpec) -> dict[str, Any]:
    memory: dict[str, Any] = {}
    if wanted.limits.memory_bytes:
        memory["limit"] = wanted.limits.memory_bytes
        memory["swap"] = wanted.memory_swap_bytes or 2 * wanted.limits.memory_bytes
    if wanted.memory_reservation_bytes:
        memory["reservation"] = wanted.memory_reservation_bytes
    if wanted.HasField("memory_swappiness"):
        memory["swappiness"] = wanted.memory_swappiness
    if container.oom_kill_disable:
        memory["disableOOMKiller"] = True
    cpu: dict[str, Any] = {}
    if wanted.cpu_shares:
        cpu["shares"] = wanted.cpu_shares
    period = wanted.cpu_period_us or 100_000
    if wanted.limits.nano_cpus:
        cpu |= {"period": period, "quota": wanted.limits.nano_cpus * period // 1_000_000_000}
    elif wanted.cpu_quota_us:
        cpu |= {"period": period, "quota": wanted.cpu_quota_us}
    if wanted.cpuset_cpus:
        cpu["cpus"] = wanted.cpuset_cpus
    if wanted.cpuset_mems:
        cpu["mems"] = wanted.cpuset_mems
    found: dict[str, Any] = {}
    if memory:
        found["memory"] = memory
    if cpu:
        found["cpu"] = cpu
    if wanted.limits.pids > 0:
        found["pids"] = {"limit": wanted.limits.pids}
    return found
