"""What differs between two specs, in the words of the Compose file: pure functions.

A difference is told by its key ("environment.LEVEL", "volumes./data", "deploy.replicas"), never by the API's field:
people know their file. Values are told where they are short and no secrets: of environment variables only the names.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message

from pycompose.compose.labels import FILES_FINGERPRINT

LONGEST = 60
MEBIBYTE = 1 << 20
_KEYS = {
    "endpoint.mode": "deploy.endpoint_mode",
    "labels": "deploy.labels",
    "global": "deploy.mode",
    "replicated": "deploy.mode",
    "replicated_job": "deploy.mode",
    "replicated.replicas": "deploy.replicas",
    "replicated_job.completions": "deploy.replicas",
    "placement": "deploy.placement",
    "update": "deploy.update_config",
    "rollback": "deploy.rollback_config",
    "container.groups": "group_add",
    "container.dns_options": "dns_opt",
    "container.pid_mode": "pid",
    "container.ipc_mode": "ipc",
    "container.uts_mode": "uts",
    "container.cgroup_mode": "cgroup",
    "container.open_stdin": "stdin_open",
    "container.shm_size_bytes": "shm_size",
    "container.storage_options": "storage_opt",
    "container.resources.limits.nano_cpus": "deploy.resources.limits.cpus",
    "container.resources.limits.memory_bytes": "deploy.resources.limits.memory",
    "container.resources.limits.pids": "deploy.resources.limits.pids",
    "container.resources.reservations.nano_cpus": "deploy.resources.reservations.cpus",
    "container.resources.reservations.memory_bytes": "deploy.resources.reservations.memory",
    "container.resources": "deploy.resources",
    "container.image_digest": "image",
}
"""Keys of the Compose file by field, where they are not called alike."""
_NAMES = {
    "container.mounts": ("volumes", "target"),
    "container.secrets": ("secrets", "name"),
    "container.configs": ("configs", "name"),
    "container.ulimits": ("ulimits", "name"),
    "container.devices": ("devices", "target"),
    "networks": ("networks", "network"),
    "dependencies": ("depends_on", "service"),
    "endpoint.ports": ("ports", "target_port"),
}
"""Lists of messages: the key of the Compose file, and the field that tells entries apart."""
_WHOLE = ("update", "rollback", "restart", "placement", "logging", "replicated_job")
_HIDDEN = ("container.labels", "container.annotations")
_OURS = ("com.docker.compose.", "pycompose.")


@dataclass(frozen=True)
class Difference:
    """One key that differs.

    Attributes:
        key: path below the service in the Compose file.
        before, after: short values; "" where there is none, or it is not told.
    """

    key: str
    before: str = ""
    after: str = ""

    def __str__(self) -> str:
        if self.before or self.after:
            return f"{self.key}: {self.before or '(none)'} → {self.after or '(none)'}"
        return self.key


def differences(before: Message, after: Message) -> tuple[Difference, ...]:
    """Return what differs between two specs of one kind, each key once."""
    found: dict[str, Difference] = {}
    for one in _walk(before, after, ""):
        found.setdefault(one.key, one)
    return tuple(found.values())


def keys(found: Sequence[Difference], limit: int = 3) -> str:
    """Return "command, environment.LEVEL and 2 more"."""
    more = f" and {len(found) - limit} more" if len(found) > limit else ""
    return ", ".join(one.key for one in found[:limit]) + more


def _walk(before: Any, after: Any, path: str) -> Iterator[Difference]:
    for field in before.DESCRIPTOR.fields:
        old, new = getattr(before, field.name), getattr(after, field.name)
        if old == new and not (field.has_presence and before.HasField(field.name) != after.HasField(field.name)):
            continue
        here = f"{path}.{field.name}" if path else field.name
        yield from _field(field, old, new, here)


def _field(field: Any, old: Any, new: Any, path: str) -> Iterator[Difference]:
    short = _short(path)
    kind = field.message_type
    if short == "container.env":
        yield from _variables(old, new)
    elif short in _NAMES:
        key, name = _NAMES[short]
        yield from _entries(key, {getattr(one, name): one for one in old}, {getattr(one, name): one for one in new})
    elif kind is not None and kind.GetOptions().map_entry:
        yield from _map(short, old, new)
    elif kind is None or field.is_repeated:
        yield _difference(short, _text(field, old), _text(field, new))
    elif kind.full_name == "google.protobuf.Duration":
        yield _difference(short, _duration(old), _duration(new))
    elif kind.full_name == "pycompose.v1.Command":
        yield _difference(short, shlex.join(old.args), shlex.join(new.args))
    elif field.name in _WHOLE or (field.name == "healthcheck" and not (old.ByteSize() and new.ByteSize())):
        yield _difference(short, "", "")
    else:
        yield from _walk(old, new, path)


def _short(path: str) -> str:
    """Return a path below the service's template, whichever of the two was walked."""
    return path.removeprefix("task.")


def _difference(short: str, before: str, after: str) -> Difference:
    told = max(len(before), len(after)) <= LONGEST and before != after and not short.endswith("_digest")
    return Difference(_key(short), before if told else "", after if told else "")


def _key(short: str) -> str:
    while short not in _KEYS and "." in short and short.startswith("container.resources"):
        short = short.rpartition(".")[0]
    return _KEYS.get(short) or short.removeprefix("container.")


def _variables(old: Sequence[str], new: Sequence[str]) -> Iterator[Difference]:
    was, now = (dict(one.partition("=")[::2] for one in words) for words in (old, new))
    for name in sorted(was.keys() | now.keys()):
        if was.get(name) != now.get(name):
            yield Difference(f"environment.{name}")
    if was == now:
        yield Difference("environment")


def _entries(key: str, old: Mapping[Any, Any], new: Mapping[Any, Any]) -> Iterator[Difference]:
    same = True
    for name in [*old, *(one for one in new if one not in old)]:
        if old.get(name) != new.get(name):
            same = False
            yield Difference(f"{key}.{name}")
    if same:
        yield Difference(key)


def _map(short: str, old: Mapping[str, str], new: Mapping[str, str]) -> Iterator[Difference]:
    for name in sorted({*old, *new}):
        if old.get(name) == new.get(name):
            continue
        if short in _HIDDEN and name == FILES_FINGERPRINT:
            yield Difference("content of its secrets or configs")
        elif not (short in _HIDDEN and name.startswith(_OURS)):
            yield _difference(f"{_key(short)}.{name}", old.get(name, ""), new.get(name, ""))


def _text(field: Any, value: Any) -> str:
    if field.is_repeated:
        return "" if field.message_type is not None else ", ".join(map(str, value))
    if field.enum_type is not None:
        name = field.enum_type.values_by_number[value].name
        prefix = field.enum_type.values_by_number[0].name.removesuffix("UNSPECIFIED")
        return "" if value == 0 else name.removeprefix(prefix).lower().replace("_", "-")
    if isinstance(value, bool):
        return str(value).lower()
    if field.name.endswith("_bytes") and value and value % MEBIBYTE == 0:
        return f"{value // MEBIBYTE}m"
    if field.name == "nano_cpus":
        return f"{value / 1e9:g}" if value else ""
    return "" if value in ("", 0) and field.name != "replicas" else str(value)


def _duration(value: Duration) -> str:
    seconds = value.ToNanoseconds() / 1e9
    return f"{seconds:g}s" if seconds else ""
