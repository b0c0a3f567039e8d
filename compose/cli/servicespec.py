"""Changing a service's spec as flags say. What a value means is decided by the converter of Compose files: each flag
is an attribute there."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Mapping
from typing import Any

from google.protobuf.message import Message

from pycompose.compose.cli.errors import UsageError
from pycompose.compose.cli.flagwords import mount_of, pairs_of, read_lines, ulimit
from pycompose.compose.cli.serviceflags import ARGS, MANY, SETTINGS, Many, Setting, host_of
from pycompose.compose.cli.template import template
from pycompose.proto.v1 import service_pb2


def change(spec: service_pb2.ServiceSpec, values: Mapping[str, Any]) -> None:
    """Change a spec as the flags say; those that were not given leave it alone.

    Args:
        spec: is changed.
        values: of the flags of either command, by parameter name.

    Raises:
        UsageError: a flag asks for what cannot be.
    """
    _refuse(values)
    given = [one for one in (*SETTINGS, ARGS) if values.get(one.name) is not None]
    added = {many.name: values.get(many.name) or values.get(f"{many.name}_add") or () for many in MANY}
    added["env"] = [line for path in values.get("env_file") or () for line in read_lines("--env-file", path)] + list(
        added["env"]
    )
    read = _converted(_entry(given, added, values))
    for course in ("update", "rollback"):
        if not spec.HasField(course) and any(one.field.startswith(f"{course}.") for one in given):
            getattr(spec, course).parallelism = 1
    for setting in given:
        _copy(read, spec, setting.field)
        if setting.name == "health_cmd":
            spec.task.container.healthcheck.ClearField("on_unhealthy")
    for many in MANY:
        _remove(spec, many, values.get(f"{many.name}_rm") or ())
        if added[many.name]:
            _add(spec, many, _items(read, many) if many.attribute else many.read(added[many.name]))
    _capabilities(spec, values)
    if values.get("log_opt"):
        spec.task.container.logging.options.update(pairs_of(values["log_opt"]))
        spec.task.container.logging.driver = spec.task.container.logging.driver or "json-file"
    if values.get("no_healthcheck"):
        spec.task.container.healthcheck.Clear()
        spec.task.container.healthcheck.test.append("NONE")
    if values.get("max_concurrent") is not None:
        if spec.WhichOneof("mode") != "replicated_job":
            raise UsageError("--max-concurrent is of jobs (--mode replicated-job)")
        spec.replicated_job.max_concurrent = values["max_concurrent"]


def _refuse(values: Mapping[str, Any]) -> None:
    if values.get("credential_spec"):
        raise UsageError("--credential-spec: that is of Windows; leave it out")
    if values.get("isolation") not in (None, "", "default"):
        raise UsageError(f"--isolation {values['isolation']}: that is of Windows; leave it out")
    checks = [one.names for one in SETTINGS if one.name.startswith("health_") and values.get(one.name) is not None]
    if values.get("no_healthcheck") and checks:
        raise UsageError(f"--no-healthcheck and {checks[0]} contradict one another; leave one out")


def _entry(given: Iterable[Setting], added: Mapping[str, Any], values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the service of a Compose file that says what the flags say."""
    entry: dict[str, Any] = {}
    for setting in given:
        *above, last = setting.attribute.split(".")
        place = entry
        for part in above:
            place = place.setdefault(part, {})
        value = values[setting.name]
        if setting.words:
            value = shlex.split(value)
        place[last] = str(value) if isinstance(value, float) and last == "cpus" else value
    if "test" in entry.get("healthcheck", {}):
        entry["healthcheck"]["test"] = ["CMD-SHELL", entry["healthcheck"]["test"]]
    entry["volumes"] = [mount_of(word) for word in added["mount"]]
    entry["ports"] = list(added["publish"])
    entry["ulimits"] = dict(ulimit(word) for word in added["ulimit"])
    return entry


def _converted(entry: Mapping[str, Any]) -> service_pb2.ServiceSpec:
    """Read a service as one of a Compose file.

    Raises:
        UsageError: it says what cannot be.
    """
    volumes = [one["source"] for one in entry["volumes"] if one["type"] == "volume" and "source" in one]
    return template(entry, _FLAGS, volumes=volumes)[0]


_FLAGS = {one.attribute: one.names.split()[0] for one in (*SETTINGS, ARGS)} | {
    many.attribute: many.long for many in MANY if many.attribute
}


def _place(spec: Message, path: str) -> tuple[Any, str]:
    *above, last = path.split(".")
    place: Any = spec
    for part in above:
        place = getattr(place, part)
    return place, last


def _copy(source: Message, target: Message, path: str) -> None:
    """Make a field of `target` what it is in `source`, also when it is not there."""
    (before, last), (after, _) = _place(source, path), _place(target, path)
    after.ClearField(last)
    value = getattr(before, last)
    field = before.DESCRIPTOR.fields_by_name[last]
    if field.is_repeated:
        getattr(after, last).extend(value)
    elif field.message_type is None:
        setattr(after, last, value)
    elif before.HasField(last):
        getattr(after, last).CopyFrom(value)


def _items(spec: Message, many: Many) -> list[Any]:
    place, last = _place(spec, many.field)
    return list(getattr(place, last))


def _remove(spec: Message, many: Many, names: Iterable[str]) -> None:
    for name in names:
        place, last = _place(spec, many.field)
        wanted = _name(many, name)
        kept = [one for one in getattr(place, last) if many.key(one) != wanted]
        if len(kept) == len(getattr(place, last)):
            raise UsageError(f"{many.long}-rm {name}: the service has none of that name")
        _replace(place, last, kept)


def _name(many: Many, word: str) -> str:
    """Return what --NAME-rm means: a port may be written as it was published."""
    if many.name == "publish":
        return word.partition("/")[0].rpartition(":")[2]
    if many.name == "host":
        return host_of(word)
    return word.removeprefix("spread=") if many.name == "placement_pref" else word


def _replace(place: Any, last: str, kept: list[Any]) -> None:
    before = getattr(place, last)
    if hasattr(before, "items"):
        for key in [key for key in before if key not in kept]:
            del before[key]
        return
    copies = list(kept)
    if copies and isinstance(copies[0], Message):
        copies = [type(one).FromString(one.SerializeToString()) for one in copies]
    del before[:]
    before.extend(copies)


def _add(spec: Message, many: Many, items: Any) -> None:
    place, last = _place(spec, many.field)
    if isinstance(items, Mapping):
        for key, value in items.items():
            getattr(place, last)[key] = value
        return
    kind, same = place.DESCRIPTOR.fields_by_name[last].message_type, many.same or many.key
    for item in items:
        made = kind._concrete_class(**item) if isinstance(item, dict) else item
        _replace(place, last, [*(one for one in getattr(place, last) if same(one) != same(made)), made])


def _capabilities(spec: service_pb2.ServiceSpec, values: Mapping[str, Any]) -> None:
    container = spec.task.container
    for mine, other, names in (
        (container.cap_add, container.cap_drop, values.get("cap_add") or ()),
        (container.cap_drop, container.cap_add, values.get("cap_drop") or ()),
    ):
        for name in names:
            if name in other:
                other.remove(name)
            elif name not in mine:
                mine.append(name)
