"""What is special about a remote file while it is loaded: its paths start at its own folder, and stay inside of it."""

from __future__ import annotations

import posixpath
from collections.abc import Mapping
from typing import Any

from pycompose.compose.loader.attributes import PROJECT
from pycompose.compose.loader.canonical import canonical
from pycompose.compose.loader.confine import Walls, seccomp_file
from pycompose.compose.loader.context import Context
from pycompose.compose.loader.errors import LoadError, Problem
from pycompose.compose.loader.include import Include
from pycompose.compose.loader.kinds import check
from pycompose.compose.loader.paths import Resolver
from pycompose.compose.loader.remotes import RemoteError, is_remote
from pycompose.compose.loader.tree import Map, Mark, Path, clone


def located(written: str, mark: Mark | None, key: Path, folder: str, walls: Walls | None, context: Context) -> str:
    """Return the absolute path of a file or folder that a Compose file names; a remote one is brought here.

    Args:
        written: as the file names it.
        mark, key: where it does.
        folder: what relative paths start from.
        walls: what that file may name, None for everything.

    Raises:
        LoadError: a remote file cannot be had, or a remote file names a local one.
    """
    if is_remote(written):
        try:
            return context.remotes.bring(written).path
        except RemoteError as error:
            raise LoadError(Problem.at(mark, key, error.message, error.remedy)) from None
    path = posixpath.normpath(posixpath.join(folder, written))
    if walls and not context.trusted and not walls.holds(path):
        # a path that another remote file has made absolute lies behind that one's walls
        other = context.walls(path)
        if other is None or not other.holds(path):
            raise LoadError(walls.refuse(mark, key, path))
    return path


def localise(tree: Map, path: str, base: Map, walls: Walls, context: Context) -> str:
    """Bring a remote file to long forms with absolute paths, in place, and return the folder that they start from.

    Args:
        tree: the file, interpolated.
        path: where it lies here.
        base: what it will be merged onto.
        walls: what it may name.
        context: the project; where it leaves paths alone they are only looked at.

    Raises:
        LoadError: the file is malformed, or names paths outside.
    """
    problems: list[Problem] = []
    check(tree, PROJECT, None, (), problems)
    problems = [one for one in problems if not one.message.endswith("is missing here")]
    problems = problems or canonical(tree, context.interpolated)
    if problems:
        raise LoadError(problems)
    folder = context.directory if walls.holds(context.directory) else posixpath.dirname(path)
    looked = tree if context.resolve_paths else clone(tree)
    _resolve(looked, base, folder, context)
    if not context.trusted and (problems := walls.escapes(looked, folder)):
        raise LoadError(problems)
    return folder


def _resolve(tree: Map, base: Map, folder: str, context: Context) -> None:
    below = base.get("services") or {}
    for name, service in (tree.get("services") or {}).items():
        if not isinstance(service, dict):
            continue
        options = service.get("security_opt") or []
        for index, option in enumerate(options):
            if profile := seccomp_file(option):
                options[index] = f"seccomp={posixpath.normpath(posixpath.join(folder, profile))}"
        build = service.get("build")
        if isinstance(build, dict) and not (below.get(name) or {}).get("build"):
            build.setdefault("context", ".")
    Resolver(folder, context.home, context.files).resolve(tree)


def confine_base(only: Map, service: str, path: str, walls: Walls, context: Context) -> None:
    """Check the services that a file lends to others by `extends`.

    Args:
        only: the file's services in long form.
        service: the one that is extended; what it extends in the same file counts, too.
        path: where the file lies here.
        walls: what it may name.

    Raises:
        LoadError: it names paths outside.
    """
    if context.trusted:
        return
    folder = posixpath.dirname(path)
    looked = clone(only)
    _resolve(looked, Map(), folder, context)
    if problems := walls.escapes(looked, folder, frozenset(_chain(only["services"], service))):
        raise LoadError(problems)


def _chain(services: Mapping[str, Any], service: str) -> list[str]:
    """Return a service and those of the same file that it extends."""
    found: list[str] = []
    name: Any = service
    while name in services and name not in found:
        found.append(name)
        extends = (services[name] or {}).get("extends") or {}
        name = None if extends.get("file") else extends.get("service")
    return found


def granted(one: Include, context: Context) -> Mapping[str, str]:
    """Return the project directories that remote files have, inside an include that may choose one."""
    if not one.chosen:
        return context.granted
    owner = context.remotes.owner(one.paths[0])
    return {**context.granted, owner.root: one.directory} if owner else context.granted
