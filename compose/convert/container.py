"""The container of a service: everything but networks, ports and how many."""

from __future__ import annotations

import posixpath
from typing import Any

from pycompose.compose.convert.desired import Machine
from pycompose.compose.convert.mounts import mounts
from pycompose.compose.convert.problems import Problems
from pycompose.compose.convert.resources import resources
from pycompose.compose.convert.values import duration, pairs, size
from pycompose.compose.loader import Project
from pycompose.proto.v1 import container_pb2 as pb

_PULL = {
    "always": pb.PULL_POLICY_ALWAYS,
    "never": pb.PULL_POLICY_NEVER,
    "missing": pb.PULL_POLICY_MISSING,
    "if_not_present": pb.PULL_POLICY_MISSING,
}
_SAME = (
    "platform",
    "working_dir",
    "user",
    "hostname",
    "domainname",
    "stop_signal",
    "cgroup_parent",
    "runtime",
    "userns_mode",
    "privileged",
    "read_only",
    "tty",
    "oom_kill_disable",
    "oom_score_adj",
)
_LISTS = {
    "groups": "group_add",
    "cap_add": "cap_add",
    "cap_drop": "cap_drop",
    "device_cgroup_rules": "device_cgroup_rules",
    "dns": "dns",
    "dns_search": "dns_search",
    "dns_options": "dns_opt",
    "extra_hosts": "extra_hosts",
}
_MODES = {"pid_mode": "pid", "ipc_mode": "ipc", "uts_mode": "uts", "cgroup_mode": "cgroup"}


def container(project: Project, name: str, machine: Machine, problems: Problems) -> pb.ContainerSpec:
    """Return what the service's containers are made from, without labels of the project."""
    service = project.services[name]
    spec = pb.ContainerSpec(image=service.get("image") or f"{project.name}-{name}")
    for field in _SAME:
        if service.get(field) not in (None, ""):
            setattr(spec, field, type(getattr(spec, field))(service[field]))
    for field, key in _LISTS.items():
        getattr(spec, field).extend(str(value) for value in service.get(key) or ())
    for field, key in _MODES.items():
        setattr(spec, field, service.get(key) or "")
    for field in ("command", "entrypoint"):
        if service.get(field) is not None:
            getattr(spec, field).args.extend(service[field])
            getattr(spec, field).SetInParent()
    spec.open_stdin = service.get("stdin_open") or False
    spec.init = service.get("init") or False
    spec.env.extend(pairs(service.get("environment")))
    spec.pull_policy = _pull_policy(service, name, problems)
    if service.get("stop_grace_period") is not None:
        spec.stop_grace_period.CopyFrom(duration(service["stop_grace_period"]))
    spec.annotations.update(_texts(service.get("annotations")))
    spec.labels.update(_texts(service.get("labels")))
    spec.sysctls.update(_texts(service.get("sysctls")))
    spec.storage_options.update(_texts(service.get("storage_opt")))
    spec.security_opt.extend(_security(service, name, project, machine, problems))
    for limit, value in (service.get("ulimits") or {}).items():
        soft, hard = (value["soft"], value["hard"]) if isinstance(value, dict) else (value, value)
        spec.ulimits.add(name=limit, soft=int(soft), hard=int(hard))
    for device in service.get("devices") or ():
        source = device["source"]
        spec.devices.add(
            source=source, target=device.get("target") or source, permissions=device.get("permissions") or "rwm"
        )
    spec.mounts.extend(mounts(project, name, machine, problems))
    spec.shm_size_bytes = size(service.get("shm_size"))
    spec.resources.CopyFrom(resources(service, name, problems))
    if not spec.resources.ByteSize():
        spec.ClearField("resources")
    _references(spec, project, service)
    _health(spec, service, name, problems)
    _logging(spec, service, name, problems)
    for field, hooks in (("post_start", service.get("post_start")), ("pre_stop", service.get("pre_stop"))):
        for hook in hooks or ():
            getattr(spec, field).add(
                command=hook["command"] or (),
                user=hook.get("user") or "",
                privileged=hook.get("privileged") or False,
                working_dir=hook.get("working_dir") or "",
                env=pairs(hook.get("environment")),
            )
    return spec


def _texts(values: Any) -> dict[str, str]:
    return {key: "" if value is None else str(value) for key, value in (values or {}).items()}


def _pull_policy(service: dict[str, Any], name: str, problems: Problems) -> pb.PullPolicy.ValueType:
    word = service.get("pull_policy") or "missing"
    if word in _PULL:
        return _PULL[word]
    if word != "build":
        problems.warn(
            ("services", name, "pull_policy"),
            f"{word} is not supported and counts as missing; pycompose pull asks the registry",
        )
    return pb.PULL_POLICY_MISSING


def _security(service: dict[str, Any], name: str, project: Project, machine: Machine, problems: Problems) -> list[str]:
    """Return security options; a seccomp profile named by its file is read and goes along."""
    result = []
    for index, option in enumerate(service.get("security_opt") or ()):
        key, mark, value = option.partition("=" if "=" in option else ":")
        if key == "seccomp" and mark and value not in ("unconfined", "builtin") and not value.lstrip().startswith("{"):
            path = posixpath.normpath(posixpath.join(project.working_dir, value))
            try:
                option = "seccomp=" + machine.read(path).decode()
            except (OSError, UnicodeDecodeError) as error:
                problems.error(
                    ("services", name, "security_opt", index),
                    f"seccomp profile {path}: {getattr(error, 'strerror', None) or error}",
                    "name a JSON file, or unconfined",
                )
        result.append(option)
    return result


def _references(spec: pb.ContainerSpec, project: Project, service: dict[str, Any]) -> None:
    for field in ("secrets", "configs"):
        objects = project.model.get(field) or {}
        for entry in service.get(field) or ():
            source = entry["source"]
            getattr(spec, field).add(
                name=(objects.get(source) or {}).get("name") or source,
                target=entry.get("target") or (f"/run/secrets/{source}" if field == "secrets" else f"/{source}"),
                uid=entry.get("uid") or "",
                gid=entry.get("gid") or "",
                mode=_mode(entry.get("mode")),
            )


def _mode(value: Any) -> int:
    if value is None:
        return 0
    return int(value, 8) if isinstance(value, str) else int(value)


def _health(spec: pb.ContainerSpec, service: dict[str, Any], name: str, problems: Problems) -> None:
    check = service.get("healthcheck")
    wish = service.get("x-on-unhealthy")
    if wish not in (None, "restart", "ignore"):
        problems.error(("services", name, "x-on-unhealthy"), f'unknown value "{wish}"', "want restart or ignore")
    policy = (service.get("deploy") or {}).get("restart_policy") or {}
    restarts = wish == "restart" or (wish is None and bool(policy) and policy.get("condition") != "none")
    if check:
        if check.get("disable"):
            spec.healthcheck.test.append("NONE")
            return
        spec.healthcheck.test.extend(check.get("test") or ())
        for field in ("interval", "timeout", "start_period", "start_interval"):
            if check.get(field) is not None:
                getattr(spec.healthcheck, field).CopyFrom(duration(check[field]))
        spec.healthcheck.retries = int(check.get("retries") or 0)
    if restarts or wish:
        spec.healthcheck.on_unhealthy = pb.ON_UNHEALTHY_RESTART if restarts else pb.ON_UNHEALTHY_IGNORE


def _logging(spec: pb.ContainerSpec, service: dict[str, Any], name: str, problems: Problems) -> None:
    logging = service.get("logging")
    if not logging:
        return
    driver = logging.get("driver") or "json-file"
    if driver not in ("json-file", "none"):
        problems.warn(
            ("services", name, "logging", "driver"),
            f"log driver {driver} is not there; output is kept as json-file and read with pycompose logs",
        )
        spec.logging.driver = "json-file"
        return
    spec.logging.driver = driver
    spec.logging.options.update(_texts(logging.get("options")))
