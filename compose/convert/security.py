"""What a container may do: capabilities, security options, devices, limits of processes, shared namespaces."""

from __future__ import annotations

import posixpath
import re
from difflib import get_close_matches
from typing import Any

from pycompose.compose.convert.desired import Machine
from pycompose.compose.convert.problems import Problems
from pycompose.compose.loader import Project
from pycompose.proto.v1 import container_pb2 as pb
from pycompose.proto.vocabulary import (
    CAPABILITIES,
    NAMESPACE_MODES,
    ULIMITS,
    against_userns,
    matches_mode,
    signal_number,
)

_MODES = {
    "pid_mode": "pid",
    "ipc_mode": "ipc",
    "uts_mode": "uts",
    "cgroup_mode": "cgroup",
    "userns_mode": "userns_mode",
}
_DEVICE_RULE = re.compile(r"[acb] (\d+|\*):(\d+|\*) [rwm]{1,3}\Z")
_CDI_NAME = re.compile(r"[A-Za-z][\w.-]*/[A-Za-z][\w.-]*=[\w.:-]+\Z")
_FREE = ("no-new-privileges", "writable-cgroups")


def security(spec: pb.ContainerSpec, project: Project, name: str, machine: Machine, problems: Problems) -> None:
    """Write into `spec` what the service says of rights and of the machine's parts that it shares."""
    service = project.services[name]
    path = ("services", name)
    for key in ("cap_add", "cap_drop"):
        for index, word in enumerate(service.get(key) or ()):
            getattr(spec, key).append(_capability(word, (*path, key, index), problems))
    for index, option in enumerate(service.get("security_opt") or ()):
        spec.security_opt.append(_option(option, (*path, "security_opt", index), project, machine, problems))
    for limit, value in (service.get("ulimits") or {}).items():
        _ulimit(spec, limit, value, (*path, "ulimits", limit), problems)
    for index, device in enumerate(service.get("devices") or ()):
        _device(spec, device, (*path, "devices", index), problems)
    for index, rule in enumerate(service.get("device_cgroup_rules") or ()):
        if not _DEVICE_RULE.match(rule):
            problems.error((*path, "device_cgroup_rules", index), f'"{rule}" is no rule', 'write it like "c 1:3 mr"')
        spec.device_cgroup_rules.append(rule)
    for field, key in _MODES.items():
        value = service.get(key) or ""
        if not matches_mode(field, value):
            known = ", ".join(NAMESPACE_MODES[field])
            problems.error((*path, key), f'"{value}" cannot be done', f"want {known}, or leave it out")
        setattr(spec, field, value)
    wrong = against_userns(
        spec.userns_mode,
        privileged=bool(service.get("privileged")),
        network_mode=service.get("network_mode") or "",
        pid_mode=spec.pid_mode,
    )
    if wrong:
        written = {"pid_mode": "pid: host", "network_mode": "network_mode: host"}.get(wrong, wrong)
        problems.error((*path, "userns_mode"), f"auto cannot be combined with {written}", "leave one of them out")
    if not spec.ipc_mode and any(other.get("ipc") == f"service:{name}" for other in project.services.values()):
        spec.ipc_mode = "shareable"
    signal = service.get("stop_signal")
    if signal and signal_number(signal) is None:
        problems.error(
            (*path, "stop_signal"), f'there is no signal "{signal}"', "want one such as SIGTERM; see signal(7)"
        )
    spec.stop_signal = signal or ""


def _capability(word: str, path: tuple[str | int, ...], problems: Problems) -> str:
    plain = word.upper().removeprefix("CAP_")
    if plain not in CAPABILITIES and plain != "ALL":
        near = get_close_matches(plain, CAPABILITIES, n=1)
        hint = f"did you mean {near[0]}?" if near else "see capabilities(7)"
        problems.error(path, f'there is no capability "{word}"', hint)
    return plain


def _option(option: str, path: tuple[str | int, ...], project: Project, machine: Machine, problems: Problems) -> str:
    """Return a security option; a seccomp profile named by its file is read and goes along."""
    key, mark, value = option.partition("=" if "=" in option else ":")
    if key in _FREE:
        if value not in ("", "true", "false"):
            problems.error(path, f'{key}: "{value}" is neither true nor false', f"write {key}:true")
        return f"{key}={value or 'true'}"
    if not mark or not value:
        problems.error(path, f'"{option}" has no value', "write it like seccomp=unconfined")
    elif key == "seccomp":
        if value not in ("unconfined", "builtin") and not value.lstrip().startswith("{"):
            return _profile(posixpath.normpath(posixpath.join(project.working_dir, value)), path, machine, problems)
    elif key == "systempaths":
        if value != "unconfined":
            problems.error(path, f'systempaths: unknown value "{value}"', "the only one is unconfined")
    elif key in ("mask", "unmask"):
        places = value.split(":")
        if not all(place.startswith("/") for place in places) and value.upper() != "ALL":
            problems.error(
                path, f'{key}: "{value}" is no list of absolute paths', f"write {key}=/proc/kcore:/sys/firmware"
            )
    elif key not in ("apparmor", "label"):
        known = "no-new-privileges, seccomp, apparmor, label, systempaths, mask, unmask, writable-cgroups"
        problems.error(path, f'unknown option "{key}"', f"known are {known}")
    return f"{key}={value}"


def _profile(file: str, path: tuple[str | int, ...], machine: Machine, problems: Problems) -> str:
    try:
        return "seccomp=" + machine.read(file).decode()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or error
        problems.error(path, f"seccomp profile {file}: {reason}", "name a JSON file, or unconfined")
        return "seccomp=unconfined"


def _ulimit(spec: pb.ContainerSpec, limit: str, value: Any, path: tuple[str | int, ...], problems: Problems) -> None:
    soft, hard = (value.get("soft", 0), value.get("hard", 0)) if isinstance(value, dict) else (value, value)
    if limit not in ULIMITS:
        near = get_close_matches(limit, ULIMITS, n=1)
        hint = f"did you mean {near[0]}?" if near else f"known are {', '.join(sorted(ULIMITS))}"
        problems.error(path, f'there is no limit "{limit}"', hint)
    elif 0 <= hard < soft or (soft < 0 <= hard):
        problems.error(path, f"the soft limit {soft} is above the hard limit {hard}", "lower it")
    spec.ulimits.add(name=limit, soft=int(soft), hard=int(hard))


def _device(spec: pb.ContainerSpec, device: dict[str, Any], path: tuple[str | int, ...], problems: Problems) -> None:
    source, permissions = device["source"], device.get("permissions") or "rwm"
    target = device.get("target") or source
    if _CDI_NAME.match(source):
        problems.error(path, f"{source} is a CDI name, and CDI is not supported", "name a device file below /dev")
    elif not source.startswith("/") or not target.startswith("/"):
        problems.error(path, f"{source}:{target} are not absolute paths", "write /dev/NAME:/dev/NAME")
    elif not set(permissions) <= set("rwm"):
        problems.error(path, f'"{permissions}" are no permissions of a device', "want a mix of r, w and m")
    spec.devices.add(source=source, target=target, permissions=permissions)
