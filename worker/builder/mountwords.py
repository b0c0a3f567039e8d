"""The words of `RUN --mount=…` ("Dockerfile reference", "RUN --mount")."""

from __future__ import annotations

import csv
import re
from collections.abc import Callable
from typing import Any

from pycompose.worker.builder.errors import nearest
from pycompose.worker.builder.instructions import Mount

#: Keys of each kind; a key's other names come after it.
_KEYS = {
    "bind": ("target", "source", "from", "readonly", "readwrite"),
    "cache": ("target", "source", "from", "readonly", "readwrite", "id", "sharing", "mode", "uid", "gid"),
    "tmpfs": ("target", "size"),
    "secret": ("target", "id", "required", "mode", "uid", "gid", "env"),
    "ssh": ("target", "id", "required", "mode", "uid", "gid"),
}
_OTHER_NAMES = {"dst": "target", "destination": "target", "src": "source", "ro": "readonly", "rw": "readwrite"}
_UNITS = {"": 1, "b": 1, "k": 1 << 10, "kb": 1 << 10, "m": 1 << 20, "mb": 1 << 20, "g": 1 << 30, "gb": 1 << 30}


class MountError(ValueError):
    """The words say no mount."""


def check_mount(text: str) -> str:
    """Return what is wrong with a mount that may have variables in it; "" when nothing is."""
    if "$" in text:
        return ""
    try:
        parse_mount(text)
    except MountError as error:
        return str(error)
    return ""


def parse_mount(text: str) -> Mount:
    """Return the mount that the words say. Raises MountError."""
    pairs = _pairs(text)
    kind = pairs.pop("type", "bind")
    if kind not in _KEYS:
        raise MountError(f"type={kind}: {nearest(kind, _KEYS)}")
    for key in pairs:
        if key not in _KEYS[kind]:
            raise MountError(f"a mount of type {kind} has no {key}: {nearest(key, _KEYS[kind])}")
    read: dict[str, Any] = {"kind": kind}
    for key, value in pairs.items():
        field, convert = _FIELDS[key]
        read[field] = convert(key, value)
    mount = Mount(**({"read_only": kind == "bind"} | read))
    if kind in ("bind", "cache", "tmpfs") and not mount.target:
        raise MountError(f"a mount of type {kind} needs target=PATH")
    if kind == "secret" and not mount.id and not mount.target:
        raise MountError("a secret needs id=NAME")
    return mount


def _pairs(text: str) -> dict[str, str]:
    found: dict[str, str] = {}
    for word in next(csv.reader([text], strict=False), []):
        key, equals, value = word.partition("=")
        key = _OTHER_NAMES.get(key.strip().lower(), key.strip().lower())
        if not equals and key not in ("readonly", "readwrite", "required"):
            raise MountError(f"{word!r} is not KEY=VALUE")
        if key in found:
            raise MountError(f"{key} is there twice")
        found[key] = value if equals else "true"
    return found


def _text(_: str, value: str) -> str:
    return value


def _truth(key: str, value: str) -> bool:
    if value.lower() not in ("true", "false", "1", "0"):
        raise MountError(f"{key}={value}: use true or false")
    return value.lower() in ("true", "1")


def _not(key: str, value: str) -> bool:
    return not _truth(key, value)


def _number(base: int) -> Callable[[str, str], int]:
    def read(key: str, value: str) -> int:
        try:
            return int(value.removeprefix("0o"), base)
        except ValueError:
            raise MountError(f"{key}={value}: not a number" + (" of octal digits" if base == 8 else "")) from None

    return read


def _sharing(_: str, value: str) -> str:
    if value not in ("shared", "private", "locked"):
        raise MountError(f"sharing={value}: use shared, private or locked")
    return value


def _size(_: str, value: str) -> int:
    match = re.fullmatch(r"(\d+)([a-zA-Z]*)", value)
    if match is None or match[2].lower() not in _UNITS:
        raise MountError(f"size={value}: write 64m or 1g")
    return int(match[1]) * _UNITS[match[2].lower()]


_FIELDS: dict[str, tuple[str, Callable[[str, str], Any]]] = {
    "target": ("target", _text),
    "source": ("source", _text),
    "from": ("origin", _text),
    "readonly": ("read_only", _truth),
    "readwrite": ("read_only", _not),
    "id": ("id", _text),
    "sharing": ("sharing", _sharing),
    "required": ("required", _truth),
    "mode": ("mode", _number(8)),
    "uid": ("uid", _number(10)),
    "gid": ("gid", _number(10)),
    "size": ("size", _size),
    "env": ("variable", _text),
}
