"""A service: how many tasks, their template, ports, dependencies, and how a change is carried out."""

from __future__ import annotations

import hashlib
from typing import Any

from pycompose.compose import labels as label
from pycompose.compose.convert.container import container
from pycompose.compose.convert.desired import Machine
from pycompose.compose.convert.mounts import writable_state
from pycompose.compose.convert.networks import attach, way_in
from pycompose.compose.convert.ports import ports, publishing
from pycompose.compose.convert.problems import Problems
from pycompose.compose.convert.values import duration
from pycompose.compose.loader import Project
from pycompose.proto.v1 import service_pb2 as pb

_CONDITIONS = {
    "service_started": pb.DEPENDENCY_CONDITION_STARTED,
    "service_healthy": pb.DEPENDENCY_CONDITION_HEALTHY,
    "service_completed_successfully": pb.DEPENDENCY_CONDITION_COMPLETED_SUCCESSFULLY,
}
_RESTARTS = {
    "no": pb.RESTART_CONDITION_NONE,
    "none": pb.RESTART_CONDITION_NONE,
    "always": pb.RESTART_CONDITION_ANY,
    "any": pb.RESTART_CONDITION_ANY,
    "on-failure": pb.RESTART_CONDITION_ON_FAILURE,
    "unless-stopped": pb.RESTART_CONDITION_UNLESS_STOPPED,
}
_FAILURE = {
    "pause": pb.UPDATE_FAILURE_ACTION_PAUSE,
    "continue": pb.UPDATE_FAILURE_ACTION_CONTINUE,
    "rollback": pb.UPDATE_FAILURE_ACTION_ROLLBACK,
}


def service(project: Project, name: str, machine: Machine, problems: Problems) -> pb.ServiceSpec:
    """Return the service's spec, complete with labels and the hash of its template."""
    entry = project.services[name]
    deploy = entry.get("deploy") or {}
    spec = pb.ServiceSpec(project=project.name, name=name)
    spec.labels.update({key: str(value) for key, value in (deploy.get("labels") or {}).items()})
    spec.task.container.CopyFrom(container(project, name, machine, problems))
    spec.task.container_name = entry.get("container_name") or ""
    attach(project, name, spec.task, problems)
    _restart(spec.task, entry, name, problems)
    _placement(spec.task, deploy)
    count = _mode(spec, entry, deploy, name, problems)
    spec.endpoint.mode = _endpoint_mode(deploy, name, problems)
    spec.endpoint.ports.extend(ports(entry, name, spec.task.network_mode, problems))
    _published(spec, project, problems)
    publishing(spec.endpoint, entry, name, problems)
    for other, condition in (entry.get("depends_on") or {}).items():
        spec.dependencies.add(
            service=other,
            condition=_CONDITIONS[condition["condition"]],
            restart=condition.get("restart") or False,
            required=condition.get("required", True),
        )
    _updates(spec, entry, deploy, name, problems)
    if count > 1:
        _alone(spec, name, problems)
    _labels(spec, project, entry)
    return spec


def _published(spec: pb.ServiceSpec, project: Project, problems: Problems) -> None:
    """Let ports without an address have their network's; say so when they lead nowhere."""
    reachable, binding = way_in(project, spec.name)
    if spec.endpoint.ports and not reachable:
        message = "the service is on no network that leads outside, and no port is published"
        problems.warn(("services", spec.name, "ports"), message)
        del spec.endpoint.ports[:]
    for port in spec.endpoint.ports:
        port.host_ip = port.host_ip or binding


def _endpoint_mode(deploy: dict[str, Any], name: str, problems: Problems) -> pb.EndpointMode.ValueType:
    word = deploy.get("endpoint_mode") or "vip"
    if word not in ("vip", "dnsrr"):
        place = ("services", name, "deploy", "endpoint_mode")
        problems.error(place, f'unknown mode "{word}"', "want vip or dnsrr")
    return pb.ENDPOINT_MODE_DNSRR if word == "dnsrr" else pb.ENDPOINT_MODE_VIP


def _mode(spec: pb.ServiceSpec, entry: dict[str, Any], deploy: dict[str, Any], name: str, problems: Problems) -> int:
    """Write how many tasks there are; return the number that may run at once."""
    count = entry.get("scale")
    if count is None:
        count = deploy.get("replicas")
    count = 1 if count is None else int(count)
    if count < 0:
        problems.error(("services", name, "scale"), f"{count} is no number of containers", "want 0 or more")
        return 0
    mode = deploy.get("mode") or "replicated"
    if mode == "global" and entry.get("container_name"):
        problems.error(
            ("services", name, "container_name"), "a container on each node cannot have one name", "remove it"
        )
    if mode == "global":
        getattr(spec, "global").SetInParent()
        return 1
    if mode == "replicated-job":
        spec.replicated_job.completions = count
        return count
    spec.replicated.SetInParent()
    spec.replicated.replicas = count
    return count


def _alone(spec: pb.ServiceSpec, name: str, problems: Problems) -> None:
    """Note what only one container can have."""
    if spec.task.container_name:
        problems.error(
            ("services", name, "container_name"),
            f'several containers cannot all be called "{spec.task.container_name}"',
            "leave it out, or run one",
        )
    for network in spec.task.networks:
        if network.ipv4_address or network.ipv6_address:
            problems.error(("services", name, "networks"), "several containers cannot share a fixed address", "run one")
        if network.mac_address:
            problems.error(("services", name), "several containers cannot share a fixed mac_address", "run one")


def _restart(task: pb.TaskSpec, entry: dict[str, Any], name: str, problems: Problems) -> None:
    """Write the restart policy; `deploy.restart_policy` wins over `restart`, as in Docker Compose."""
    policy = (entry.get("deploy") or {}).get("restart_policy")
    if policy is None:
        _short_restart(task, str(entry.get("restart") or "no"), name, problems)
        return
    word = policy.get("condition") or "any"
    if word not in ("none", "on-failure", "any"):
        problems.error(
            ("services", name, "deploy", "restart_policy", "condition"),
            f'unknown condition "{word}"',
            "want none, on-failure or any",
        )
        return
    task.restart.condition = _RESTARTS[word]
    for field in ("delay", "window"):
        if policy.get(field) is not None:
            getattr(task.restart, field).CopyFrom(duration(policy[field]))
    task.restart.max_attempts = int(policy.get("max_attempts") or 0)


def _short_restart(task: pb.TaskSpec, text: str, name: str, problems: Problems) -> None:
    word, _, attempts = text.partition(":")
    if (
        word not in _RESTARTS
        or word in ("none", "any")
        or (attempts and not (attempts.isdigit() and word == "on-failure"))
    ):
        problems.error(
            ("services", name, "restart"),
            f'"{text}" is no restart policy',
            'want "no", always, on-failure[:NUMBER] or unless-stopped',
        )
        return
    task.restart.condition = _RESTARTS[word]
    task.restart.max_attempts = int(attempts or 0)


def _placement(task: pb.TaskSpec, deploy: dict[str, Any]) -> None:
    placement = deploy.get("placement") or {}
    task.placement.constraints.extend(placement.get("constraints") or ())
    task.placement.spread.extend(one["spread"] for one in placement.get("preferences") or () if one.get("spread"))
    task.placement.max_replicas_per_node = int(placement.get("max_replicas_per_node") or 0)
    if not task.placement.ByteSize():
        task.ClearField("placement")


def _updates(
    spec: pb.ServiceSpec, entry: dict[str, Any], deploy: dict[str, Any], name: str, problems: Problems
) -> None:
    shared = entry.get("x-shared-volume") or False
    why = ""
    if writable_state(spec.task.container) and not shared:
        why = "it writes to a volume or bind that two containers would share"
    elif spec.task.container_name:
        why = "two containers cannot have one container_name"
    elif spec.task.network_mode:
        why = f"two containers cannot share network_mode {spec.task.network_mode}"
    elif any(port.publish_mode == pb.PUBLISH_MODE_HOST or port.published_port_end for port in spec.endpoint.ports):
        why = "two containers cannot hold one port of the host"
    elif any(network.ipv4_address or network.mac_address for network in spec.task.networks):
        why = "two containers cannot hold one fixed address"
    check = (entry.get("healthcheck") or {}).get("test")
    for field, key in (("update", "update_config"), ("rollback", "rollback_config")):
        values = deploy.get(key)
        if values is None and not (field == "update" and check and not why):
            continue
        config = getattr(spec, field)
        _update(config, values or {}, ("services", name, "deploy", key), problems)
        asked = (values or {}).get("order")
        if asked == "start-first" and why:
            problems.warn(("services", name, "deploy", key, "order"), f"{name} is updated stop-first: {why}")
        first = not why and (asked == "start-first" or (asked is None and bool(check)))
        config.order = pb.UPDATE_ORDER_START_FIRST if first else pb.UPDATE_ORDER_STOP_FIRST
        _short_watch(config, spec, ("services", name, "deploy", key, "monitor"), problems)


def _short_watch(
    config: pb.UpdateConfig, spec: pb.ServiceSpec, path: tuple[str | int, ...], problems: Problems
) -> None:
    """Warn of a new task that is watched for a shorter time than its healthcheck takes to find it unhealthy."""
    check = spec.task.container.healthcheck
    if not config.HasField("monitor") or not check.test or check.test[0] == "NONE":
        return
    interval = check.interval.ToNanoseconds() if check.HasField("interval") else 30_000_000_000
    least = check.start_period.ToNanoseconds() + interval * (check.retries or 3)
    if config.monitor.ToNanoseconds() < least:
        problems.warn(
            path,
            f"ends before the healthcheck can find a new container unhealthy ({least / 1e9:g} s: start_period + "
            "interval x retries), so an update that fails may count as done; make it longer",
        )


def _update(config: pb.UpdateConfig, values: dict[str, Any], path: tuple[str | int, ...], problems: Problems) -> None:
    # Swarm's default is one task at a time; without the key all change at once, as Docker Compose does
    config.parallelism = int(values["parallelism"] if values.get("parallelism") is not None else bool(values))
    for field in ("delay", "monitor"):
        if values.get(field) is not None:
            getattr(config, field).CopyFrom(duration(values[field]))
    config.max_failure_ratio = float(values.get("max_failure_ratio") or 0)
    action = values.get("failure_action")
    if action and action not in _FAILURE:
        problems.error((*path, "failure_action"), f'unknown action "{action}"', "want pause, continue or rollback")
    elif action:
        config.failure_action = _FAILURE[action]


def _labels(spec: pb.ServiceSpec, project: Project, entry: dict[str, Any]) -> None:
    """Add the labels that Docker Compose's tools group containers by; the hash is over all that comes before it."""
    digest = template_hash(spec)
    spec.task.container.labels.update(
        {
            label.PROJECT: project.name,
            label.SERVICE: spec.name,
            label.ONEOFF: "False",
            label.WORKING_DIR: project.working_dir,
            label.CONFIG_FILES: ",".join(project.config_files),
            label.DEPENDS_ON: ",".join(
                f"{other}:{condition['condition']}:{str(condition.get('restart') or False).lower()}"
                for other, condition in (entry.get("depends_on") or {}).items()
            ),
            label.CONFIG_HASH: digest,
        }
    )


def template_hash(spec: pb.ServiceSpec) -> str:
    """Return the SHA-256 of the service's task template."""
    return hashlib.sha256(spec.task.SerializeToString(deterministic=True)).hexdigest()
