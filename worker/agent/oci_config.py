"""A task's spec and its image become an OCI configuration (runtime-spec 1.2). Pure: paths and devices come in resolved.

Semantics of ENTRYPOINT, CMD, ENV, USER, WORKDIR and of the options are Docker's ("Dockerfile reference", "docker run").
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pycompose.proto.v1 import container_pb2, service_pb2, task_pb2
from pycompose.worker.runtime import capabilities, labels, oci
from pycompose.worker.runtime.users import User

CONSOLE_SIZE = "pycompose.console-size"
"""Annotation: the size of a new terminal, "24x80" (config.json's process.consoleSize)."""
ALL = "CAP_ALL"


class SpecError(Exception):
    """The spec asks for something that this node cannot do; the message says what and what would work."""


@dataclass(frozen=True)
class Surroundings:
    """What the machine adds.

    Attributes:
        network_path: the network namespace's file; None: the machine's own.
        user: who runs the program.
        hostname: of the container.
        mounts: ready for OCI.
        devices: as OCI ``linux.devices``; with "access" those that may be used.
        device_rules: as OCI ``linux.resources.devices``, after the default ones.
        resources: the rest of OCI ``linux.resources``.
        cgroup_path: of the container's own cgroup.
        mappings: uidMappings and gidMappings of its user namespace; None: the machine's own.
        user_namespace: its file.
    """

    network_path: str | None
    user: User
    hostname: str
    mounts: Sequence[dict[str, Any]] = ()
    devices: Sequence[dict[str, Any]] = ()
    device_rules: Sequence[dict[str, Any]] = ()
    resources: Mapping[str, Any] = field(default_factory=dict)
    cgroup_path: str = ""
    mappings: tuple[list[dict[str, int]], list[dict[str, int]]] | None = None
    user_namespace: str = ""


def command_of(spec: container_pb2.ContainerSpec, image: Mapping[str, Any]) -> list[str]:
    """Return the program and its arguments. Raises SpecError when there is none.

    An entrypoint of the spec makes the image's CMD void, but an empty one only takes the image's ENTRYPOINT away.
    """
    entrypoint = list(spec.entrypoint.args) if spec.HasField("entrypoint") else list(image.get("Entrypoint") or [])
    replaced = spec.HasField("entrypoint") and bool(entrypoint)
    tail = list(spec.command.args) if spec.HasField("command") or replaced else list(image.get("Cmd") or [])
    words = [*entrypoint, *tail]
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
    """Return the capabilities that the container has, by Docker's rules ("docker run", --cap-add). Raises SpecError."""
    every = capabilities.held()
    added, dropped = (_full_names(words) for words in (spec.cap_add, spec.cap_drop))
    if spec.privileged:
        return every
    if ALL in added and ALL not in dropped:
        return [name for name in every if name not in dropped]
    base = [] if ALL in dropped else [name for name in oci.DEFAULT_CAPABILITIES if name not in dropped]
    return list(dict.fromkeys([*base, *(every if ALL in added else added)]))


def _full_names(words: Sequence[str]) -> list[str]:
    names = [f"CAP_{word.upper().removeprefix('CAP_')}" for word in words]
    for name in names:
        if name not in capabilities.NUMBERS and name != ALL:
            raise SpecError(f"there is no capability {name.removeprefix('CAP_')}; see capabilities(7)")
    return names


def compose(
    task: task_pb2.Task, spec: service_pb2.TaskSpec, image: Mapping[str, Any], around: Surroundings
) -> oci.OciConfig:
    """Return the configuration. Raises SpecError."""
    container = spec.container
    config = oci.default_config(command_of(container, image))
    process, linux = config["process"], config["linux"]
    names = capability_names(container)
    _process(process, container, image, around, names)
    config["root"]["readonly"] = container.read_only
    config["hostname"] = around.hostname
    if container.domainname:
        config["domainname"] = container.domainname
    config["annotations"] = dict(container.annotations)
    if container.init:
        config["annotations"][oci.INIT_ANNOTATION] = "true"
    config["mounts"] = _mounts(container, around.mounts)
    linux["namespaces"] = _namespaces(container, spec, around)
    if around.mappings is not None:
        linux["namespaces"].append({"type": "user", "path": around.user_namespace})
        linux["uidMappings"], linux["gidMappings"] = around.mappings
    linux["resources"] |= around.resources
    linux["resources"]["devices"] += around.device_rules
    linux["devices"] += [device for device in around.devices if device["path"] not in _paths(linux["devices"])]
    for device in around.devices:
        if device.get("access"):
            rule = {"allow": True, "type": device["type"], "major": device["major"], "minor": device["minor"]}
            linux["resources"]["devices"].append(rule | {"access": device["access"]})
    if container.sysctls:
        linux["sysctl"] = dict(container.sysctls)
    if around.cgroup_path:
        linux["cgroupsPath"] = around.cgroup_path
    linux["seccomp"] = oci.default_seccomp(names)
    if container.privileged:
        linux.pop("seccomp", None)
        linux["maskedPaths"], linux["readonlyPaths"] = [], []
        linux["resources"]["devices"] = [{"allow": True, "access": "rwm"}]
        _writable(config["mounts"], "sysfs", "cgroup")
    for option in container.security_opt:
        _security(option, config)
    return config


def _paths(devices: Sequence[dict[str, Any]]) -> set[str]:
    return {device["path"] for device in devices}


def _process(
    process: dict[str, Any],
    container: container_pb2.ContainerSpec,
    image: Mapping[str, Any],
    around: Surroundings,
    names: list[str],
) -> None:
    process["terminal"] = container.tty
    rows, _, columns = container.annotations.get(CONSOLE_SIZE, "").partition("x")
    if container.tty and rows.isdigit() and columns.isdigit():
        process["consoleSize"] = {"height": int(rows), "width": int(columns)}
    process["user"] = around.user.as_process_user()
    process["env"] = environment_of(container, image, around.hostname, around.user.home)
    process["cwd"] = container.working_dir or image.get("WorkingDir") or "/"
    process["capabilities"] = oci.capabilities(names)
    process["rlimits"] = [
        {"type": f"RLIMIT_{limit.name.upper()}", "soft": _limit(limit.soft), "hard": _limit(limit.hard)}
        for limit in container.ulimits
    ]
    if container.oom_score_adj:
        process["oomScoreAdj"] = container.oom_score_adj


def _limit(value: int) -> int:
    return (1 << 64) - 1 if value < 0 else value


def _writable(mounts: Sequence[dict[str, Any]], *kinds: str) -> None:
    for mount in mounts:
        if mount["type"] in kinds:
            mount["options"] = [option for option in mount["options"] if option != "ro"]


def _security(option: str, config: oci.OciConfig) -> None:
    """Apply one of security_opt's. Raises SpecError."""
    process, linux = config["process"], config["linux"]
    key, _, value = option.partition("=") if "=" in option else option.partition(":")
    match key:
        case "no-new-privileges":
            process["noNewPrivileges"] = value in ("", "true")
        case "seccomp" if value == "unconfined":
            linux.pop("seccomp", None)
        case "seccomp" if value.startswith("{"):
            linux["seccomp"] = _profile(value)
        case "seccomp" if value == "builtin":
            pass
        case "systempaths" if value == "unconfined":
            linux["maskedPaths"], linux["readonlyPaths"] = [], []
        case "mask":
            linux["maskedPaths"] = [*linux["maskedPaths"], *value.split(":")]
        case "unmask":
            shown = value.split(":")
            for kind in ("maskedPaths", "readonlyPaths"):
                linux[kind] = [] if value.upper() == "ALL" else [path for path in linux[kind] if path not in shown]
        case "writable-cgroups":
            if value in ("", "true"):
                _writable(config["mounts"], "cgroup")
        case "apparmor":
            if value != "unconfined" and not labels.apparmor_enabled():
                raise SpecError(f"security_opt {option!r}: this node's kernel has no AppArmor; leave it out")
            process["apparmorProfile"] = value
        case "label":
            if value != "disable":
                raise SpecError(f"security_opt {option!r}: SELinux labels are not supported; leave it out")
        case _:
            raise SpecError(f"security_opt {option!r} is not known; see `docker run --security-opt`")


def _profile(text: str) -> dict[str, Any]:
    try:
        found: dict[str, Any] = json.loads(text)
    except ValueError as error:
        raise SpecError(f"the seccomp profile is not JSON: {error}") from None
    return found


def _namespaces(
    container: container_pb2.ContainerSpec, spec: service_pb2.TaskSpec, around: Surroundings
) -> list[dict[str, Any]]:
    """Return the namespaces; what another container gives is entered at each start (``preparation.joins``)."""
    result = oci.namespaces(around.network_path, host_network=spec.network_mode == "host")
    shared = {
        "pid": container.pid_mode,
        "ipc": container.ipc_mode,
        "uts": container.uts_mode,
        "cgroup": container.cgroup_mode,
    }
    return [entry for entry in result if shared.get(entry["type"]) != "host"]


def _mounts(container: container_pb2.ContainerSpec, more: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    own = sorted(more, key=lambda mount: (str(mount["destination"]).count("/"), str(mount["destination"])))
    hidden = {str(mount["destination"]).rstrip("/") or "/" for mount in own}
    if container.ipc_mode == "none":
        hidden.add("/dev/shm")
    defaults = oci.default_mounts(container.shm_size_bytes or 64 * 1024 * 1024)
    return [mount for mount in defaults if mount["destination"] not in hidden] + own
