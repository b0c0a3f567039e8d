"""The annotated tree: plain dicts and lists that remember where they were written.

`Map` and `Seq` are ordinary dict and list to every reader; beside their content they keep one `Mark` per entry. A step
that builds new containers passes the marks on; one that forgets loses only the precision of a message, because
`locate` falls back to the nearest enclosing mark.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

Path = tuple["str | int", ...]
MAX_NODES = 300_000
"""Values in one file after aliases and `extends` are written out: 2,000 services with 100 variables each fit."""


class Made(NamedTuple):
    """How the value at one place was made: the text as written, the variables in it, and what defines those."""

    template: str
    names: tuple[str, ...]
    variables: Any


class Shadowed(NamedTuple):
    """A value that another one replaced, for `path`; its mark says where it was written."""

    path: Path
    value: Any
    mark: Mark | None


class Source:
    """One file's text, under the name it is shown by.

    `made` and `shadowed` tell, by line and column of the values that hold, how they were made and what they replaced.
    """

    __slots__ = ("_lines", "made", "name", "shadowed", "text")

    def __init__(self, name: str, text: str) -> None:
        self.name = name
        self.text = text
        self.made: dict[tuple[int, int], Made] = {}
        self.shadowed: dict[tuple[int, int], list[Shadowed]] = {}
        self._lines: list[str] | None = None

    def line(self, number: int) -> str:
        """Return line `number` (from 1), or nothing past the end."""
        if self._lines is None:
            self._lines = self.text.split("\n")
        return self._lines[number - 1].rstrip("\r") if 0 < number <= len(self._lines) else ""


class Mark(NamedTuple):
    """A place in a file; line and column count from 1."""

    source: Source
    line: int
    column: int


class Reset(NamedTuple):
    """A path that a file marks `!reset` or `!override`, and where."""

    path: Path
    mark: Mark | None


class Map(dict[str, Any]):
    """A mapping with the mark of each key, and its own."""

    __slots__ = ("mark", "marks")

    def __init__(self, items: Any = (), mark: Mark | None = None, marks: dict[str, Mark] | None = None) -> None:
        super().__init__(items)
        self.mark = mark
        self.marks: dict[str, Mark] = {} if marks is None else marks


class Seq(list[Any]):
    """A list with the mark of each item, and its own. `marks` may be shorter than the list."""

    __slots__ = ("mark", "marks")

    def __init__(self, items: Iterable[Any] = (), mark: Mark | None = None, marks: list[Mark | None] | None = None):
        super().__init__(items)
        self.mark = mark
        self.marks: list[Mark | None] = [] if marks is None else marks

    def add(self, item: Any, mark: Mark | None) -> None:
        """Append an item together with its mark."""
        self.marks.extend([None] * (len(self) - len(self.marks)))
        self.append(item)
        self.marks.append(mark)

    def marked(self) -> Iterator[tuple[Any, Mark | None]]:
        """Iterate over items with their marks."""
        for index, item in enumerate(self):
            yield item, self.marks[index] if index < len(self.marks) else self.mark


class Date(str):
    """A YAML timestamp that was not quoted; Compose has no attribute that takes one. `shown` is its RFC 3339 form."""

    __slots__ = ("shown",)
    shown: str

    def __new__(cls, text: str, shown: str) -> Date:
        made = super().__new__(cls, text)
        made.shown = shown
        return made


def marked(value: Any) -> Iterator[tuple[Any, Mark | None]]:
    """Iterate over any list's items with their marks, if it has them."""
    if isinstance(value, Seq):
        yield from value.marked()
    else:
        for item in value:
            yield item, None


def remember(mark: Mark | None, path: Path, value: Any, before: Mark | None) -> None:
    """Note that the value written at `mark` replaced another one."""
    if mark is not None and before != mark and value is not None:
        found = mark.source.shadowed.setdefault((mark.line, mark.column), [])
        found.append(Shadowed(path, value, before))


def mark_of(container: Any, key: str | int) -> Mark | None:
    """Return the mark of one entry, else of the container."""
    if isinstance(container, Map):
        return container.marks.get(key, container.mark)  # type: ignore[arg-type]
    if isinstance(container, Seq):
        if isinstance(key, int) and key < len(container.marks) and container.marks[key] is not None:
            return container.marks[key]
        return container.mark
    return None


def locate(tree: Any, path: Path) -> Mark | None:
    """Return the mark of the deepest entry on `path` that has one."""
    best = tree.mark if isinstance(tree, Map | Seq) else None
    for step in path:
        step = entry_index(tree, step) if isinstance(tree, list) and isinstance(step, str) else step
        best = mark_of(tree, step) or best
        try:
            tree = tree[step]
        except (KeyError, IndexError, TypeError):
            break
    return best


def entry_index(items: list[Any], name: str) -> int:
    """Return where `NAME` or `NAME=value` stands in a list, its length when nowhere."""
    start = name + "="
    return next(
        (at for at, one in enumerate(items) if isinstance(one, str) and (one == name or one.startswith(start))),
        len(items),
    )


def clone(value: Any) -> Any:
    """Copy a tree deeply; marks are shared values, their tables are copied."""
    if isinstance(value, dict):
        copied = Map({key: clone(item) for key, item in value.items()})
        if isinstance(value, Map):
            copied.mark, copied.marks = value.mark, dict(value.marks)
        return copied
    if isinstance(value, list):
        items = Seq([clone(item) for item in value])
        if isinstance(value, Seq):
            items.mark, items.marks = value.mark, list(value.marks)
        return items
    return value


def size(value: Any) -> int:
    """Return how many values a tree holds."""
    if isinstance(value, dict):
        return 1 + sum(map(size, value.values()))
    if isinstance(value, list):
        return 1 + sum(map(size, value))
    return 1


def path_text(path: Path) -> str:
    """Write a path as `services.web.ports[0]`."""
    text = ""
    for step in path:
        text += f"[{step}]" if isinstance(step, int) else f".{step}" if text else step
    return text
