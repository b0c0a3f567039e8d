"""The short form of a mount: `[SOURCE:]TARGET[:OPTIONS]`."""

from __future__ import annotations

import posixpath
from typing import Any

_BIND_OPTIONS = {
    **dict.fromkeys(("rprivate", "private", "rshared", "shared", "rslave", "slave"), "propagation"),
    **dict.fromkeys(("z", "Z"), "selinux"),
}


def parse_volume(spec: str) -> dict[str, Any]:
    """Read a short mount into its long form.

    A source that looks like a path (`.`, `/`, `~`, a drive) makes a bind, another one a named volume. Unknown options
    are ignored, as Docker Compose does. A one-letter source is a drive letter there, and so here.

    Raises:
        ValueError: a part is empty, or there are too many.
    """
    if not spec:
        raise ValueError("invalid empty volume spec")
    if len(spec.encode()) <= 2:
        return {"type": "volume", "target": posixpath.normpath(spec)}
    parts = _split(spec)
    if not parts:
        raise ValueError(f"invalid spec: {spec}: there is no target")
    if any(not part for part in parts):
        raise ValueError(f"invalid spec: {spec}: empty section between colons")
    if len(parts) > 3:
        raise ValueError(f"invalid spec: {spec}: too many colons")
    source, target, options = ("", parts[0], "") if len(parts) == 1 else (*parts, "")[:3]
    volume: dict[str, Any] = {"type": "bind" if _is_path(source) else "volume"}
    if source:
        volume["source"] = source
    volume["target"] = clean_path(target)
    bind: dict[str, Any] = {}
    for option in options.split(","):
        if option in ("ro", "rw"):
            volume["read_only"] = option == "ro"
        elif option == "nocopy":
            volume["volume"] = {"nocopy": True}
        elif option in _BIND_OPTIONS:
            bind[_BIND_OPTIONS[option]] = option
    if volume["type"] == "bind":
        volume["bind"] = {**bind, "create_host_path": True}
    else:
        volume.setdefault("volume", {})
        if bind:
            volume["bind"] = bind
    if volume.get("read_only") is False:
        del volume["read_only"]
    return volume


def volume_target(entry: Any) -> str | None:
    """Return the mount point of a mount in either form, None if it has none."""
    if isinstance(entry, dict):
        target = entry.get("target")
        return target if isinstance(target, str) else None
    if isinstance(entry, str):
        try:
            return str(parse_volume(entry)["target"])
        except ValueError:
            return None
    return None


def clean_path(path: str) -> str:
    """Normalise a path as Go's path.Clean does."""
    cleaned = posixpath.normpath(path)
    return cleaned[1:] if cleaned.startswith("//") else cleaned


def _split(spec: str) -> list[str]:
    parts, part, depth = [], "", 0
    for index, char in enumerate(spec):
        if char == "$" and spec[index + 1 : index + 2] == "{":
            depth += 1
        elif char == "}" and depth:
            depth -= 1
        elif char == ":" and not depth and not (len(part) == 1 and part.isalpha()):
            parts.append(part)
            part = ""
            continue
        part += char
    return parts if depth else [*parts, part]


def _is_path(source: str) -> bool:
    return (
        (source[:1] in (".", "/", "~") and bool(source))
        or source.startswith("\\\\")
        or (len(source) > 1 and source[0].isalpha() and source[1] == ":")
    )
