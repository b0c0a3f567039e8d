"""From short forms to long ones, in place, for one merged tree that has passed the check of kinds.

Each attribute with several forms has a small function here; the table at the end says where they apply. Errors are
collected, so that one run names every bad port and mount of the file.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pycompose.compose.loader.errors import Problem
from pycompose.compose.loader.ports import MAX_PORTS, count_ports, parse_ports
from pycompose.compose.loader.tree import Map, Mark, Path, Seq, mark_of, marked
from pycompose.compose.loader.units import go_text
from pycompose.compose.loader.volumes import parse_volume

Transform = Callable[[Any, Path, "Mark | None"], Any]


class FormError(ValueError):
    """A short form that cannot be read; `remedy` says what would be right.

    `always`: it is wrong also while it still holds variables.
    """

    def __init__(self, message: str, remedy: str = "", always: bool = False) -> None:
        super().__init__(message)
        self.remedy = remedy
        self.always = always


def canonical(tree: Any, interpolated: bool = True) -> list[Problem]:
    """Turn every short form of `tree` into its long form, in place; return what could not be read.

    `interpolated` False leaves ports, mounts and pairs alone that still hold variables.
    """
    problems = _too_many_ports(tree)
    if not problems:
        _walk(tree, TRANSFORMS, (), problems, interpolated)
    return problems


def _too_many_ports(tree: Any) -> list[Problem]:
    """Count the ports of all ranges before they are written out."""
    count = 0
    for name, service in (tree.get("services") or {}).items():
        for index, port in enumerate(service.get("ports") or () if isinstance(service, dict) else ()):
            count += count_ports(port) if isinstance(port, str) else 1
            if count > MAX_PORTS:
                path = ("services", name, "ports", index)
                message = f"more than {MAX_PORTS:,} ports once ranges are written out"
                return [Problem.at(mark_of(service["ports"], index), path, message, "publish fewer")]
    return []


def _walk(tree: Any, table: dict[str, Any], path: Path, problems: list[Problem], interpolated: bool) -> None:
    for key in list(tree) if isinstance(tree, dict) else range(len(tree)):
        below = (table.get(str(key)) or table.get("*")) if isinstance(tree, dict) else table.get("[]")
        if below is None:
            continue
        value = tree[key]
        if isinstance(below, dict):
            if transform := below.get(""):
                value = _apply(transform, value, tree, key, path, problems, interpolated)
            if isinstance(value, dict | list):
                _walk(value, below, (*path, key), problems, interpolated)
        else:
            _apply(below, value, tree, key, path, problems, interpolated)


def _apply(
    transform: Transform, value: Any, tree: Any, key: Any, path: Path, problems: list[Problem], interpolated: bool
) -> Any:
    mark = mark_of(tree, key)
    try:
        tree[key] = transform(value, (*path, key), mark)
    except ItemErrors as errors:
        if interpolated or errors.always:
            problems.extend(errors.problems)
    except ValueError as error:
        if interpolated or getattr(error, "always", False):
            problems.append(Problem.at(mark, (*path, key), str(error), getattr(error, "remedy", "")))
    return tree[key]


class ItemErrors(ValueError):
    """Problems of single items, each with its own place; `always` is a FormError's."""

    def __init__(self, problems: list[Problem], always: bool = False) -> None:
        super().__init__("")
        self.problems = problems
        self.always = always


def _build(value: Any, path: Path, mark: Mark | None) -> Any:
    return Map({"context": value}, mark) if isinstance(value, str) else value


def _text(value: Any, path: Path, mark: Mark | None) -> Any:
    return go_text(value)


def _extends(value: Any, path: Path, mark: Mark | None) -> Any:
    return Map({"service": value}, mark) if isinstance(value, str) else value


def _depends_on(value: Any, path: Path, mark: Mark | None) -> Any:
    if isinstance(value, dict):
        for entry in value.values():
            entry.setdefault("condition", "service_started")
            entry.setdefault("required", True)
        return value
    result = Map(mark=mark)
    for name, place in marked(value):
        result[name] = Map({"condition": "service_started", "required": True}, place)
        if place:
            result.marks[name] = place
    return result


def _names(value: Any, path: Path, mark: Mark | None) -> Any:
    if not isinstance(value, list):
        return value
    result = Map(mark=mark)
    for name, place in marked(value):
        result[name] = None
        if place:
            result.marks[name] = place
    return result


def _string_list(value: Any, path: Path, mark: Mark | None) -> Any:
    return Seq([value], mark, [mark]) if isinstance(value, str) else value


def _env_files(value: Any, path: Path, mark: Mark | None) -> Any:
    result = Seq(mark=mark)
    for entry, place in marked([value] if isinstance(value, str) else value):
        one = Map({"path": entry, "required": True}, place) if isinstance(entry, str) else entry
        one.setdefault("required", True)
        result.add(one, place)
    return result


def _gpus(value: Any, path: Path, mark: Mark | None) -> Any:
    if isinstance(value, str):
        if value != "all":
            raise FormError(f"{value!r} is not a request for GPUs", 'write "all", or a list of device requests')
        return Seq([Map({"count": "all"}, mark)], mark, [mark])
    return value


def _mounted_file(value: Any, path: Path, mark: Mark | None) -> Any:
    return Map({"source": value}, mark) if isinstance(value, str) else value


def _mount(value: Any, path: Path, mark: Mark | None) -> Any:
    if not isinstance(value, str):
        return value
    try:
        volume = parse_volume(value)
    except ValueError as error:
        raise FormError(str(error), "write SOURCE:TARGET or SOURCE:TARGET:ro") from None
    for name in ("bind", "volume"):
        if name in volume:
            volume[name] = Map(volume[name], mark)
    return Map(volume, mark)


def _device(value: Any, path: Path, mark: Mark | None) -> Any:
    if not isinstance(value, str):
        return value
    parts = value.split(":")
    if len(parts) > 3:
        raise FormError(f"confusing device mapping {value!r}", "use the long form: source, target, permissions")
    source = parts[0]
    target = parts[1] if len(parts) > 1 and parts[1] else source
    return Map({"source": source, "target": target, "permissions": parts[2] if len(parts) == 3 else "rwm"}, mark)


def _ports(value: Any, path: Path, mark: Mark | None) -> Any:
    result, problems, always = Seq(mark=mark), [], False
    for index, (entry, place) in enumerate(marked(value)):
        if isinstance(entry, dict):
            result.add(entry, place)
            continue
        try:
            for port in parse_ports(str(entry)):
                if not port["target"]:
                    always = True
                    raise ValueError("there is no port 0 in a container")
                result.add(Map(port, place), place)
        except ValueError as error:
            remedy = "write [[IP:]HOST:]CONTAINER[/PROTOCOL]"
            problems.append(Problem.at(place or mark, (*path, index), f"{entry!r} is not a port: {error}", remedy))
    if problems:
        raise ItemErrors(problems, always)
    return result


def _pairs(value: Any, path: Path, mark: Mark | None) -> Any:
    if not isinstance(value, list):
        return value
    result = Map(mark=mark)
    for entry, place in marked(value):
        name, found, item = entry.partition("=")
        if not found:
            raise FormError(f"invalid value {entry!r}", "write NAME=VALUE")
        result[name] = item
        if place:
            result.marks[name] = place
    return result


def _ssh(value: Any, path: Path, mark: Mark | None) -> Any:
    if not isinstance(value, list):
        return value
    result = Map(mark=mark)
    for entry in value:
        name, found, item = entry.partition("=")
        if not found and name != "default":
            raise FormError(f"invalid ssh key {entry!r}", 'write "default" or NAME=PATH')
        result[name] = item if found else None
    return result


def _ulimit(value: Any, path: Path, mark: Mark | None) -> Any:
    if isinstance(value, str):
        raise FormError(f"{value!r} is not a limit", "write a number, or {soft: N, hard: N}", always=True)
    return value


def _external(value: Any, path: Path, mark: Mark | None) -> Any:
    if not isinstance(value, dict) or not isinstance(value.get("external"), dict):
        return value
    name = value["external"].get("name")
    value["external"] = True
    if name is not None:
        if "name" in value and value["name"] != name:
            raise FormError("name and external.name differ", "keep name alone, with external: true", always=True)
        value["name"] = name
    return value


TRANSFORMS: dict[str, Any] = {
    "services": {
        "*": {
            "build": {
                "": _build,
                "additional_contexts": _pairs,
                "provenance": _text,
                "sbom": _text,
                "secrets": {"[]": _mounted_file},
                "ssh": _ssh,
            },
            "configs": {"[]": _mounted_file},
            "depends_on": _depends_on,
            "develop": {"watch": {"[]": {"ignore": _string_list, "include": _string_list}}},
            "devices": {"[]": _device},
            "dns": _string_list,
            "env_file": _env_files,
            "extends": _extends,
            "gpus": _gpus,
            "label_file": _string_list,
            "models": _names,
            "networks": _names,
            "ports": _ports,
            "secrets": {"[]": _mounted_file},
            "ulimits": {"*": _ulimit},
            "volumes": {"[]": _mount},
        }
    },
    "volumes": {"*": _external},
    "networks": {"*": _external},
    "secrets": {"*": _external},
    "configs": {"*": _external},
}


def set_defaults(tree: Any) -> None:
    """Fill in what a long form leaves out: secret targets, port protocol and mode, device counts, build context."""
    for service in (tree.get("services") or {}).values():
        if not isinstance(service, dict):
            continue
        if isinstance(build := service.get("build"), dict):
            build.setdefault("context", ".")
        for secret in service.get("secrets") or ():
            secret.setdefault("target", f"/run/secrets/{secret.get('source')}")
        for port in service.get("ports") or ():
            if isinstance(port, dict):
                port.setdefault("protocol", "tcp")
                port.setdefault("mode", "ingress")
        devices = ((service.get("deploy") or {}).get("resources") or {}).get("reservations") or {}
        for request in (*(devices.get("devices") or ()), *(service.get("gpus") or ())):
            if "count" not in request and "device_ids" not in request:
                request["count"] = "all"
