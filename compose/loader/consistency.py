"""Rules that span attributes: references that must exist, values that must agree, circles that must not be.

`check_forms` runs on each file set's canonical tree, `check_project` on the finished model; both return every problem.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import Any

from pycompose.compose.loader.errors import MAX_PROBLEMS, LoadError, Problem, nearest
from pycompose.compose.loader.ports import is_address
from pycompose.compose.loader.project import Project
from pycompose.compose.loader.tree import Path, locate

Finding = tuple[Path, str, str]


def check_forms(tree: Any) -> list[Problem]:
    """Check single attributes of a canonical tree."""
    return _problems(_form_findings(tree), tree)


def _problems(findings: Iterator[Finding], tree: Any) -> list[Problem]:
    return [
        Problem.at(locate(tree, path), path, message, remedy)
        for path, message, remedy in islice(findings, MAX_PROBLEMS)
    ]


def _form_findings(tree: Any) -> Iterator[Finding]:
    for name, volume in (tree.get("volumes") or {}).items():
        if isinstance(volume, dict) and volume.get("external") is True:
            for key in volume:
                if key not in ("name", "external") and not key.startswith("x-"):
                    yield ("volumes", name, key), "an external volume has only a name", f"remove {key} or external"
    for section, sources in (("configs", ("file", "environment", "content")), ("secrets", ("file", "environment"))):
        for name, entry in (tree.get(section) or {}).items():
            if not isinstance(entry, dict):
                continue
            given = [key for key in sources if key in entry]
            if len(given) > 1:
                yield (section, name), f"{' and '.join(given)} are mutually exclusive", "keep one of them"
            if not given and "driver" not in entry and "external" not in entry:
                yield (section, name), f"one of {', '.join(sources)} must be set", "or external: true"
    for name, service in (tree.get("services") or {}).items():
        if isinstance(service, dict):
            yield from _service_forms(service, ("services", name))


def _service_forms(service: Any, path: Path) -> Iterator[Finding]:
    for index, port in enumerate(service.get("ports") or ()):
        if not isinstance(port, dict):
            continue
        if "target" not in port:
            yield (*path, "ports", index), "a port needs a target", "add target: PORT, the port in the container"
        address = port.get("host_ip")
        if isinstance(address, str) and not is_address(address):
            yield (*path, "ports", index, "host_ip"), f"invalid ip address: {address}", ""
    for index, volume in enumerate(service.get("volumes") or ()):
        if isinstance(volume, dict) and not isinstance(volume.get("target"), str):
            yield (*path, "volumes", index), "a mount needs a target", "add target: PATH"
    for index, device in enumerate(service.get("devices") or ()):
        if isinstance(device, dict) and not isinstance(device.get("target"), str):
            yield (*path, "devices", index), "a device needs a target", "add target: PATH"
    for index, watch in enumerate((service.get("develop") or {}).get("watch") or ()):
        if watch.get("path") == "":
            yield (*path, "develop", "watch", index, "path"), "value can't be blank", ""
    devices = ((service.get("deploy") or {}).get("resources") or {}).get("reservations") or {}
    reserved = ("deploy", "resources", "reservations", "devices")
    for where, requests in ((("gpus",), service.get("gpus")), (reserved, devices.get("devices"))):
        for index, request in enumerate(requests or ()):
            if isinstance(request, dict) and "count" in request and "device_ids" in request:
                yield (*path, *where, index), '"count" and "device_ids" are exclusive', "keep one of them"


def check_project(model: Any, disabled: Any, tree: Any) -> list[Problem]:
    """Check the finished model of the enabled services; `tree` knows the places."""
    return _problems(_findings(model, disabled), tree)


def _findings(model: Any, disabled: Any) -> Iterator[Finding]:
    for name, service in model["services"].items():
        yield from _service(name, service, model, disabled)
    for name, secret in (model.get("secrets") or {}).items():
        if not secret.get("external") and not secret.get("file") and not secret.get("environment"):
            yield ("secrets", name), "a secret must declare either `file` or `environment`", ""
    yield from _cycles(model["services"])


def check_names(project: Project) -> None:
    """Check that no two services have the same container name.

    Raises:
        LoadError: naming both places.
    """
    problems = []
    holders: dict[str, str] = {}
    for name, service in project.services.items():
        fixed = service.get("container_name")
        if not fixed:
            continue
        if fixed in holders:
            path: Path = ("services", name, "container_name")
            first = project.position(("services", holders[fixed], "container_name"))
            where = f" ({first.file}:{first.line})" if first else ""
            message = f'the container name "{fixed}" is already that of service "{holders[fixed]}"{where}'
            problems.append(Problem.at(locate(project.tree, path), path, message, "give each its own name"))
        holders.setdefault(fixed, name)
    if problems:
        raise LoadError(problems)


def _service(name: str, service: Any, model: Any, disabled: Any) -> Iterator[Finding]:
    path: Path = ("services", name)
    if not service.get("image") and not service.keys() & {"build", "provider"}:
        yield path, "has neither an image nor a build context", "add image: NAME or build: PATH"
    yield from _build(service, path, model)
    yield from _references(service, path, model)
    yield from _dependencies(service, path, model, disabled)
    yield from _agreement(service, path)
    yield from _mounts(service, path)
    test = (service.get("healthcheck") or {}).get("test")
    if test and test[0] not in ("CMD", "CMD-SHELL", "NONE"):
        message = f'the test must start with "CMD", "CMD-SHELL" or "NONE", not {test[0]!r}'
        yield (*path, "healthcheck", "test"), message, "or be written as one string"
    for index, watch in enumerate((service.get("develop") or {}).get("watch") or ()):
        if not watch.get("target") and watch.get("action") not in ("rebuild", "restart"):
            yield (*path, "develop", "watch", index), "target is required for sync actions", "add target: PATH"


def _build(service: Any, path: Path, model: Any) -> Iterator[Finding]:
    build = service.get("build")
    if not build:
        return
    if build.get("dockerfile") and build.get("dockerfile_inline"):
        yield (*path, "build", "dockerfile_inline"), "dockerfile and dockerfile_inline are mutually exclusive", ""
    for key, context in (build.get("additional_contexts") or {}).items():
        target = context.removeprefix("service:") if context.startswith("service:") else None
        if target is None:
            continue
        where = (*path, "build", "additional_contexts", key)
        if target not in model["services"]:
            yield where, f'refers to undefined service "{target}"', nearest(target, model["services"])
        elif not model["services"][target].get("build"):
            yield where, f'refers to service "{target}", which is not built', ""
    platform = service.get("platform")
    if platform and build.get("platforms") and platform not in build["platforms"]:
        yield (*path, "build", "platforms"), f"must include the service's platform {platform}", ""
    for index, secret in enumerate(build.get("secrets") or ()):
        source = secret.get("source", "")
        if source not in (model.get("secrets") or {}):
            yield _undefined((*path, "build", "secrets", index), "secret", source, model)


def _undefined(path: Path, what: str, name: str, model: Any) -> Finding:
    known = model.get(f"{what}s") or {}
    remedy = nearest(name, known) or f'define "{name}" under the top-level {what}s'
    return path, f'refers to undefined {what} "{name}"', remedy


def _references(service: Any, path: Path, model: Any) -> Iterator[Finding]:
    networks = service.get("networks") or {}
    if service.get("network_mode") and networks:
        yield (*path, "network_mode"), "network_mode and networks are mutually exclusive", "remove one of them"
    for network in networks:
        if network not in (model.get("networks") or {}):
            yield _undefined((*path, "networks", network), "network", network, model)
    for index, volume in enumerate(service.get("volumes") or ()):
        source = volume.get("source")
        if volume.get("type") == "volume" and source and source not in (model.get("volumes") or {}):
            finding = _undefined((*path, "volumes", index), "volume", source, model)
            hint = f"; for a folder write ./{source}" if "/" in source or "." in source else ""
            yield finding[0], finding[1], finding[2] + hint
    for what in ("config", "secret"):
        for index, entry in enumerate(service.get(f"{what}s") or ()):
            if entry.get("source", "") not in (model.get(f"{what}s") or {}):
                yield _undefined((*path, f"{what}s", index), what, entry.get("source", ""), model)
    for name in service.get("models") or {}:
        if name not in (model.get("models") or {}):
            yield _undefined((*path, "models", name), "model", name, model)


def _dependencies(service: Any, path: Path, model: Any, disabled: Any) -> Iterator[Finding]:
    for other, dependency in (service.get("depends_on") or {}).items():
        if other in model["services"]:
            continue
        where = (*path, "depends_on", other)
        if other in disabled:
            if dependency.get("required"):
                profiles = ", ".join(disabled[other].get("profiles") or ())
                yield where, f'depends on "{other}", which is disabled', f"enable one of its profiles: {profiles}"
        else:
            remedy = nearest(other, model["services"]) or "define it, or remove the dependency"
            yield where, f'depends on undefined service "{other}"', remedy
    mode = service.get("network_mode", "")
    if mode.startswith("service:") and mode.removeprefix("service:") not in model["services"]:
        other = mode.removeprefix("service:")
        yield (*path, "network_mode"), f'refers to undefined service "{other}"', nearest(other, model["services"])


def _agreement(service: Any, path: Path) -> Iterator[Finding]:
    """Values said twice must be equal; counts must not be negative."""
    deploy = service.get("deploy") or {}
    scale, replicas = service.get("scale"), deploy.get("replicas")
    if scale is not None and replicas is not None and scale != replicas:
        yield (*path, "scale"), "differs from deploy.replicas", "keep one of them"
    for where, count in (("scale",), scale), (("deploy", "replicas"), replicas):
        if count is not None and count < 0:
            yield (*path, *where), "must be greater than or equal to 0", ""
    limits = (deploy.get("resources") or {}).get("limits")
    reservations = (deploy.get("resources") or {}).get("reservations")
    for key, table, other in (
        ("cpus", limits, "limits.cpus"),
        ("mem_limit", limits, "limits.memory"),
        ("mem_reservation", reservations, "reservations.memory"),
        ("pids_limit", limits, "limits.pids"),
    ):
        if service.get(key) and table is not None and table.get(other.partition(".")[2]) != service[key]:
            yield (*path, key), f"differs from deploy.resources.{other}", "keep one of them, or make them equal"
    wanted = scale if scale is not None else replicas if replicas is not None else 1
    if wanted > 1 and service.get("container_name"):
        message = f"a fixed container name allows one container, but {wanted} are asked for"
        yield (*path, "container_name"), message, "remove container_name"


def _mounts(service: Any, path: Path) -> Iterator[Finding]:
    seen: dict[str, str] = {}
    targets = [("tmpfs", i, one.partition(":")[0]) for i, one in enumerate(service.get("tmpfs") or ())]
    targets += [("volumes", i, one.get("target", "")) for i, one in enumerate(service.get("volumes") or ())]
    for key, index, target in targets:
        if target in seen:
            yield (*path, key, index), f"target {target} already mounted as {seen[target]}", "mount it once"
        seen.setdefault(target, f"{key}[{index}]")


def _cycles(services: Any) -> Iterator[Finding]:
    """Find the circles of depends_on, each once, by depth-first search without recursion."""
    done: set[str] = set()
    for start in sorted(services):
        if start in done:
            continue
        trail: list[str] = [start]
        pending = [iter(sorted(services[start].get("depends_on") or {}))]
        while pending:
            other = next(pending[-1], None)
            if other is None:
                pending.pop()
                done.add(trail.pop())
            elif other in trail:
                circle = [*trail[trail.index(other) :], other]
                message = f"dependency cycle detected: {' -> '.join(circle)}"
                yield ("services", circle[-2], "depends_on", other), message, "remove one of these dependencies"
            elif other in services and other not in done:
                trail.append(other)
                pending.append(iter(sorted(services[other].get("depends_on") or {})))
