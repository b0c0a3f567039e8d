"""`include`: other projects' resources, each loaded as its own project first, then added to this one.

An included project has its own folder and its own variables; a resource of the same name here must be equal.
"""

from __future__ import annotations

import posixpath
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from pycompose.compose.loader.errors import LoadError, Problem
from pycompose.compose.loader.tree import Map, Mark, Path, mark_of, marked

SECTIONS = ("services", "volumes", "networks", "secrets", "configs", "models")
Locate = Callable[[str, "Mark | None", Path], str]
"""Make a path absolute, and bring a remote file here: (as written, its place, its path in the tree) to the path."""


@dataclass(frozen=True, slots=True)
class Include:
    """One entry of `include`.

    Absolute paths of its files, of its folder (`chosen`: the entry names the folder), and of its variables' files
    (None: default).
    """

    paths: tuple[str, ...]
    directory: str
    env_files: tuple[str, ...] | None
    mark: Mark | None
    chosen: bool


def read_includes(tree: Map, locate: Locate) -> list[Include]:
    """Read the `include` list of one file.

    Args:
        tree: the file's tree; its `include` has passed the check of kinds.
        locate: finds the paths that it names.

    Raises:
        LoadError: an entry names no file, or one that cannot be had.
    """
    found = []
    for index, (entry, mark) in enumerate(marked(tree.get("include") or ())):
        entry = {"path": entry} if isinstance(entry, str) else entry
        written = _strings(entry.get("path"))
        if not written:
            raise LoadError(Problem.at(mark, ("include", index), "an include needs a path"))
        place: Path = ("include", index)
        paths = tuple(locate(path, mark, place) for path in written)
        folder = entry.get("project_directory")
        base = locate(folder, mark, (*place, "project_directory")) if folder else posixpath.dirname(paths[0])
        env_files = tuple(locate(file, mark, (*place, "env_file")) for file in _strings(entry.get("env_file")))
        found.append(Include(paths, base, env_files or None, mark, bool(folder)))
    return found


def import_resources(imported: Any, tree: Map) -> None:
    """Add an included project's resources to `tree`, in place.

    Raises:
        LoadError: a resource of the same name is there already and differs.
    """
    problems = []
    for section in SECTIONS:
        source = imported.get(section)
        if not source:
            continue
        target = tree.setdefault(section, Map())
        if target is None:
            target = tree[section] = Map()
        for name, value in source.items():
            if name not in target:
                target[name] = value
                if mark := mark_of(source, name):
                    target.marks[name] = mark
            elif target[name] != value:
                first = mark_of(source, name)
                where = f" ({first.source.name}:{first.line})" if first else ""
                message = f"conflicts with imported resource{where}"
                remedy = "change it in an extra file of the include's path list"
                problems.append(Problem.at(mark_of(target, name), (section, name), message, remedy))
    if problems:
        raise LoadError(problems)


def _strings(value: Any) -> list[str]:
    return [value] if isinstance(value, str) else list(value or ())
