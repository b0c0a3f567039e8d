"""What the node keeps of former builds: which step over which layers gave which layer.

A key is the digest of all that a step's result hangs on: the layers below, the operation, the files that it reads. An
entry names a layer of the image store, whose content it holds there. The file is written when what it names is on the
disk; a key that means nothing any more is only never asked for, and goes when it has not been used for long.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from pycompose.worker.images.files import write_atomically
from pycompose.worker.images.layers import chain_ids

#: Of layers that no image has; beyond it, what was not used for longest goes.
KEPT_BYTES = 10 << 30
NO_LAYER = ""


@dataclass(frozen=True)
class Made:
    """A layer. `blob`: digest of its tar; `diff_id`: of its content; both "" for a step that changed nothing."""

    diff_id: str = NO_LAYER
    blob: str = NO_LAYER


@dataclass(frozen=True)
class CacheEntry:
    """One step that was done.

    Attributes:
        key: what it hangs on.
        made: what came out.
        below: diff ids of the layers below, lowest first.
        step: for people.
        size: bytes of the layer's files.
        used_ns, made_ns: when it was last used, and done; since the epoch.
    """

    key: str
    made: Made
    below: tuple[str, ...]
    step: str
    size: int
    used_ns: int
    made_ns: int

    def names(self) -> tuple[str, ...]:
        """What it needs of the image store: the blob, and the chain of the layer."""
        if not self.made.diff_id:
            return ()
        return self.made.blob, chain_ids((*self.below, self.made.diff_id))[-1]


def key_of(below: Sequence[str], operation: bytes, inputs: Iterable[str]) -> str:
    """Return the key of a step. `below`: diff ids, lowest first; `inputs`: digests of the files that it reads."""
    return hashlib.sha256(json.dumps([list(below), operation.decode(), list(inputs)]).encode()).hexdigest()


class Cache:
    """Args: path: the file, whose folder exists; limit: bytes that are kept at most."""

    def __init__(self, path: Path, limit: int = KEPT_BYTES) -> None:
        self._path, self.limit = path, limit
        self._entries: dict[str, CacheEntry] = {}
        try:
            rows = json.loads(path.read_bytes())
            for row in rows:
                entry = CacheEntry(**{**row, "made": Made(**row["made"]), "below": tuple(row["below"])})
                self._entries[entry.key] = entry
        except FileNotFoundError:
            return
        except (ValueError, TypeError, KeyError):
            self._entries = {}  # everything is built anew

    def __iter__(self) -> Iterator[CacheEntry]:
        return iter(sorted(self._entries.values(), key=lambda entry: -entry.used_ns))

    def get(self, key: str) -> CacheEntry | None:
        """Return what a key gave; it counts as used."""
        entry = self._entries.get(key)
        if entry is not None:
            entry = self._entries[key] = replace(entry, used_ns=time.time_ns())
        return entry

    def put(self, entry: CacheEntry) -> None:
        """Remember a step."""
        self._entries[entry.key] = entry

    def drop(self, keys: Iterable[str]) -> None:
        """Forget steps."""
        for key in list(keys):
            self._entries.pop(key, None)

    def surplus(self, keep_bytes: int, before_ns: int | None = None) -> list[CacheEntry]:
        """Return what is too much, when what was used last is kept up to a size. `before_ns`: only unused since."""
        total, found = 0, []
        for entry in self:
            total += entry.size
            if total > keep_bytes and (before_ns is None or entry.used_ns < before_ns):
                found.append(entry)
        return found

    def held(self) -> set[str]:
        """Return all that the entries need of the image store."""
        return {name for entry in self._entries.values() for name in entry.names()}

    def save(self) -> None:
        """Write the file. What it names must be on the disk. Raises OSError."""
        write_atomically(self._path, json.dumps([asdict(entry) for entry in self._entries.values()]).encode())
