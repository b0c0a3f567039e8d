"""The files that a build copies from: a root, seen by its descriptor, that no link of it leads out of.

`Tree.select` finds what COPY's sources name, with the wildcards of Go's filepath.Match, and "**" for any number of
folders; `Tree.digest` is what the cache knows a selection by: names, kinds, modes and contents, but no times.
"""

from __future__ import annotations

import hashlib
import json
import os
import posixpath
import re
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from pycompose.proto.patterns import Patterns
from pycompose.worker.runtime.paths import open_in_root

CHUNK = 1 << 20
ATTRIBUTES = ("security.capability", "user.")


class Missing(Exception):
    """A source is not there. `source`: as it was asked for."""

    def __init__(self, source: str) -> None:
        super().__init__(source)
        self.source = source


@dataclass(frozen=True)
class Chosen:
    """A file or folder that a source names. `path`: relative to the root, links on the way followed by the kernel."""

    source: str
    path: str


@dataclass(frozen=True)
class Entry:
    """Something at or below a chosen path. `inside`: its path below that; "" for the chosen one itself."""

    path: str
    inside: str
    status: os.stat_result


class Tree:
    """Args: root: descriptor of the root; exclude: patterns of what is left out, relative to each source."""

    def __init__(self, root: int, exclude: Sequence[str] = ()) -> None:
        self._root, self._exclude = root, Patterns(exclude)

    def select(self, sources: Sequence[str]) -> list[Chosen]:
        """Return what the sources name, in their order, what wildcards find sorted. Raises Missing."""
        found: list[Chosen] = []
        for source in sources:
            # a path that climbs above the root stays in it, as it does for a process
            parts = [part for part in posixpath.normpath("/" + source).split("/") if part]
            if not any(map(is_wild, parts)):
                path = "/".join(map(_plain, parts))
                self.status(path, source)
                found.append(Chosen(source, path))
                continue
            found += [Chosen(source, path) for path in sorted(self._matches("", parts))]
        return found

    def status(self, path: str, source: str = "") -> os.stat_result:
        """Return what is at a path, a link followed. Raises Missing."""
        try:
            descriptor = self.open(path, os.O_PATH)
        except (FileNotFoundError, NotADirectoryError):
            raise Missing(source or path) from None
        try:
            return os.fstat(descriptor)
        finally:
            os.close(descriptor)

    def open(self, path: str, flags: int) -> int:
        """Open a path below the root."""
        return open_in_root(self._root, os.fsencode(path), flags)

    def _matches(self, folder: str, parts: Sequence[str]) -> Iterator[str]:
        first, rest = parts[0], parts[1:]
        below = f"{folder}/" if folder else ""
        if first == "**":
            if rest:
                yield from self._matches(folder, rest)
            for name, kind in self._listed(folder):
                if stat.S_ISDIR(kind):
                    yield from self._matches(below + name, parts)
                elif not rest:
                    yield below + name
            return
        wild = re.compile(_expression(first), re.DOTALL)
        for name, _ in self._listed(folder):
            if not wild.match(name):
                continue
            if not rest:
                yield below + name
            elif stat.S_ISDIR(self.status(below + name).st_mode):
                yield from self._matches(below + name, rest)

    def _listed(self, folder: str) -> list[tuple[str, int]]:
        descriptor = self.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            names = sorted(os.listdir(descriptor))
            return [(name, os.stat(name, dir_fd=descriptor, follow_symlinks=False).st_mode) for name in names]
        finally:
            os.close(descriptor)

    def entries(self, chosen: Chosen) -> Iterator[Entry]:
        """Yield the chosen path, and what is below it and not excluded, folders before their content."""
        top = self.status(chosen.path, chosen.source)
        if not stat.S_ISDIR(top.st_mode):
            if not self._exclude.match(posixpath.basename(chosen.path)):
                yield Entry(chosen.path, "", top)
            return
        yield Entry(chosen.path, "", top)
        yield from self._below(chosen.path, "")

    def _below(self, folder: str, inside: str) -> Iterator[Entry]:
        descriptor = self.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            names = sorted(os.listdir(descriptor))
            found = [(name, os.stat(name, dir_fd=descriptor, follow_symlinks=False)) for name in names]
        finally:
            os.close(descriptor)
        for name, status in found:
            here = f"{inside}/{name}" if inside else name
            folder_here = stat.S_ISDIR(status.st_mode)
            if self._exclude.match(here):
                continue
            path = f"{folder}/{name}" if folder else name
            yield Entry(path, here, status)
            if folder_here:
                yield from self._below(path, here)

    def target(self, entry: Entry) -> str:
        """Return where a link points."""
        folder, _, name = entry.path.rpartition("/")
        descriptor = self.open(folder, os.O_PATH | os.O_DIRECTORY)
        try:
            return os.readlink(name, dir_fd=descriptor)
        finally:
            os.close(descriptor)

    def attributes(self, entry: Entry) -> dict[str, bytes]:
        """Return the extended attributes that are copied."""
        if not (stat.S_ISREG(entry.status.st_mode) or stat.S_ISDIR(entry.status.st_mode)):
            return {}
        descriptor = self.open(entry.path, os.O_RDONLY | os.O_NONBLOCK)
        try:
            return {
                name: os.getxattr(descriptor, name) for name in os.listxattr(descriptor) if name.startswith(ATTRIBUTES)
            }
        except OSError:
            return {}
        finally:
            os.close(descriptor)

    def digest(self, sources: Sequence[str], *, owners: bool) -> str:
        """Return the digest of what the sources name. `owners`: owners count. Raises Missing."""
        total = hashlib.sha256()
        for chosen in self.select(sources):
            # where a file lies tells nothing, but what it is called does
            total.update(json.dumps(["source", posixpath.basename(chosen.path)]).encode())
            for entry in self.entries(chosen):
                total.update(json.dumps(self._facts(entry, owners), sort_keys=True).encode())
        return total.hexdigest()

    def _facts(self, entry: Entry, owners: bool) -> dict[str, Any]:
        status = entry.status
        facts: dict[str, Any] = {"inside": entry.inside, "mode": status.st_mode}
        if owners:
            facts["owner"] = [status.st_uid, status.st_gid]
        if stat.S_ISREG(status.st_mode):
            facts["content"] = self._content(entry)
        elif stat.S_ISLNK(status.st_mode):
            facts["target"] = self.target(entry)
        elif stat.S_ISCHR(status.st_mode) or stat.S_ISBLK(status.st_mode):
            facts["device"] = status.st_rdev
        if attributes := self.attributes(entry):
            facts["attributes"] = {name: value.hex() for name, value in attributes.items()}
        return facts

    def _content(self, entry: Entry) -> str:
        total = hashlib.sha256()
        with os.fdopen(self.open(entry.path, os.O_RDONLY | os.O_NONBLOCK), "rb", buffering=0) as file:
            while piece := file.read(CHUNK):
                total.update(piece)
        return total.hexdigest()


def wild(source: str) -> bool:
    """Whether a source has wildcards."""
    return any(map(is_wild, source.split("/")))


def is_wild(part: str) -> bool:
    """Whether one name of a source is a pattern."""
    return bool(re.search(r"(?<!\\)[*?\[]", part))


def _plain(part: str) -> str:
    return re.sub(r"\\(.)", r"\1", part)


def _expression(part: str) -> str:
    """Return a pattern of one name as a regular expression (Go, path/filepath, Match)."""
    found, place = "", 0
    while place < len(part):
        letter = part[place]
        place += 1
        if letter == "*":
            found += ".*"
        elif letter == "?":
            found += "."
        elif letter == "\\" and place < len(part):
            found += re.escape(part[place])
            place += 1
        elif letter == "[" and "]" in part[place + 1 :]:
            end = part.index("]", place + 1)
            inside = part[place:end]
            found += (
                "["
                + ("^" + re.escape(inside[1:]) if inside[0] in "^!" else re.escape(inside)).replace(r"\-", "-")
                + "]"
            )
            place = end + 1
        else:
            found += re.escape(letter)
    return found + r"\Z"
