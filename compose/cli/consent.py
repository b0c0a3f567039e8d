"""Before services of remote files start: where the files are from, what they ask of this machine, what they read.

Asked on a terminal, once for what is the same; what was agreed to is kept beside the cache. Off a terminal files that
ask for nothing special run, and others need `-y`. Docker Compose asks about a remote file's variables in the same way
each time, and not about what the file asks for.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any

from pycompose.compose.cli.asking import can_ask, confirm
from pycompose.compose.cli.errors import CliError
from pycompose.compose.cli.saying import say
from pycompose.compose.cli.settings import Settings
from pycompose.compose.loader import Project
from pycompose.compose.loader.tree import Map, Mark, marked
from pycompose.compose.loader.variables import Variables

_SECRET = re.compile(r"(?i)passw|secret|token|api_?key|private|credential")
_WIDTH = 40
_HOST = ("network_mode", "pid", "ipc", "uts", "userns_mode", "cgroup")
_KEYS = (
    *("privileged", "cap_add", "devices", "device_cgroup_rules", "security_opt", "use_api_socket", "provider"),
    *_HOST,
)
_OPEN = re.compile(r"[=:](unconfined|disable)\Z")


def consent(settings: Settings, project: Project, *, yes: bool = False) -> None:
    """Ask whether a project with remote files is to run; one without is never asked about.

    Args:
        settings: the global flags; `--trust-remote` answers yes.
        project: what is about to start.
        yes: the flag that answers.

    Raises:
        CliError: nobody can be asked, and the files ask for something special.
        Exit: the answer is no.
    """
    for one in dict.fromkeys(project.remotes):
        settings.tell(f"{one.pinned} lies in {one.root}")
    if not project.remotes or yes or settings.trusts_remote():
        return
    asked = list(demands(project))
    lines = ["This project has files from elsewhere:"]
    lines += [f"  {one.pinned}" for one in dict.fromkeys(project.remotes)]
    if asked:
        lines += ["They ask for more than a container of their own:", *(f"  {line}" for line in asked)]
    cache, key = settings.remotes().cache, "\n".join([*lines, *project.remote_variables])
    if cache.recall(key) is not None:
        return
    if project.remote_variables:
        lines += ["They read these variables:", *_variables(project)]
    if not can_ask():
        if asked:
            say("\n".join(lines))
            raise CliError("there is no terminal to ask on whether that is wanted; --trust-remote says so")
        return
    say("\n".join(lines))
    confirm("Run it?", "-y")
    cache.remember(key, "agreed")


def demands(project: Project) -> Iterator[str]:
    """Yield what remote files ask of the machine beyond a container of their own, each with its place.

    What a local file writes is the user's and is left out; what has no place of its own is not.
    """
    roots = tuple(f"{one.root}/" for one in project.remotes)
    for name, service in project.services.items():
        written = _written(project.tree, name)
        for key in _KEYS:
            value = service.get(key)
            if not value:
                continue
            entries = list(marked(written.get(key))) if isinstance(value, list) else [(value, written.marks.get(key))]
            for entry, mark in entries:
                if mark is not None and not mark.source.name.startswith(roots):
                    continue
                what = _demand(key, entry)
                if what:
                    yield f"{_place(mark, roots)}services.{name}.{key}: {what}"


def _place(mark: Mark | None, roots: Sequence[str]) -> str:
    """Return where something was written, below what was fetched."""
    if mark is None:
        return ""
    root = next(one for one in roots if mark.source.name.startswith(one))
    which = f"{root.rstrip('/').split('/')[-2][:12]}: " if len(set(roots)) > 1 else ""
    return f"{which}{mark.source.name.removeprefix(root)}:{mark.line}:{mark.column}: "


def _written(tree: Any, name: str) -> Map:
    """Return a service as the files write it, merged, an empty one for none."""
    found = (tree.get("services") or {}).get(name)
    return found if isinstance(found, Map) else Map()


def _demand(key: str, value: Any) -> str:
    """Return what one entry asks for, "" for nothing special."""
    if key == "privileged":
        return "all of the machine"
    if key in _HOST:
        return "the machine's own" if value == "host" else ""
    if key == "security_opt":
        return str(value) if _OPEN.search(str(value)) else ""
    if key == "provider":
        return f"the program {value.get('type')} runs on this machine"
    if key == "use_api_socket":
        return "the node's own socket"
    return str(value.get("source", value)) if isinstance(value, dict) else str(value)


def _variables(project: Project) -> list[str]:
    """Return a table of the variables that remote files read; of values that look secret the beginning is hidden."""
    from pycompose.compose.cli.tables import table

    rows = []
    for name, reference in project.remote_variables.items():
        value = project.environment.get(name)
        source = "default in the file" if reference.default else "unset"
        if value is not None:
            source = _source(project, name)
        shown = (value if value is not None else reference.default).replace("\n", " ")
        shown = "***" if value and _SECRET.search(name) else shown
        rows.append((name, shown if len(shown) <= _WIDTH else shown[: _WIDTH - 1] + "…", source))
    return [f"  {line}" for line in table(("VARIABLE", "VALUE", "FROM"), rows).splitlines()]


def _source(project: Project, name: str) -> str:
    environment = project.environment
    found = environment.definitions(name) if isinstance(environment, Variables) else []
    return found[0].file or "the environment" if found else "the environment"
