"""Dockerfile instructions that change an image's configuration (`import --change`, `commit --change`). Purely."""

from __future__ import annotations

import json
import shlex
from collections.abc import Sequence
from typing import Any

from pycompose.worker.images.errors import ImageError

KNOWN = "CMD, ENTRYPOINT, ENV, EXPOSE, LABEL, STOPSIGNAL, USER, VOLUME, WORKDIR"
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
    elif word in _TEXTS:
        config[_TEXTS[word]] = rest
    else:
        raise ImageError(f"change {line!r}: use {KNOWN}")


def _words(text: str) -> list[str]:
    found = json.loads(text)
    if not isinstance(found, list) or not all(isinstance(word, str) for word in found):
        raise ValueError("want a JSON list of texts")
    return found
