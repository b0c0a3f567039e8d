"""Laying one file over another: Compose's merge rules, and which list entries replace which.

Mappings merge key by key, lists append, scalars replace; null keeps what was there. The exceptions are the table
`RULES`. After a merge `deduplicate` drops the list entries that a later one replaces (`KEYS` says by what).
Values are in any of their forms here, short or long, so each rule first brings both sides to one form.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pycompose.compose.loader.errors import LoadError, Problem
from pycompose.compose.loader.tree import Map, Mark, Path, Reset, Seq, mark_of, marked, remember
from pycompose.compose.loader.units import go_text
from pycompose.compose.loader.volumes import volume_target

Rule = Callable[[Any, Any, Path], Any]
Table = dict[str, "Rule | Table"]
_MAX_POOLS = 100
"""Address ranges of one network that are merged: each is compared with each."""


def merge(base: Any, over: Any, path: Path = (), rules: Any = None) -> Any:
    """Merge `over` onto `base` and return the result; `base` is consumed.

    Raises:
        LoadError: a mapping meets a list or a scalar.
    """
    if callable(rules):
        return rules(base, over, path)
    if isinstance(rules, dict) and callable(special := rules.get("")):
        return special(base, over, path)
    if over is None:
        return base
    if isinstance(base, dict):
        if not isinstance(over, dict):
            raise _clash(base, over, path)
        return merge_mappings(base, over, path, rules)
    if isinstance(base, list):
        if not isinstance(over, list):
            raise _clash(base, over, path)
        return _append(base, over)
    return over


def merge_mappings(base: Any, over: Any, path: Path, rules: Any = None) -> Any:
    """Merge two mappings key by key."""
    table = rules if isinstance(rules, dict) else {}
    for key, value in over.items():
        if key in base:
            old = base[key]
            base[key] = merge(old, value, (*path, key), table.get(key) or table.get("*"))
            if base[key] is value and value is not None and old is not value:
                remember(mark_of(over, key), (*path, key), old, mark_of(base, key))
        else:
            base[key] = value
        told = value is not None or (isinstance(base, Map) and key not in base.marks)
        if told and isinstance(base, Map) and isinstance(over, Map) and key in over.marks:
            base.marks[key] = over.marks[key]
    return base


def _append(base: Any, over: Any) -> Seq:
    result = Seq(mark=getattr(base, "mark", None))
    for item, mark in (*marked(base), *marked(over)):
        result.add(item, mark)
    return result


def _clash(base: Any, over: Any, path: Path) -> LoadError:
    names = {dict: "a mapping", list: "a list"}
    have = next((name for kind, name in names.items() if isinstance(base, kind)), "a value")
    got = next((name for kind, name in names.items() if isinstance(over, kind)), "a value")
    mark = getattr(over, "mark", None)
    return LoadError(Problem.at(mark, path, f"cannot override {have} with {got}", "use the same form, or !override"))


def as_list(value: Any) -> Seq:
    """Bring a list-or-mapping or string-or-list attribute to a list of `K=V`."""
    if isinstance(value, dict):
        pairs: list[tuple[str, Mark | None]] = []
        for key, item in value.items():
            mark = mark_of(value, key)
            if item is None:
                pairs.append((key, mark))
            else:
                items = item if isinstance(item, list) else [item]
                pairs.extend((f"{key}={go_text(one)}", mark) for one in items)
        result = Seq(mark=getattr(value, "mark", None))
        for text, mark in sorted(pairs, key=lambda pair: pair[0].encode()):
            result.add(text, mark)
        return result
    if isinstance(value, Seq):
        return value
    if isinstance(value, list):
        return Seq(value)
    return Seq([] if value is None else [value])


def as_mapping(value: Any, default: dict[str, Any] | None = None) -> Map:
    """Bring a list of names to a mapping of them."""
    if isinstance(value, Map):
        return value
    if isinstance(value, dict):
        return Map(value)
    result = Map(mark=getattr(value, "mark", None))
    for name, mark in marked(value if isinstance(value, list) else ()):
        if isinstance(name, str):
            result[name] = Map(default, mark) if default is not None else None
            if mark:
                result.marks[name] = mark
    return result


def _lists(base: Any, over: Any, path: Path) -> Any:
    return _append(as_list(base), as_list(over))


def _hosts(base: Any, over: Any, path: Path) -> Any:
    result = _append(as_list(base), [])
    for item, mark in as_list(over).marked():
        if item not in result:
            result.add(item, mark)
    return result


def _replace(base: Any, over: Any, path: Path) -> Any:
    return over


def _build(base: Any, over: Any, path: Path) -> Any:
    def long(value: Any) -> Any:
        return Map({"context": value}) if isinstance(value, str) else value

    if not isinstance(long(base), dict) or not isinstance(long(over), dict):
        return over if over is not None else base
    return merge_mappings(long(base), long(over), path, BUILD_RULES)


def _names(default: dict[str, Any] | None = None) -> Rule:
    def rule(base: Any, over: Any, path: Path) -> Any:
        return merge_mappings(as_mapping(base, default), as_mapping(over, default), path)

    return rule


def _service_networks(base: Any, over: Any, path: Path) -> Any:
    return merge_mappings(as_mapping(base), as_mapping(over), path)


def _logging(base: Any, over: Any, path: Path) -> Any:
    if not isinstance(base, dict) or not isinstance(over, dict):
        return over if over is not None else base
    ours, theirs = base.get("driver"), over.get("driver")
    if ours == theirs or "driver" not in base or "driver" not in over:
        return merge_mappings(base, over, path)
    return over


def _ipam_config(base: Any, over: Any, path: Path) -> Any:
    if not isinstance(base, list) or not isinstance(over, list):
        raise _clash(base, over, path)
    if max(len(base), len(over)) > _MAX_POOLS:
        message = f"more than {_MAX_POOLS} address ranges in one network"
        raise LoadError(Problem.at(getattr(over, "mark", None), path, message, "use fewer, larger ones"))
    result: list[Any] = []

    def index(subnet: Any) -> int:
        return next((i for i, one in enumerate(result) if one.get("subnet") == subnet), -1)

    for original in base:
        right = as_mapping(original)
        for left in map(as_mapping, over):
            if left.get("subnet") != right.get("subnet") and index(left.get("subnet")) < 0:
                result.append(left)
                continue
            merged = merge_mappings(right, left, path)
            found = index(merged.get("subnet"))
            if found >= 0:
                result[found] = merged
            else:
                result.append(merged)
    return Seq(result)


BUILD_RULES: Table = {
    "args": _lists,
    "additional_contexts": _lists,
    "extra_hosts": _hosts,
    "labels": _lists,
}
SERVICE_RULES: Table = {
    **dict.fromkeys(("annotations", "dns", "dns_opt", "dns_search", "env_file", "label_file"), _lists),
    **dict.fromkeys(("environment", "labels", "sysctls", "tmpfs"), _lists),
    "build": _build,
    "command": _replace,
    "depends_on": _names({"condition": "service_started", "required": True}),
    "deploy": {"labels": _lists},
    "entrypoint": _replace,
    "extra_hosts": _hosts,
    "healthcheck": {"test": _replace},
    "logging": _logging,
    "models": _names(),
    "networks": _service_networks,
    "ulimits": {"*": _replace},
}
RULES: Table = {
    "networks": {"*": {"labels": _lists, "ipam": {"config": _ipam_config}}},
    "volumes": {"*": {"labels": _lists}},
    "services": {"*": SERVICE_RULES},
}

Key = Callable[[Any], "str | None"]


def _by_name(entry: Any) -> str | None:
    return entry.partition("=")[0] if isinstance(entry, str) else None


def _by_text(entry: Any) -> str | None:
    return go_text(entry)


def _by_target(default: str) -> Key:
    def key(entry: Any) -> str | None:
        if isinstance(entry, str):
            return f"{default}/{entry}"
        if isinstance(entry, dict):
            target = entry.get("target")
            return target if isinstance(target, str) else f"{default}/{entry.get('source')}"
        return None

    return key


def _by_device_target(entry: Any) -> str | None:
    if isinstance(entry, dict):
        target = entry.get("target")
        return target if isinstance(target, str) else None
    if isinstance(entry, str):
        parts = entry.split(":")
        return parts[0] if len(parts) == 1 else parts[1]
    return None


def _by_port(entry: Any) -> str | None:
    if isinstance(entry, dict):
        if "target" not in entry:
            return None
        host, protocol = entry.get("host_ip", "0.0.0.0"), entry.get("protocol", "tcp")
        return f"{host}:{entry.get('published')}:{entry['target']!r}/{protocol}"
    return go_text(entry) if isinstance(entry, str | int) else None


def _by_path(entry: Any) -> str | None:
    path = entry.get("path") if isinstance(entry, dict) else entry
    return path if isinstance(path, str) else None


KEYS: dict[str, Any] = {
    "networks": {"*": {"labels": _by_name}},
    "services": {
        "*": {
            **dict.fromkeys(("annotations", "cap_add", "cap_drop", "dns", "dns_opt", "dns_search"), _by_name),
            **dict.fromkeys(("environment", "labels", "links", "profiles", "sysctls", "tmpfs"), _by_name),
            "build": dict.fromkeys(("args", "additional_contexts", "tags", "labels"), _by_name),
            "configs": _by_target(""),
            "deploy": {"labels": _by_name},
            "devices": _by_device_target,
            "env_file": _by_path,
            "expose": _by_text,
            "networks": {"*": {"aliases": _by_name, "link_local_ips": _by_name}},
            "ports": _by_port,
            "secrets": _by_target("/run/secrets"),
            "volumes": volume_target,
        }
    },
}


def deduplicate(tree: Any, keys: Any = None, path: Path = ()) -> None:
    """Drop, in place, list entries that a later entry of the same key replaces; the later takes the earlier's place."""
    table = KEYS if keys is None else keys
    for key, value in tree.items():
        below = table.get(key) or table.get("*")
        if isinstance(below, dict):
            if isinstance(value, dict):
                deduplicate(value, below, (*path, key))
        elif below is not None and isinstance(value, list) and len(value) > 1:
            tree[key] = _unique(value, below, (*path, key))


def _unique(value: list[Any], key_of: Key, path: Path) -> Seq:
    result = Seq(mark=getattr(value, "mark", None))
    places: dict[str, int] = {}
    for entry, mark in marked(value):
        key = key_of(entry)
        if key is not None and key in places:
            remember(mark, path, result[places[key]], result.marks[places[key]])
            result[places[key]] = entry
            result.marks[places[key]] = mark
            continue
        if key is not None:
            places[key] = len(result)
        result.add(entry, mark)
    return result


def apply_resets(tree: Any, resets: tuple[Reset, ...]) -> None:
    """Remove from the base tree, in place, what a file over it marks `!reset` or `!override`."""
    for reset in resets:
        path, holder = reset.path, tree
        for step in path[:-1]:
            holder = holder.get(step) if isinstance(holder, dict) else None
        if path and isinstance(holder, dict) and path[-1] in holder:
            mark = mark_of(holder, path[-1])
            remember(reset.mark, path, holder.pop(path[-1]), mark)
