"""A remote file is data: it may name what came with it, and nothing else of this machine.

Every path that a remote file writes (binds, env files, build contexts, contents of secrets and configs, other Compose
files …) has to lie below the folder that was fetched, or below a project directory that a local file gave it; symbolic
links are followed first. The check looks at one file at a time, before it is merged, so that no other file's places
can hide what it wrote, and it reads short forms with the parsers that the loader itself uses.
"""

from __future__ import annotations

import posixpath
from collections.abc import Iterator
from typing import Any

from pycompose.compose.loader.errors import Problem
from pycompose.compose.loader.files import Files
from pycompose.compose.loader.paths import clean
from pycompose.compose.loader.remotes import Fetched, is_remote
from pycompose.compose.loader.tree import Mark, Path, locate

REMEDY = "a remote file may only name what came with it; if you trust it, allow it with --trust-remote"
_LOCAL_CONTEXTS = ("oci-layout://", "file://")


class Walls:
    """The folders that one remote file may name paths in.

    Args:
        fetched: the file.
        granted: a project directory that a local file gave it, "" for none.
        files: to follow symbolic links.
    """

    def __init__(self, fetched: Fetched, granted: str, files: Files) -> None:
        self.fetched = fetched
        self.files = files
        self.roots = tuple(folder for folder in (fetched.root, granted) if folder)

    def holds(self, path: str) -> bool:
        """Tell whether an absolute path lies inside, also after its symbolic links are followed."""
        real = self.files.real(path)
        return any(within(path, root) and within(real, self.files.real(root)) for root in self.roots)

    def refuse(self, mark: Mark | None, key: Path, path: str) -> Problem:
        """Return the problem of a path that lies outside."""
        link = " through a symbolic link" if any(within(path, root) for root in self.roots) else ""
        return Problem.at(mark, key, f"{path} leads{link} out of {self.fetched.reference}", REMEDY)

    def escapes(self, tree: Any, base: str, only: frozenset[str] | None = None) -> list[Problem]:
        """Return a problem for each path that leads outside.

        Args:
            tree: one file's tree in long form, its paths absolute.
            base: the folder that paths were relative to.
            only: names of the services to look at; None for all.
        """
        problems = []
        for key, path in _paths(tree, base, only):
            path = clean(posixpath.join(base, path))
            if not self.holds(path):
                problems.append(self.refuse(locate(tree, key), key, path))
        return problems


def within(path: str, folder: str) -> bool:
    """Tell whether a path is a folder or lies below it, by its text."""
    path = clean(path)
    return path == folder or path.startswith(folder.rstrip("/") + "/")


def _paths(tree: Any, base: str, only: frozenset[str] | None) -> Iterator[tuple[Path, str]]:
    """Yield every path of this machine that a tree names, with its place."""
    for name, service in (tree.get("services") or {}).items():
        if isinstance(service, dict) and (only is None or name in only):
            for key, path in _service_paths(service, base):
                yield ("services", name, *key), path
    for section in ("configs", "secrets"):
        for name, entry in (tree.get(section) or {}).items():
            if isinstance(entry, dict) and isinstance(entry.get("file"), str):
                yield (section, name, "file"), entry["file"]
    for name, volume in (tree.get("volumes") or {}).items():
        options = volume.get("driver_opts") if isinstance(volume, dict) else None
        device = options.get("device") if isinstance(options, dict) else None
        # another file may make a bind of it, so every path counts; "tmpfs" and ":/export" are none
        if isinstance(device, str) and device.startswith(("/", "~", ".")):
            yield ("volumes", name, "driver_opts", "device"), device


def _service_paths(service: dict[str, Any], base: str) -> Iterator[tuple[Path, str]]:
    for index, volume in enumerate(service.get("volumes") or ()):
        source = volume.get("source") if isinstance(volume, dict) else None
        # the type may come from another file: what looks like a path counts whatever the type
        if isinstance(source, str) and (volume.get("type") == "bind" or _like_a_path(source)):
            yield ("volumes", index), source
    for index, entry in enumerate(service.get("env_file") or ()):
        if isinstance(entry, dict) and isinstance(entry.get("path"), str):
            yield ("env_file", index), entry["path"]
    for index, path in enumerate(service.get("label_file") or ()):
        if isinstance(path, str):
            yield ("label_file", index), path
    for index, watch in enumerate((service.get("develop") or {}).get("watch") or ()):
        if isinstance(watch, dict) and isinstance(watch.get("path"), str):
            yield ("develop", "watch", index), watch["path"]
    extends = service.get("extends")
    if isinstance(extends, dict) and isinstance(extends.get("file"), str) and not is_remote(extends["file"]):
        yield ("extends", "file"), extends["file"]
    for index, option in enumerate(service.get("security_opt") or ()):
        if path := seccomp_file(option):
            yield ("security_opt", index), path
    spec = service.get("credential_spec")
    if isinstance(spec, dict) and isinstance(spec.get("file"), str):
        yield ("credential_spec", "file"), spec["file"]
    if isinstance(build := service.get("build"), dict):
        yield from _build_paths(build, base)


def _build_paths(build: dict[str, Any], base: str) -> Iterator[tuple[Path, str]]:
    context = _local_context(build.get("context"))
    if context:
        yield ("build", "context"), context
    dockerfile = build.get("dockerfile")
    if isinstance(dockerfile, str) and (context or not build.get("context")):
        yield ("build", "dockerfile"), posixpath.join(context or base, dockerfile)
    contexts = build.get("additional_contexts")
    for name, value in contexts.items() if isinstance(contexts, dict) else ():
        if path := _local_context(value):
            yield ("build", "additional_contexts", name), path
    keys = build.get("ssh")
    for name, value in keys.items() if isinstance(keys, dict) else ():
        if isinstance(value, str) and value:
            yield ("build", "ssh", name), value
    for kind in ("cache_from", "cache_to"):
        for index, text in enumerate(build.get(kind) or ()):
            options = dict(part.partition("=")[::2] for part in text.split(",")) if isinstance(text, str) else {}
            if options.get("type") == "local":
                yield ("build", kind, index), options.get("src") or options.get("dest") or "/"


def _local_context(value: Any) -> str:
    """Return the path of a build context, "" for one that is no path."""
    if not isinstance(value, str):
        return ""
    for scheme in _LOCAL_CONTEXTS:
        if value.startswith(scheme):
            return value.removeprefix(scheme) or "/"
    return "" if "://" in value or value.startswith("service:") or is_remote(value) else value


def _like_a_path(source: str) -> bool:
    return source.startswith(("/", "~", ".")) or ".." in source.split("/")


def seccomp_file(option: Any) -> str:
    """Return the path of the profile that a security option names, "" for none."""
    if not isinstance(option, str):
        return ""
    key, _, value = option.partition("=" if "=" in option else ":")
    named = key == "seccomp" and value not in ("unconfined", "builtin", "") and not value.lstrip().startswith("{")
    return value if named else ""
