"""Where values come from: what `config --explain` prints.

Every value that variables had a part in, or that replaced another one, gets a paragraph: the value, the place and the
text it was written as, each variable with the place that defines it, and, after "over", what lost against it.

    services.web.image: nginx:1.27
        compose.yaml:3:5: nginx:${TAG:-latest}
            TAG=1.27 from .env:1
                over TAG=1.25 from base.env:7
        over base.yaml:3:5: nginx:1.20
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from pycompose.compose.loader.json_text import dump_json
from pycompose.compose.loader.project import Project
from pycompose.compose.loader.tree import Made, Map, Mark, Path, Seq, Shadowed, entry_index, path_text
from pycompose.compose.loader.variables import Definition, Use, Variables

MAX_NESTING = 8
"""How deep definitions that refer to definitions are told."""
_WIDTH = 100


def explain(project: Project, directory: str = "") -> str:
    """Return the paragraphs of a project.

    Args:
        project: the loaded project.
        directory: files below it are named relative to it.
    """
    teller = _Teller(directory)
    for path, value in _places(project.model, ()):
        teller.value(path, value, project)
    lines = teller.lines or ["every value is as its file has it: nothing was replaced, merged or filled in"]
    return "".join(f"{line}\n" for line in lines)


def _places(value: Any, path: Path) -> Iterator[tuple[Path, Any]]:
    """Yield every path of the model with its value, containers before their content."""
    if path:
        yield path, value
    entries: Iterable[tuple[Any, Any]] = ()
    if isinstance(value, dict):
        entries = value.items()
    elif isinstance(value, list):
        entries = enumerate(value)
    for key, item in entries:
        yield from _places(item, (*path, key))


class _Teller:
    def __init__(self, directory: str) -> None:
        self.directory = directory
        self.lines: list[str] = []
        self.told: set[tuple[Any, ...]] = set()

    def value(self, path: Path, value: Any, project: Project) -> None:
        """Tell about one value, unless there is nothing to tell or its place was told about already."""
        mark = _own_mark(project.tree, path)
        made = mark.source.made.get((mark.line, mark.column)) if mark else None
        shadowed = mark.source.shadowed.get((mark.line, mark.column), []) if mark else []
        shadowed = [one for one in shadowed if _concerns(one, path)]
        files: Sequence[Definition] = ()
        if len(path) == 4 and path[0] == "services" and path[2] == "environment":
            files = project.env_file_values.get(str(path[1]), {}).get(str(path[3]), ())[::-1]
        if not (made or shadowed or files):
            return
        key = (*path[:2], mark.source.name, mark.line, mark.column) if mark else path
        if key in self.told:
            return
        self.told.add(key)
        self.lines.append(f"{path_text(path)}: {_shown(value)}")
        if mark:
            written = made.template if made else value
            self.lines.append(f"    {self.place(mark)}: {_shown(written)}")
            self.made(made, 8)
        elif files:
            self.definition(str(path[3]), files[0], 4, "from ", 0)
            files = files[1:]
        for one in reversed(shadowed):
            where = f"{self.place(one.mark)}: " if one.mark else ""
            self.lines.append(f"    over {where}{_shown(one.value)}")
        for definition in files:
            self.definition(str(path[-1]), definition, 4, "over ", 0)

    def made(self, made: Made | None, indent: int) -> None:
        for name in made.names if made else ():
            found = made.variables.definitions(name) if made and isinstance(made.variables, Variables) else []
            self.use(Use(name, tuple(found)), indent, 0)

    def use(self, use: Use, indent: int, depth: int) -> None:
        """Tell which definition of a variable holds, and which do not."""
        if not use.definitions:
            self.lines.append(f"{' ' * indent}{use.name} is not set")
            return
        self.definition(use.name, use.definitions[0], indent, "", depth)
        for other in use.definitions[1:]:
            self.lines.append(f"{' ' * (indent + 4)}over {use.name}={_shown(other.value)} from {self.origin(other)}")

    def definition(self, name: str, one: Definition, indent: int, word: str, depth: int) -> None:
        shown = f"{name}={_shown(one.value)}"
        line = f"{shown} from {self.origin(one)}" if word != "from " else f"{self.origin(one)}: {shown}"
        self.lines.append(f"{' ' * indent}{'' if word == 'from ' else word}{line}")
        if depth < MAX_NESTING:
            for use in one.uses:
                self.use(use, indent + 4, depth + 1)

    def origin(self, one: Definition) -> str:
        if one.file is None:
            return "the shell" if one.line == 0 else "the project's name"
        return f"{self.file(one.file)}:{one.line}"

    def place(self, mark: Mark | None) -> str:
        return f"{self.file(mark.source.name)}:{mark.line}:{mark.column}" if mark else ""

    def file(self, name: str) -> str:
        inside = self.directory and name.startswith(self.directory.rstrip("/") + "/")
        return os.path.relpath(name, self.directory) if inside else name


def _own_mark(tree: Any, path: Path) -> Mark | None:
    """Return the mark of the entry at `path` itself, None when only what encloses it has one."""
    holder = tree
    for step in path[:-1]:
        try:
            holder = holder[step]
        except (KeyError, IndexError, TypeError):
            return None
    key = path[-1]
    if isinstance(holder, Map):
        return holder.marks.get(key) if isinstance(key, str) and key in holder else None
    if isinstance(holder, Seq):
        at = entry_index(holder, key) if isinstance(key, str) else key
        return holder.marks[at] if at < len(holder.marks) else None
    return None


def _concerns(one: Shadowed, path: Path) -> bool:
    return one.path[:2] == path[:2]


def _shown(value: Any) -> str:
    text = value if isinstance(value, str) else _json(value)
    text = text.replace("\n", "\\n")
    return text if len(text) <= _WIDTH else text[: _WIDTH - 1] + "…"


def _json(value: Any) -> str:
    try:
        return dump_json(value)
    except ValueError:
        return str(value)
