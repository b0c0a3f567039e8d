"""What is implied is written out: the default network, names of resources, dependencies that follow from links.

Works in place on the canonical tree of the whole project.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pycompose.compose.loader.tree import Made, Map, Mark, mark_of
from pycompose.compose.loader.volumes import clean_path

_NAMESPACES = ("network_mode", "ipc", "pid", "uts", "cgroup")


def normalise(tree: Any, name: str, variables: Mapping[str, str]) -> None:
    """Complete the project `name`; `variables` give values to names listed without one."""
    _default_network(tree)
    for service in (tree.get("services") or {}).values():
        _service(service, variables)
    for section in ("networks", "volumes", "configs", "secrets"):
        table = tree.get(section)
        for key in table or ():
            resource = table[key] if table[key] is not None else Map(mark=table.marks.get(key))
            if resource.get("name") is None:
                resource["name"] = key if _is_true(resource.get("external")) else f"{name}_{key}"
            table[key] = resource


def _default_network(tree: Any) -> None:
    used = False
    for service in (tree.get("services") or {}).values():
        if "provider" in service or "network_mode" in service:
            continue
        if not service.get("networks"):
            service["networks"] = Map({"default": None})
        used = used or "default" in service["networks"]
    if used:
        networks = tree.get("networks")
        if networks is None:
            networks = tree["networks"] = Map()
        networks.setdefault("default", None)


def _service(service: Any, variables: Mapping[str, str]) -> None:
    if service.get("pull_policy") == "if_not_present":
        service["pull_policy"] = "missing"
    build = service.get("build")
    if isinstance(build, dict):
        if build.get("context") is None:
            build["context"] = "."
        if build.get("dockerfile") is None and build.get("dockerfile_inline") is None:
            build["dockerfile"] = "Dockerfile"
        if "args" in build:
            build["args"] = resolve_names(build["args"], variables, keep=False)
    if "environment" in service:
        service["environment"] = resolve_names(service["environment"], variables, keep=True)
    for volume in service.get("volumes") or ():
        if isinstance(volume.get("target"), str):
            volume["target"] = clean_path(volume["target"])
    implied = _implied_dependencies(service)
    if implied:
        depends_on = service.get("depends_on")
        if depends_on is None:
            depends_on = service["depends_on"] = Map()
        for other, restart in implied.items():
            if other not in depends_on:
                depends_on[other] = Map({"condition": "service_started", "restart": restart, "required": True})


def _implied_dependencies(service: Any) -> dict[str, bool]:
    """Return the services that must run first, and whether a restart of theirs restarts this one."""
    implied: dict[str, bool] = {}
    for link in service.get("links") or ():
        parts = link.split(":")
        implied.setdefault(parts[0] if len(parts) == 2 else link, True)
    for namespace in _NAMESPACES:
        reference = service.get(namespace)
        if isinstance(reference, str) and reference.startswith("service:"):
            implied.setdefault(reference.removeprefix("service:"), True)
    for source in service.get("volumes_from") or ():
        if not source.startswith("container:"):
            implied.setdefault(source.split(":")[0], False)
    return implied


def resolve_names(value: Any, variables: Mapping[str, str], keep: bool) -> Any:
    """Give entries without a value the variable's; `keep` says whether those of unset variables stay."""
    if isinstance(value, dict):
        for key in [key for key, item in value.items() if item is None]:
            if key in variables:
                value[key] = variables[key]
                _remember(mark_of(value, key), key, variables)
            elif not keep:
                del value[key]
    elif isinstance(value, list):
        for index in range(len(value) - 1, -1, -1):
            entry = value[index]
            if not isinstance(entry, str) or "=" in entry:
                continue
            if entry in variables:
                value[index] = f"{entry}={variables[entry]}"
                _remember(mark_of(value, index), entry, variables)
            elif not keep:
                del value[index]
    return value


def _remember(mark: Mark | None, name: str, variables: Mapping[str, str]) -> None:
    if mark:
        mark.source.made.setdefault((mark.line, mark.column), Made(name, (name,), variables))


def _is_true(value: Any) -> bool:
    return value is True or (isinstance(value, str) and value in ("1", "t", "T", "true", "TRUE", "True"))
