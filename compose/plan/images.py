"""Whether an image is taken as it is, pulled, or cannot be had: a decision over values.

The rules are Docker Compose's pull policies: `always` asks the registry; `missing` (the default) takes what the node
has; `refresh` (daily, weekly, every_12h) takes it unless it was last compared with the registry too long ago; `never`
asks nobody. An image for another platform than asked for counts as missing.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from pycompose.proto.v1.container_pb2 import (
    PULL_POLICY_ALWAYS,
    PULL_POLICY_NEVER,
    PULL_POLICY_REFRESH,
    PULL_POLICY_UNSPECIFIED,
)


@dataclass(frozen=True)
class Local:
    """An image on the node.

    Attributes:
        id: of the image.
        platform: "linux/amd64".
        compared: when its name was last given to it, or found right at the registry; seconds since the epoch.
    """

    id: str
    platform: str
    compared: float


class Verdict(Enum):
    """What becomes of a wish for an image."""

    KEEP = "keep"
    PULL = "pull"
    #: It can only be built.
    BUILD = "build"
    #: It is not there, and nobody may be asked.
    NEVER = "never"


def decide(
    policy: int, refresh_after: float, local: Local | None, platform: str, *, buildable: bool, now: float
) -> Verdict:
    """Return what to do about an image.

    Args:
        policy: of container.proto.
        refresh_after: seconds; for PULL_POLICY_REFRESH.
        local: the image that the node has under the name, None for none.
        platform: the platform that is asked for, "" for the node's.
        buildable: whether the service says how to build it: then it is pulled only where the file says so.
        now: seconds since the epoch.
    """
    if local is not None and not fits(local.platform, platform):
        local = None
    if policy == PULL_POLICY_NEVER:
        return Verdict.KEEP if local is not None else Verdict.NEVER
    if policy == PULL_POLICY_ALWAYS:
        return Verdict.PULL
    if local is None:
        return Verdict.BUILD if buildable and policy == PULL_POLICY_UNSPECIFIED else Verdict.PULL
    if policy == PULL_POLICY_REFRESH and local.compared + refresh_after <= now:
        return Verdict.PULL
    return Verdict.KEEP


def fits(have: str, wanted: str) -> bool:
    """Return whether an image's platform ("linux/arm64/v8") is what is asked for ("linux/arm64", "arm64", "")."""
    names = {"x86_64": "amd64", "x86-64": "amd64", "aarch64": "arm64"}
    want, found = ([names.get(part, part) for part in text.lower().split("/")] for text in (wanted, have))
    if want == [""]:
        return True
    if len(want) == 1:  # "arm64" alone, or "linux" alone
        return want[0] in found[:2]
    return want == found[: len(want)] or (want == [*found, "v8"] and found[1] == "arm64")
