"""A container's cgroup as a transient scope of systemd's (``--systemd-cgroup``), under runc's names and properties.

The scope is delegated: systemd makes its cgroup and keeps away from what is below; limits are given to systemd as
properties, so that a reload does not undo them, and then written as without systemd, which is exact. Sources: runc's
docs/systemd.md, systemd.resource-control(5), org.freedesktop.systemd1(5), "Control Group APIs and Delegation".
"""

from __future__ import annotations

import contextlib
import os
import re
import time
from dataclasses import dataclass

from pycompose.worker.runtime import cgroup_v2, cgroups, dbus
from pycompose.worker.runtime.errors import ConfigError, StepError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

#: Name and variant (signature, value).
Property = tuple[str, tuple[str, "Any"]]
BOOTED = "/run/systemd/system"
SLICE, PREFIX = "system.slice", "pycompose"
ANNOTATION = "org.systemd.property."
_UNLIMITED = (1 << 64) - 1
_PART = re.compile(r"[A-Za-z0-9:_.\\-]+")
_UNIFIED = {
    "memory.max": "MemoryMax",
    "memory.high": "MemoryHigh",
    "memory.low": "MemoryLow",
    "memory.min": "MemoryMin",
    "memory.swap.max": "MemorySwapMax",
    "pids.max": "TasksMax",
    "cpu.weight": "CPUWeight",
}


def check() -> None:
    """Refuse where systemd cannot be asked.

    Raises:
        ConfigError: it does not run here, or the caller may not ask it.
    """
    if not os.path.isdir(BOOTED):
        raise ConfigError(
            "--systemd-cgroup: systemd is not this machine's init system; leave the flag out and give "
            "linux.cgroupsPath as a path"
        )
    if os.geteuid():
        raise ConfigError("--systemd-cgroup: takes root; leave it out, a cgroup of yours can be linux.cgroupsPath")


@dataclass(frozen=True)
class Scope:
    """Where a container goes: `unit` in `slice`."""

    slice: str
    unit: str

    @property
    def cgroup(self) -> str:
        """The path below each hierarchy."""
        return f"{expanded(self.slice)}/{self.unit}"


def named(path: str, container_id: str) -> Scope:
    """What linux.cgroupsPath means for systemd: "slice:prefix:name", parts of which may be empty.

    Raises:
        ConfigError: it has another form, or names no slice or scope.
    """
    parts = path.split(":") if path else [SLICE, PREFIX, container_id]
    if len(parts) != 3:
        raise ConfigError(f'linux.cgroupsPath: {path!r} is not "slice:prefix:name", which --systemd-cgroup takes')
    slice_, prefix, name = parts
    if not name or not _PART.fullmatch(name) or (prefix and not _PART.fullmatch(prefix)):
        raise ConfigError(f"linux.cgroupsPath: {path!r}: prefix and name make a unit's name; see systemd.unit(5)")
    if name.endswith(".slice"):
        raise ConfigError(f"linux.cgroupsPath: {name!r} is a slice; a container lives in a scope, give it another name")
    expanded(slice_ or SLICE)
    return Scope(slice_ or SLICE, f"{prefix}-{name}.scope" if prefix else f"{name}.scope")


def expanded(name: str) -> str:
    """A slice's cgroup: "a-b.slice" lies in "a.slice" (systemd.slice(5)).

    Raises:
        ConfigError: this is no slice's name.
    """
    stem = name.removesuffix(".slice")
    if stem == "-":
        return ""
    parts = stem.split("-")
    if stem == name or "/" in name or not all(parts):
        raise ConfigError(f"linux.cgroupsPath: {name!r} is no slice; write it like machine.slice")
    return "".join(f"/{'-'.join(parts[:count])}.slice" for count in range(1, len(parts) + 1))


def properties(resources: dict[str, Any], *, unified: bool) -> list[Property]:
    """OCI linux.resources as systemd's properties; what it has none for is left out."""
    found: list[Property] = []

    def number(name: str, value: Any, kind: str = "t") -> None:
        if value is not None:
            found.append((name, (kind, _UNLIMITED if int(value) < 0 else int(value))))

    memory, cpu = resources.get("memory") or {}, resources.get("cpu") or {}
    number("MemoryMax" if unified else "MemoryLimit", memory.get("limit") or None)
    if unified:
        number("MemoryLow", memory.get("reservation"))
        for name, value in cgroup_v2.settings({"memory": memory}):
            if name == "memory.swap.max":
                number("MemorySwapMax", -1 if value == "max" else value)
    if cpu.get("shares"):
        weight = cgroup_v2.weight_of_shares(cpu["shares"]) if unified else cpu["shares"]
        number("CPUWeight" if unified else "CPUShares", weight)
    found += _quota(cpu)
    if unified:
        found += [
            (name, ("ay", bits(cpu[key])))
            for key, name in (("cpus", "AllowedCPUs"), ("mems", "AllowedMemoryNodes"))
            if cpu.get(key)
        ]
    limit = (resources.get("pids") or {}).get("limit")
    number("TasksMax", limit if limit is None or limit > 0 else -1)
    weight = (resources.get("blockIO") or {}).get("weight")
    if weight:
        number("IOWeight" if unified else "BlockIOWeight", 1 + (weight - 10) * 9_999 // 990 if unified else weight)
    for key, value in (resources.get("unified") or {}).items():
        if unified and key in _UNIFIED:
            number(_UNIFIED[key], -1 if value == "max" else value)
    return found


def _quota(cpu: dict[str, Any]) -> list[Property]:
    """As time a second; systemd counts hundredths, so it is rounded up to 10 ms and cannot be less than was asked."""
    quota, period = cpu.get("quota"), cpu.get("period") or 100_000
    if quota is None:
        return []
    each = -(-quota * 1_000_000 // period) if quota > 0 else _UNLIMITED
    found: list[Property] = [("CPUQuotaPerSecUSec", ("t", each if quota <= 0 else -(-each // 10_000) * 10_000))]
    return [*found, ("CPUQuotaPeriodUSec", ("t", period))] if cpu.get("period") else found


def bits(text: str) -> bytes:
    """A list such as "0-2,5" as a mask, lowest bit first.

    Raises:
        ConfigError: it is none.
    """
    mask = 0
    try:
        for part in text.split(","):
            first, _, last = part.partition("-")
            for number in range(int(first), int(last or first) + 1):
                mask |= 1 << number
    except ValueError:
        raise ConfigError(f"linux.resources.cpu: {text!r} is no list of numbers; write it like 0-2,5") from None
    return mask.to_bytes((mask.bit_length() + 7) // 8, "little")


def devices(rules: list[dict[str, Any]]) -> list[Property]:
    """Device rules for version 1, where systemd writes its own anew at each reload.

    It knows only what is allowed: the rules after the last that refuses everything count.
    """
    allowed: list[tuple[str, str]] = []
    for rule in rules:
        kind = rule.get("type") or "a"
        if kind == "a":
            if rule["allow"]:
                return [("DevicePolicy", ("s", "auto")), ("DeviceAllow", ("a(ss)", []))]
            allowed.clear()
        elif rule["allow"]:
            word = {"c": "char", "b": "block"}[kind]
            major, minor = (number if number not in (None, -1) else None for number in map(rule.get, _NUMBERS))
            names = [f"/dev/{word}/{major}:{minor}"] if minor is not None else _drivers(word, major)
            allowed += [(name, rule.get("access") or "rwm") for name in names]
    return [("DevicePolicy", ("s", "strict")), ("DeviceAllow", ("a(ss)", allowed))]


_NUMBERS = ("major", "minor")


def _drivers(word: str, major: int | None) -> list[str]:
    """All devices of a driver by its name (proc_devices(5)); those of a number without a driver are none."""
    if major is None:
        return [f"{word}-*"]
    with open("/proc/devices") as file:
        section = file.read().split("Block devices:")[word == "block"]
    rows = [line.split() for line in section.splitlines()]
    return [f"{word}-{row[1]}" for row in rows if len(row) == 2 and row[0] == str(major)]


def from_annotations(annotations: dict[str, str]) -> list[Property]:
    """Properties that the bundle asks for by org.systemd.property.NAME: a GVariant's text (gvariant-text).

    Raises:
        ConfigError: a value is of a kind that no unit has.
    """
    found = []
    for key, text in annotations.items():
        if key.startswith(ANNOTATION):
            name = key.removeprefix(ANNOTATION)
            variant = _variant(text.strip())
            if variant is None or not name.isalnum():
                raise ConfigError(f"annotations.{key}: {text!r} is no value; write 'text', true, 5 or uint64 5")
            if name.endswith("Sec") and not name.endswith("USec"):
                name, variant = name.removesuffix("Sec") + "USec", ("t", int(float(variant[1]) * 1_000_000))
            found.append((name, variant))
    return found


def _variant(text: str) -> tuple[str, Any] | None:
    if text in ("true", "false"):
        return "b", text == "true"
    match = re.fullmatch(r"(?:(uint64|int64|uint32|int32) +)?(-?\d+)", text)
    if match:
        return {"uint64": "t", "int64": "x", "uint32": "u"}.get(match[1] or "", "i"), int(match[2])
    words = re.fullmatch(r"\[\s*(.*?)\s*\]", text)
    parts = re.split(r"\s*,\s*", words[1]) if words else [text]
    strings = [match[2] for part in parts if (match := re.fullmatch(r"""(['"])(.*)\1""", part))]
    if len(strings) != len(parts):
        return None
    return ("as", strings) if words else ("s", strings[0])


def start(scope: Scope, config: dict[str, Any], pid: int) -> None:
    """Make the scope with one process in it, and set the limits.

    Raises:
        StepError: systemd refused, or the kernel did.
    """
    unified = not cgroups.mounted()[0]
    resources = (config.get("linux") or {}).get("resources") or {}
    accounting = ["CPUAccounting", "MemoryAccounting", "TasksAccounting", "IOAccounting"]
    if not unified:
        accounting[-1] = "BlockIOAccounting"
    wanted: list[Property] = [
        ("Description", ("s", f"pycompose-runtime container {scope.unit.removesuffix('.scope')}")),
        ("Slice", ("s", scope.slice)),
        ("PIDs", ("au", [pid])),
        ("Delegate", ("b", True)),
        ("DefaultDependencies", ("b", False)),
        *((name, ("b", True)) for name in accounting),
        *properties(resources, unified=unified),
        *([] if unified else devices(resources.get("devices") or [])),
        *from_annotations(config.get("annotations") or {}),
    ]
    with dbus.Systemd() as systemd:
        with contextlib.suppress(dbus.DbusError):
            systemd.ask("ResetFailedUnit", "s", scope.unit)
        (job,) = systemd.ask("StartTransientUnit", "ssa(sv)a(sa(sv))", scope.unit, "replace", wanted, [])
        result = systemd.wait(job)
        if result != "done":
            raise StepError(f"systemd: starting {scope.unit}: {result}")
    cgroups.at(scope.cgroup).create(resources)


def update(unit: str, resources: dict[str, Any]) -> None:
    """Tell systemd of changed limits.

    Raises:
        StepError: it refused.
    """
    changed = properties(resources, unified=not cgroups.mounted()[0])
    if changed:
        with dbus.Systemd() as systemd:
            systemd.ask("SetUnitProperties", "sba(sv)", unit, True, changed)


def stop(unit: str) -> None:
    """Wait until systemd has let go of a scope whose processes are gone; it ends by itself with the last of them.

    A failed one is forgotten; one that goes on for a second is asked to stop.

    Raises:
        StepError: it does not end within 10 s.
    """
    began, asked = time.monotonic(), False
    with dbus.Systemd() as systemd:
        while True:
            try:
                systemd.ask("ResetFailedUnit", "s", unit)
            except dbus.DbusError:
                return  # it is not loaded any more
            waited = time.monotonic() - began
            if waited > 10:
                raise StepError(f"systemd: {unit} does not end")
            if waited > 1 and not asked:
                asked = True
                systemd.send("StopUnit", "ss", unit, "replace")
            time.sleep(0.005)
