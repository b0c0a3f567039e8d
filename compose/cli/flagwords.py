"""What single words of docker's flags say: mounts, GPUs, limits, fields, files of variables."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Any

from pycompose.compose.cli.errors import UsageError


def mount_of(word: str) -> dict[str, Any]:
    """Read `type=bind,source=/a,target=/b,readonly` (docker's --mount).

    Raises:
        UsageError: a field is unknown, or the target is missing.
    """
    fields = csv(word, "")
    known = {"src": "source", "dst": "target", "destination": "target", "ro": "readonly"}
    fields = {known.get(key, key): value for key, value in fields.items()}
    mount: dict[str, Any] = {"type": fields.pop("type", "volume"), "target": fields.pop("target", "")}
    if not mount["target"]:
        raise UsageError(f"--mount {word}: want target=PATH")
    if "source" in fields:
        mount["source"] = fields.pop("source")
    mount["read_only"] = fields.pop("readonly", "false") in ("", "true", "1")
    if mount["type"] == "bind":
        mount["bind"] = {"create_host_path": False}
        if "bind-propagation" in fields:
            mount["bind"]["propagation"] = fields.pop("bind-propagation")
        if fields.pop("bind-nonrecursive", "false") in ("", "true", "1"):
            mount["bind"]["recursive"] = "disabled"
    if mount["type"] == "volume" and fields.pop("volume-nocopy", "false") in ("", "true", "1"):
        mount["volume"] = {"nocopy": True}
    if mount["type"] == "tmpfs":
        tmpfs = {"size": fields.pop("tmpfs-size", None), "mode": _octal(fields.pop("tmpfs-mode", None))}
        mount["tmpfs"] = {key: value for key, value in tmpfs.items() if value is not None}
    fields.pop("consistency", None)
    if fields:
        raise UsageError(f"--mount {word}: unknown field {next(iter(fields))}")
    return mount


def _octal(word: str | None) -> int | None:
    return None if word is None else int(word, 8)


def gpus(word: str) -> Any:
    """Read docker's --gpus: all, a number, or count=…,device=…,driver=…,capabilities=…"""
    if word == "all" or word.isdigit():
        return "all" if word == "all" else [{"count": int(word)}]
    fields = csv(word, "count")
    found: dict[str, Any] = {}
    if "device" in fields:
        found["device_ids"] = fields["device"].strip('"').split(",")
    if "count" in fields:
        found["count"] = fields["count"] if fields["count"] == "all" else int(fields["count"])
    if "driver" in fields:
        found["driver"] = fields["driver"]
    if "capabilities" in fields:
        found["capabilities"] = fields["capabilities"].split()
    return [found]


def csv(word: str, bare: str) -> dict[str, str]:
    """Return the fields of "k=v,k=v"; a word without "=" is the field `bare`, or a flag."""
    found: dict[str, str] = {}
    for part in word.split(","):
        key, equals, value = part.partition("=")
        if not equals and bare and bare not in found:
            found[bare] = part
        else:
            found[key] = f"{found[key]} {value}" if key in found else value
    return found


def pairs_of(words: Iterable[str]) -> dict[str, str]:
    """Return `KEY=VALUE` words as a mapping; the last one wins."""
    return {word.partition("=")[0]: word.partition("=")[2] for word in words}


def ulimit(word: str) -> tuple[str, Any]:
    """Read `nofile=SOFT[:HARD]`.

    Raises:
        UsageError: it cannot be read.
    """
    name, equals, value = word.partition("=")
    soft, _, hard = value.partition(":")
    try:
        limits = {"soft": int(soft), "hard": int(hard or soft)}
    except ValueError:
        limits = {}
    if not equals or not limits:
        raise UsageError(f"--ulimit {word}: want NAME=SOFT[:HARD], for example nofile=1024:2048")
    return name, limits


def read_lines(flag: str, path: str) -> list[str]:
    """Return the lines of a file of docker's: `KEY=VALUE` as it stands, # begins a comment.

    Raises:
        UsageError: it cannot be read.
    """
    try:
        with open(os.path.expanduser(path), encoding="utf-8-sig") as file:
            lines = [line.strip("\r\n").lstrip() for line in file]
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{flag} {path}: {getattr(error, 'strerror', None) or error}") from None
    return [line for line in lines if line and not line.startswith("#")]
