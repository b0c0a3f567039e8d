"""What a changed file means: from a service's `develop.watch` to a batch of actions. Pure.

Every rule that matches a path applies (Compose Develop Specification). A batch gathers what many changes of a moment
mean: each file is synced once, a service restarted once.
"""

from __future__ import annotations

import posixpath
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pycompose.proto.patterns import EPHEMERAL, Patterns

SYNCING = ("sync", "sync+restart", "sync+exec")


@dataclass(frozen=True)
class Rule:
    """One entry of a service's `develop.watch`.

    Attributes:
        service: its name.
        action: rebuild, sync, restart, sync+restart or sync+exec.
        path: absolute path on this machine, of a file or folder.
        target: where it is in the container; "" without a sync.
        ignore, include: patterns relative to `path`.
        hook: of sync+exec: command, user, privileged, working_dir, environment as in the model.
        place: the rule in the file, for messages: "services.web.develop.watch[0]".
    """

    service: str
    action: str
    path: str
    target: str = ""
    ignore: Patterns = field(default_factory=lambda: Patterns(()))
    include: Patterns = field(default_factory=lambda: Patterns(()))
    hook: Mapping[str, Any] | None = None
    place: str = ""

    @property
    def syncs(self) -> bool:
        """Whether it brings files into containers."""
        return self.action in SYNCING

    def within(self, path: str) -> str | None:
        """Return the path relative to the rule's when the rule is about it, None when not."""
        if path == self.path:
            below = "."
        elif path.startswith(self.path.rstrip("/") + "/"):
            below = path[len(self.path.rstrip("/")) + 1 :]
        else:
            return None
        name = posixpath.basename(path) if below == "." else below
        if self.ignore.match(name) or (self.include and not self.include.match(name)):
            return None
        return below

    def destination(self, below: str) -> str:
        """Return where a path relative to the rule's is in the container."""
        return posixpath.normpath(posixpath.join(self.target, below))


@dataclass
class Batch:
    """What is to be done for one service.

    Attributes:
        files: path on this machine by path in the container, of what is to be copied.
        gone: paths in the container of what is to be removed.
        restart, rebuild: what comes after.
        hooks: what is to be run in each container after the sync.
        changes: how many paths changed.
    """

    files: dict[str, str] = field(default_factory=dict)
    gone: set[str] = field(default_factory=set)
    restart: bool = False
    rebuild: bool = False
    hooks: list[Mapping[str, Any]] = field(default_factory=list)
    changes: set[str] = field(default_factory=set)


def batches(rules: Sequence[Rule], paths: Iterable[str], exists: Callable[[str], bool]) -> dict[str, Batch]:
    """Return what changed paths mean, by service.

    Args:
        rules: all that are followed.
        paths: absolute paths on this machine that changed, came or went.
        exists: whether a path is there now.
    """
    found: dict[str, Batch] = {}
    for path in sorted(set(paths)):
        for rule in rules:
            below = rule.within(path)
            if below is None:
                continue
            batch = found.setdefault(rule.service, Batch())
            batch.changes.add(path)
            if rule.syncs:
                target = rule.destination(below)
                if exists(path):
                    batch.files[target] = path
                else:
                    batch.gone.add(target)
            batch.restart |= rule.action in ("restart", "sync+restart")
            batch.rebuild |= rule.action == "rebuild"
            if rule.action == "sync+exec" and rule.hook is not None and rule.hook not in batch.hooks:
                batch.hooks.append(rule.hook)
    return found


def rules_of(
    name: str, service: Mapping[str, Any], read: Callable[[str], str | None], warn: Callable[[str], None]
) -> list[Rule]:
    """Return the rules of a service of the loaded model.

    Args:
        name: the service.
        service: its entry.
        read: gives a file's text, None when there is none.
        warn: is told of a rule that is not followed.
    """
    found = []
    bound = [mount["source"] for mount in service.get("volumes") or () if mount.get("type") == "bind"]
    for index, entry in enumerate((service.get("develop") or {}).get("watch") or ()):
        place = f"services.{name}.develop.watch[{index}]"
        path = posixpath.normpath(entry["path"])
        if entry["action"] in SYNCING and any(path == one or path.startswith(f"{one}/") for one in bound):
            warn(f"{place}: {path} is in a bind mount of {name} already: there is nothing to sync")
            continue
        ignore = [*EPHEMERAL, *_ignored_by_build(service, path, read), *(entry.get("ignore") or ())]
        found.append(
            Rule(
                name,
                entry["action"],
                path,
                entry.get("target") or "",
                Patterns(ignore),
                Patterns(entry.get("include") or ()),
                entry.get("exec"),
                place,
            )
        )
    return found


def _ignored_by_build(service: Mapping[str, Any], path: str, read: Callable[[str], str | None]) -> list[str]:
    """Return the lines of the build context's .dockerignore, where the rule's path is the context."""
    build = service.get("build")
    context = build.get("context") if isinstance(build, Mapping) else None
    if not context or posixpath.normpath(context) != path:
        return []
    return (read(posixpath.join(path, ".dockerignore")) or "").splitlines()
