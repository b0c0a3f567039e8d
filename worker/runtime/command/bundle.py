"""A bundle: the directory with ``config.json`` and the root file system, read and checked.

Source: runtime-spec bundle.md, config.md.
"""

from __future__ import annotations

import json
import os
import re

from pycompose.worker.runtime import idmap, mounts, namespaces, oci, userns
from pycompose.worker.runtime.capabilities import NUMBERS
from pycompose.worker.runtime.command import schema
from pycompose.worker.runtime.errors import ConfigError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

_VERSION = re.compile(r"1\.\d+\.\d+([-+].*)?")
FILE = "config.json"


def load(directory: str, warn: Callable[[str], None]) -> dict[str, Any]:
    """Read and check ``DIRECTORY/config.json``; the root's path becomes absolute.

    Args:
        directory: the bundle.
        warn: is told what the specification wants left out rather than refused.

    Raises:
        ConfigError: the first thing that is wrong.
    """
    path = os.path.join(directory, FILE)
    config: dict[str, Any] = read_json(path)
    try:
        schema.check(config)
        check(config, directory, lambda message: warn(f"{path}: {message}"))
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from None
    config["root"]["path"] = os.path.realpath(os.path.join(directory, config["root"]["path"]))
    supply_devices(config)
    return config


def supply_devices(config: dict[str, Any]) -> None:
    """Add the devices that every container has, and let it use them (config-linux.md, "Default Devices").

    A /dev that is bound from elsewhere keeps what it has. Rules are added only where there are some: without any,
    nothing is forbidden.
    """
    linux = config.setdefault("linux", {})
    given = linux.get("devices") or []
    if not any(_binds(mount, "/dev") for mount in config.get("mounts") or ()):
        there = {os.path.normpath(device["path"]) for device in given}
        linux["devices"] = [*(device for device in oci.default_devices() if device["path"] not in there), *given]
    resources = linux.get("resources") or {}
    if resources.get("devices"):
        resources["devices"] += [rule for rule in oci.default_device_rules() if rule["allow"]]


def _binds(mount: dict[str, Any], place: str) -> bool:
    bound = mount.get("type") == "bind" or mounts.MountOptions(mount.get("options") or []).bind
    return bound and os.path.normpath(mount["destination"]) == place


def read_json(path: str) -> Any:
    """A JSON file.

    Raises:
        ConfigError: it is missing, too large (over 8 MiB), or not JSON.
    """
    try:
        with open(path, "rb") as file:
            text = file.read((8 << 20) + 1)
    except OSError as error:
        raise ConfigError(f"{path}: {(error.strerror or '').lower()}") from None
    if len(text) > 8 << 20:
        raise ConfigError(f"{path}: larger than 8 MiB")
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise ConfigError(f"{path}:{error.lineno}:{error.colno}: not JSON: {error.msg.lower()}") from None
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{path}: not JSON: {error}") from None


def check(config: dict[str, Any], directory: str, warn: Callable[[str], None]) -> None:
    """What the values of a well-formed configuration mean together.

    Raises:
        ConfigError: names the key.
    """
    if not _VERSION.fullmatch(config["ociVersion"]):
        raise ConfigError(f"ociVersion: {config['ociVersion']!r} is not supported; use 1.0.0 to 1.2.x")
    if config.get("process") is None:
        raise ConfigError("process: required, but missing")
    check_process(config["process"], warn)
    root = config.get("root")
    if root is None:
        raise ConfigError("root: required, but missing")
    if not root["path"]:
        raise ConfigError("root.path: required, but empty")
    path = os.path.join(directory, root["path"])
    if not os.path.isdir(path):
        raise ConfigError(f"root.path: {path} is not a directory")
    linux = config.get("linux") or {}
    _check_namespaces(config, linux)
    for number, mount in enumerate(config.get("mounts") or ()):
        _check_mount(mount, f"mounts[{number}]", linux)
    for number, device in enumerate(linux.get("devices") or ()):
        if not device["path"].startswith("/"):
            raise ConfigError(f"linux.devices[{number}].path: {device['path']!r} is not absolute")
        if device["type"] != "p" and (device.get("major") is None or device.get("minor") is None):
            raise ConfigError(f"linux.devices[{number}]: major and minor are required for type {device['type']!r}")
    for kind in ("maskedPaths", "readonlyPaths"):
        for number, each in enumerate(linux.get(kind) or ()):
            if not each.startswith("/"):
                raise ConfigError(f"linux.{kind}[{number}]: {each!r} is not absolute")
    for kind, hooks in (config.get("hooks") or {}).items():
        for number, hook in enumerate(hooks or ()):
            if not hook["path"].startswith("/"):
                raise ConfigError(f"hooks.{kind}[{number}].path: {hook['path']!r} is not absolute")
    if ".." in (linux.get("cgroupsPath") or "").split("/"):
        raise ConfigError(f"linux.cgroupsPath: {linux['cgroupsPath']!r} leads upwards")
    _check_netdevices(linux)
    if (linux.get("personality") or {}).get("flags"):
        raise ConfigError("linux.personality.flags: the specification defines none; leave it out")
    if linux.get("mountLabel"):
        raise ConfigError("linux.mountLabel: this runtime gives mounts no SELinux label; leave it out")
    if linux.get("intelRdt"):
        raise ConfigError("linux.intelRdt: not supported by this runtime; remove it")


def check_process(process: dict[str, Any], warn: Callable[[str], None]) -> None:
    """``process`` of a configuration or of ``exec --process``; a capability that is none is left out, with a warning.

    "Any value which cannot be mapped to a relevant kernel interface [...] MUST be logged as a warning", and is no
    failure (runtime-spec config.md, "Linux Process").

    Raises:
        ConfigError: names the key.
    """
    if not process.get("args"):
        raise ConfigError("process.args: required, at least the program")
    if not process["cwd"].startswith("/"):
        raise ConfigError(f"process.cwd: {process['cwd']!r} is not absolute")
    for number, pair in enumerate(process.get("env") or ()):
        if "=" not in pair or "\0" in pair:
            raise ConfigError(f"process.env[{number}]: {pair!r} is not NAME=VALUE")
    sets = process.get("capabilities") or {}
    unknown = sorted({name for names in sets.values() for name in names or () if name not in NUMBERS})
    if unknown:
        warn(f"process.capabilities: {', '.join(unknown)} left out: not a capability (capabilities(7))")
        process["capabilities"] = {
            kind: [name for name in names or () if name in NUMBERS] for kind, names in sets.items()
        }
    seen = set()
    for limit in process.get("rlimits") or ():
        if limit["type"] in seen:
            raise ConfigError(f"process.rlimits: {limit['type']} is given twice")
        seen.add(limit["type"])


def _check_namespaces(config: dict[str, Any], linux: dict[str, Any]) -> None:
    entries = linux.get("namespaces") or []
    kinds = [entry["type"] for entry in entries]
    twice = next((kind for kind in kinds if kinds.count(kind) > 1), None)
    if twice:
        raise ConfigError(f"linux.namespaces: {twice} is given twice")
    for entry in entries:
        path = entry.get("path") or ""
        if path and not path.startswith("/"):
            raise ConfigError(f"linux.namespaces: the path of {entry['type']}, {path!r}, is not absolute")
    plan = namespaces.Plan(entries)
    if (linux.get("timeOffsets") or {}) and "time" not in kinds:
        raise ConfigError("linux.timeOffsets: needs a time namespace in linux.namespaces")
    for key in ("hostname", "domainname"):
        if config.get(key) and "uts" not in kinds:
            raise ConfigError(f"{key}: needs a UTS namespace of its own (uts in linux.namespaces)")
    if plan.user is None and os.geteuid():
        raise ConfigError("linux.namespaces: an ordinary user needs one of type user (see `spec --rootless`)")
    if os.geteuid() and "pid" not in kinds:
        raise ConfigError("linux.namespaces: an ordinary user needs one of type pid, by which the container is ended")
    if plan.user is not None:
        userns.check(linux, plan.user)
    elif linux.get("uidMappings") or linux.get("gidMappings"):
        raise ConfigError("linux.uidMappings: needs a user namespace in linux.namespaces")


def _check_netdevices(linux: dict[str, Any]) -> None:
    devices = linux.get("netDevices") or {}
    if devices and not any(entry["type"] == "network" for entry in linux.get("namespaces") or ()):
        raise ConfigError("linux.netDevices: needs a network namespace in linux.namespaces")
    seen: set[str] = set()
    for name, settings in devices.items():
        inside = settings.get("name") or name
        for each in (name, inside):
            if not 1 <= len(each.encode()) <= 15 or each in (".", "..") or re.search(r"[/:\s]", each):
                raise ConfigError(f"linux.netDevices.{name}: {each!r} cannot be a device's name")
        if inside in seen:
            raise ConfigError(f"linux.netDevices.{name}: another device is called {inside} in the container too")
        seen.add(inside)


def _check_mount(mount: dict[str, Any], where: str, linux: dict[str, Any]) -> None:
    if not mount["destination"].startswith("/"):
        mount["destination"] = "/" + mount["destination"]  # relative means to the root (config.md, "Mounts")
    options = mounts.MountOptions(mount.get("options") or [])
    bind = options.bind or mount.get("type") == "bind"
    mappings = [mount.get(key) or [] for key in ("uidMappings", "gidMappings")]
    if any(mappings) != all(mappings):
        raise ConfigError(f"{where}: uidMappings and gidMappings go together")
    for key, found in zip(("uidMappings", "gidMappings"), mappings, strict=True):
        idmap.check(found, f"{where}.{key}")
    if not bind and (options.idmap or any(mappings)):
        raise ConfigError(f"{where}.uidMappings: only bind mounts can be id-mapped")
    if options.idmap and not any(mappings) and not any(e["type"] == "user" for e in linux.get("namespaces") or []):
        raise ConfigError(f"{where}: {options.idmap} needs uidMappings and gidMappings, or a user namespace")
    if bind and not mount.get("source"):
        raise ConfigError(f"{where}.source: required for a bind mount")
