"""Dockerfile instructions that change an image's configuration (`import --change`, `commit --change`). Purely."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Sequence
from typing import Any

from pycompose.worker.images.errors import ImageError

KNOWN = "CMD, ENTRYPOINT, ENV, EXPOSE, HEALTHCHECK, LABEL, ONBUILD, STOPSIGNAL, USER, VOLUME, WORKDIR"
_CHECK_TIMES = {
    "interval": "Interval",
    "timeout": "Timeout",
    "start-period": "StartPeriod",
    "start-interval": "StartInterval",
}
_UNITS = {"ns": 1, "us": 1_000, "ms": 1_000_000, "s": 1_000_000_000, "m": 60_000_000_000, "h": 3_600_000_000_000}
_TEXTS = {"USER": "User", "STOPSIGNAL": "StopSignal", "WORKDIR": "WorkingDir"}


def config_of(changes: Sequence[str]) -> dict[str, Any]:
    """Return the image configuration that instructions make ("Dockerfile reference"). Raises ImageError."""
    config: dict[str, Any] = {}
    for line in changes:
        word, _, rest = line.strip().partition(" ")
        word, rest = word.upper(), rest.strip()
        try:
            _apply(config, word, rest, line)
        except ValueError as error:
            raise ImageError(f"change {line!r} cannot be read: {error}") from None
    return config


def _apply(config: dict[str, Any], word: str, rest: str, line: str) -> None:
    if word in ("CMD", "ENTRYPOINT"):
        config[word.title()] = _words(rest) if rest.startswith("[") else ["/bin/sh", "-c", rest]
    elif word == "ENV":
        pairs = shlex.split(rest) if "=" in rest else [rest.replace(" ", "=", 1)]
        config.setdefault("Env", []).extend(pairs)
    elif word == "LABEL":
        pairs = shlex.split(rest)
        config.setdefault("Labels", {}).update({pair.partition("=")[0]: pair.partition("=")[2] for pair in pairs})
    elif word in ("EXPOSE", "VOLUME"):
        key = {"EXPOSE": "ExposedPorts", "VOLUME": "Volumes"}[word]
        words = _words(rest) if rest.startswith("[") else rest.split()
        if word == "EXPOSE":
            words = [port if "/" in port else f"{port}/tcp" for port in words]
        config.setdefault(key, {}).update({item: {} for item in words})
    elif word == "HEALTHCHECK":
        config["Healthcheck"] = _healthcheck(rest)
    elif word == "ONBUILD":
        config.setdefault("OnBuild", []).append(rest)
    elif word in _TEXTS:
        config[_TEXTS[word]] = rest
    else:
        raise ImageError(f"change {line!r}: use {KNOWN}")


def _healthcheck(text: str) -> dict[str, Any]:
    """Return `[--interval=30s …] CMD …` or `NONE` as an image's configuration has it, times in ns."""
    check: dict[str, Any] = {}
    while text.startswith("--"):
        flag, _, text = text.partition(" ")
        name, _, value = flag[2:].partition("=")
        text = text.strip()
        if name == "retries":
            if not value.isdecimal():
                raise ValueError(f"--retries={value}: want a number")
            check["Retries"] = int(value)
        elif name in _CHECK_TIMES:
            check[_CHECK_TIMES[name]] = _nanoseconds(flag, value)
        else:
            raise ValueError(f"{flag}: want --retries or --{', --'.join(_CHECK_TIMES)}")
    kind, _, rest = text.partition(" ")
    rest = rest.strip()
    if kind.upper() == "NONE" and not check and not rest:
        return {"Test": ["NONE"]}
    if kind.upper() != "CMD" or not rest:
        raise ValueError("want HEALTHCHECK [OPTIONS] CMD COMMAND, or HEALTHCHECK NONE")
    return {"Test": ["CMD", *_words(rest)] if rest.startswith("[") else ["CMD-SHELL", rest], **check}


def _nanoseconds(flag: str, text: str) -> int:
    if not re.fullmatch(r"(\d+(\.\d+)?(ns|us|ms|s|m|h))+", text):
        raise ValueError(f"{flag}: want a duration such as 1m30s")
    return sum(round(float(number) * _UNITS[unit]) for number, unit in re.findall(r"([\d.]+)([a-z]+)", text))


def _words(text: str) -> list[str]:
    found = json.loads(text)
    if not isinstance(found, list) or not all(isinstance(word, str) for word in found):
        raise ValueError("want a JSON list of texts")
    return found
