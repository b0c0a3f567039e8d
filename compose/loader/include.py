"""`include`: other projects' resources, each loaded as its own project first, then added to this one.

An included project has its own folder and its own variables; a resource of the same name here must be equal.
"""

from __future__ import annotations

import posixpath
from dataclasses import dataclass
from typing import Any

from pycompose.compose.loader.errors import LoadError, Problem
from pycompose.compose.loader.tree import Map, Mark, mark_of, marked

SECTIONS = ("services", "volumes", "networks", "secrets", "configs", "models")
_REMOTE = ("oci://", "https://", "http://", "git://", "ssh://", "git@", "github.com/")


@dataclass(frozen=True, slots=True)
class Include:
    """One entry of `include`: absolute paths of its files, of its folder, and its variables' files (None: default)."""

    paths: tuple[str, ...]
    directory: str
    env_files: tuple[str, ...] | None
    mark: Mark | None


def read_includes(tree: Map, working_dir: str) -> list[Include]:
    """Read the `include` list of one file.

    Args:
        tree: the file's tree; its `include` has passed the check of kinds.
        working_dir: the folder that relative paths start from.

    Raises:
        LoadError: an entry is remote.
    """
    found = []
    for index, (entry, mark) in enumerate(marked(tree.get("include") or ())):
        entry = {"path": entry} if isinstance(entry, str) else entry
        written = _strings(entry.get("path"))
        if not written:
            raise LoadError(Problem.at(mark, ("include", index), "an include needs a path"))
        for path in written:
            if is_remote(path):
                message = f"{path}: remote files cannot be included yet"
                raise LoadError(Problem.at(mark, ("include", index), message, "fetch it, and include the local file"))
        paths = tuple(posixpath.normpath(posixpath.join(working_dir, path)) for path in written)
        directory = entry.get("project_directory")
        base = posixpath.normpath(posixpath.join(working_dir, directory)) if directory else posixpath.dirname(paths[0])
        env_files = _strings(entry.get("env_file"))
        resolved = tuple(posixpath.join(working_dir, file) for file in env_files) if env_files else None
        found.append(Include(paths, base, resolved, mark))
    return found


def is_remote(path: str) -> bool:
    """Tell whether a path names something that would have to be fetched."""
    return path.startswith(_REMOTE)


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
