"""Platforms ("linux/arm64/v8") and which entry of an index runs where, purely.

Sources: image-spec, image-index.md ("platform"); the fall-backs are containerd's: a 64-bit processor of the same
family runs 32-bit programs, and a later ARM runs an earlier one's.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pycompose.worker.images.errors import BadReference

_PART = re.compile(r"[a-zA-Z0-9_.-]{1,64}\Z")
_ALIASES = {
    "x86_64": ("amd64", ""),
    "x86-64": ("amd64", ""),
    "aarch64": ("arm64", ""),
    "armhf": ("arm", "v7"),
    "armel": ("arm", "v6"),
    "armv7l": ("arm", "v7"),
    "armv6l": ("arm", "v6"),
    "i386": ("386", ""),
    "i686": ("386", ""),
}
_ARM = ("v8", "v7", "v6", "v5")


@dataclass(frozen=True)
class Platform:
    """An operating system and a processor as Go names them; no variant where there is but one."""

    os: str
    architecture: str
    variant: str = ""

    def __str__(self) -> str:
        return "/".join(filter(None, (self.os, self.architecture, self.variant)))


def platform(os: str, architecture: str, variant: str = "") -> Platform:
    """Return a platform in its one form: "aarch64" is arm64, arm64/v8 is arm64, arm is arm/v7, amd64/v1 is amd64."""
    os, architecture, variant = os.lower() or "linux", architecture.lower(), variant.lower()
    architecture, implied = _ALIASES.get(architecture, (architecture, ""))
    variant = variant or implied
    if variant and not variant.startswith("v") and variant.isdigit():
        variant = f"v{variant}"
    if architecture == "arm" and not variant:
        variant = "v7"
    if (architecture, variant) in (("arm64", "v8"), ("amd64", "v1")):
        variant = ""
    return Platform(os, architecture, variant)


def parse(text: str) -> Platform:
    """Read "os/arch[/variant]", "arch" alone, or "linux" alone for this machine's. Raises BadReference."""
    parts = text.split("/")
    if not 1 <= len(parts) <= 3 or not all(map(_PART.match, parts)):
        raise BadReference(f"{text[:80]!r} is no platform; it looks like linux/amd64 or linux/arm64/v8")
    if len(parts) == 1:
        if parts[0].lower() == "linux":
            return local()
        return platform("linux", parts[0])
    return platform(parts[0], parts[1], parts[2] if len(parts) > 2 else "")


def local() -> Platform:
    """Return this machine's platform."""
    import platform as machine

    return platform("linux", machine.machine())


def accepted(wanted: Platform) -> tuple[Platform, ...]:
    """Return the platforms whose programs run on `wanted`, the best first."""
    found = [wanted]
    if wanted.architecture == "amd64":
        if wanted.variant:
            found.append(platform(wanted.os, "amd64"))
        found.append(platform(wanted.os, "386"))
    elif wanted.architecture == "arm64":
        if wanted.variant:
            found.append(platform(wanted.os, "arm64"))
        found += [platform(wanted.os, "arm", variant) for variant in _ARM]
    elif wanted.architecture == "arm" and wanted.variant in _ARM:
        found += [platform(wanted.os, "arm", variant) for variant in _ARM[_ARM.index(wanted.variant) + 1 :]]
    return tuple(dict.fromkeys(found))


def of(document: Mapping[str, Any]) -> Platform:
    """Return the platform that an index's entry or an image's configuration names."""
    text = [document.get(key) for key in ("os", "architecture", "variant")]
    return platform(*(value if isinstance(value, str) else "" for value in text))


def same(wanted: Platform, have: Platform) -> bool:
    """Return whether an image's platform is the one asked for; whoever names no variant takes any."""
    return have == wanted or (not wanted.variant and have == platform(wanted.os, wanted.architecture, have.variant))


def choose(offered: Sequence[Platform], wanted: Platform) -> int | None:
    """Return the index of the best offer for a machine, None when none runs there; of equals the first."""
    for each in accepted(wanted):
        if each in offered:
            return list(offered).index(each)
    return None
