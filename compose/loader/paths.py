"""Relative paths made absolute, in place, against the folder of the project, the include or the extended file."""

from __future__ import annotations

import posixpath
import re
from typing import Any

from pycompose.compose.loader.errors import LoadError, Problem
from pycompose.compose.loader.files import Files
from pycompose.compose.loader.remotes import is_remote
from pycompose.compose.loader.tree import mark_of

_REMOTE = ("https://", "http://", "git://", "ssh://", "github.com/", "git@")
_WINDOWS = re.compile(r"[A-Za-z]:[\\/]|\\\\")


class Resolver:
    """Resolves the paths of one tree.

    Args:
        base: the folder that relative paths start from; the result is absolute when it is.
        home: what `~` stands for, empty when unknown.
        files: to follow the symbolic links of watched paths.
    """

    def __init__(self, base: str, home: str, files: Files) -> None:
        self.base = base
        self.home = home
        self.files = files

    def absolute(self, path: Any) -> Any:
        """Return a path made absolute; an empty one, a Windows path or something else than text is left alone."""
        if not isinstance(path, str) or not path:
            return path
        path = self.expanded(path)
        return path if posixpath.isabs(path) else clean(posixpath.join(self.base, path))

    def maybe_windows(self, path: Any) -> Any:
        """Return a path made absolute, but for a Windows path; an empty one is the folder itself."""
        if not isinstance(path, str) or _WINDOWS.match(path):
            return path
        path = self.expanded(path)
        return path if posixpath.isabs(path) else clean(posixpath.join(self.base, path))

    def expanded(self, path: str) -> str:
        """Return a path with a leading `~` replaced."""
        return clean(posixpath.join(self.home, path[1:].lstrip("/"))) if path.startswith("~") and self.home else path

    def context(self, path: Any) -> Any:
        """Return a build context made absolute unless it is remote or a reference."""
        if not isinstance(path, str) or "://" in path or path.startswith(("service:", *_REMOTE)):
            return path
        return self.absolute(path)

    def resolve(self, tree: Any) -> None:
        """Resolve every path of a canonical tree, in place.

        Raises:
            LoadError: a bind mount has no source.
        """
        problems: list[Problem] = []
        for name, service in (tree.get("services") or {}).items():
            if isinstance(service, dict):
                self.service(service, name, problems)
        for section in ("configs", "secrets"):
            for entry in (tree.get(section) or {}).values():
                if isinstance(entry, dict) and "file" in entry:
                    entry["file"] = self.maybe_windows(entry["file"])
        for volume in (tree.get("volumes") or {}).values():
            options = (
                volume.get("driver_opts") if isinstance(volume, dict) and volume.get("driver") == "local" else None
            )
            if isinstance(options, dict) and options.get("o") == "bind" and "device" in options:
                options["device"] = self.maybe_windows(options["device"])
        if problems:
            raise LoadError(problems)

    def service(self, service: Any, name: str, problems: list[Problem]) -> None:
        """Resolve the paths of one service, in place."""
        build = service.get("build")
        if isinstance(build, dict):
            if "context" in build:
                build["context"] = self.context(build["context"])
            for key, change in (("additional_contexts", self.context), ("ssh", self.maybe_windows)):
                if isinstance(table := build.get(key), dict):
                    table.update({one: change(path) for one, path in table.items()})
        for entry in service.get("env_file") or ():
            if isinstance(entry, dict):
                entry["path"] = self.absolute(entry.get("path"))
        if isinstance(labels := service.get("label_file"), list):
            labels[:] = [self.absolute(path) for path in labels]
        extends = service.get("extends")
        if isinstance(extends, dict) and "file" in extends and not is_remote(extends["file"]):
            extends["file"] = self.absolute(extends["file"])
        for watch in ((service.get("develop") or {}).get("watch")) or ():
            if isinstance(path := self.absolute(watch.get("path")), str):
                watch["path"] = self.files.real(path) if posixpath.isabs(path) else path
        for index, volume in enumerate(service.get("volumes") or ()):
            if isinstance(volume, dict) and volume.get("type") == "bind":
                if "source" not in volume:
                    path = ("services", name, "volumes", index)
                    mark = mark_of(service["volumes"], index)
                    problems.append(Problem.at(mark, path, "a bind mount needs a source", "add source: PATH"))
                else:
                    volume["source"] = self.maybe_windows(volume["source"])


def clean(path: str) -> str:
    """Normalise a path as Go's filepath.Clean does."""
    cleaned = posixpath.normpath(path)
    return cleaned[1:] if cleaned.startswith("//") else cleaned
