"""The managers that were there last: ``STATE/manager/members.json``.

Without a majority the store tells nothing; who is missing must be known all the same.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from pycompose.proto.files import replace

FILE = "members.json"


@dataclass(frozen=True, order=True)
class Fellow:
    """A manager.

    Attributes:
        name: its node's id.
        label: its host name, for people.
        peer: host:port of its etcd for the others.
        address: HOST:PORT of its API; "" when that is not known.
    """

    name: str
    label: str
    peer: str
    address: str = ""


def load(folder: Path) -> list[Fellow]:
    """Read the file of a manager's folder; one that is missing or damaged names nobody."""
    try:
        return [Fellow(**row) for row in json.loads((folder / FILE).read_text())]
    except (OSError, ValueError, TypeError):
        return []


def save(folder: Path, fellows: Sequence[Fellow]) -> None:
    """Write the file when it says something else. Raises OSError."""
    if load(folder) != sorted(fellows):
        replace(folder / FILE, json.dumps([asdict(each) for each in sorted(fellows)], indent=1).encode())
