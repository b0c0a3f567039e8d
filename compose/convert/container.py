"""The container of a service: everything but networks, ports and how many."""

from __future__ import annotations

from typing import Any

from pycompose.compose.convert import running
from pycompose.compose.convert.desired import Machine
from pycompose.compose.convert.mounts import mounts, volumes_from
from pycompose.compose.convert.problems import Problems
from pycompose.compose.convert.resources import resources
from pycompose.compose.convert.security import security
from pycompose.compose.convert.values import duration, file_mode, pairs, size, texts
from pycompose.compose.loader import Project
from pycompose.proto.v1 import container_pb2 as pb

_SAME = (
    "platform",
    "working_dir",
    "user",
    "hostname",
    "domainname",
    "cgroup_parent",
    "privileged",
    "read_only",
    "tty",
    "oom_kill_disable",
    "oom_score_adj",
)
_LISTS = {
    "groups": "group_add",
    "dns": "dns",
    "dns_search": "dns_search",
    "dns_options": "dns_opt",
    "extra_hosts": "extra_hosts",
}


def container(project: Project, name: str, machine: Machine, problems: Problems) -> pb.ContainerSpec:
    """Return what the service's containers are made from, without labels of the project."""
    service = project.services[name]
    spec = pb.ContainerSpec(image=service.get("image") or f"{project.name}-{name}")
    for field in _SAME:
        if service.get(field) not in (None, ""):
            setattr(spec, field, type(getattr(spec, field))(service[field]))
    for field, key in _LISTS.items():
        getattr(spec, field).extend(str(value) for value in service.get(key) or ())
    for field in ("command", "entrypoint"):
        if service.get(field) is not None:
            getattr(spec, field).args.extend(service[field])
            getattr(spec, field).SetInParent()
    spec.open_stdin = service.get("stdin_open") or False
    spec.init = service.get("init") or False
    spec.env.extend(pairs(service.get("environment")))
    running.pull_policy(spec, service, name, problems)
    if service.get("stop_grace_period") is not None:
        spec.stop_grace_period.CopyFrom(duration(service["stop_grace_period"]))
    spec.annotations.update(texts(service.get("annotations")))
    spec.labels.update(texts(service.get("labels")))
    spec.sysctls.update(texts(service.get("sysctls")))
    spec.exposed_ports.extend(port if "/" in port else f"{port}/tcp" for port in service.get("expose") or ())
    security(spec, project, name, machine, problems)
    spec.mounts.extend(mounts(project, name, machine, problems))
    spec.volumes_from.extend(volumes_from(project, name, problems))
    spec.links.update(_links(service))
    spec.shm_size_bytes = size(service.get("shm_size"))
    spec.resources.CopyFrom(resources(service, name, problems))
    if not spec.resources.ByteSize():
        spec.ClearField("resources")
    _references(spec, project, name, problems)
    running.health(spec, service, name, problems)
    running.logging(spec, service, name, problems)
    running.hooks(spec, service, name, problems)
    return spec


def _links(service: dict[str, Any]) -> dict[str, str]:
    """Return alias to name; a link without an alias says a name that is known anyway."""
    links = [*(service.get("links") or ()), *(service.get("external_links") or ())]
    pairs_ = (link.partition(":") for link in links)
    return {alias: target for target, _, alias in pairs_ if alias and alias != target}


def _references(spec: pb.ContainerSpec, project: Project, name: str, problems: Problems) -> None:
    for field in ("secrets", "configs"):
        objects = project.model.get(field) or {}
        for index, entry in enumerate(project.services[name].get(field) or ()):
            source = entry["source"]
            for key in ("uid", "gid"):
                if not str(entry.get(key) or 0).isdigit():
                    place = ("services", name, field, index, key)
                    problems.error(place, f'"{entry[key]}" is no number', "names are not known outside the container")
            getattr(spec, field).add(
                name=(objects.get(source) or {}).get("name") or source,
                target=entry.get("target") or (f"/run/secrets/{source}" if field == "secrets" else f"/{source}"),
                uid=entry.get("uid") or "",
                gid=entry.get("gid") or "",
                mode=file_mode(entry.get("mode")),
            )
