"""Every rule of the schema, taken from the loader's own tables: the message names file, line, column and key, and shows
the line; with a second error in the file both are told."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress

import pytest

from pycompose.compose.loader import LoadError, MemoryFiles, load
from pycompose.compose.loader.attributes import PROJECT
from pycompose.compose.loader.kinds import BOOLEAN, INTEGER, LIST, MAPPING, NULL, NUMBER, STRING, WHOLE, Kind
from pycompose.compose.loader.tree import path_text

Path = tuple[str | int, ...]
FILE = "/p/compose.yaml"
#: A value of each type, as it is written.
WRITTEN = {
    STRING: "word",
    NUMBER: "1.5",
    INTEGER: "7",
    BOOLEAN: "true",
    NULL: "",
    MAPPING: "{some: thing}",
    LIST: "[one]",
}
#: What is read, and so checked, before the tables are asked.
ELSEWHERE = {("include",), ("services", "one", "extends")}


def attributes(kind: Kind = PROJECT, path: Path = ()) -> Iterator[tuple[Path, Kind]]:
    """Each attribute with its kind; free keys are called `one`."""
    if path:
        yield path, kind
    for key, below in (kind.fields or {}).items():
        if (*path, key) not in ELSEWHERE:
            yield from attributes(below, (*path, key))
    if kind.values is not None:
        yield from attributes(kind.values, (*path, "one"))
    if kind.items is not None:
        yield from attributes(kind.items, (*path, 0))


ATTRIBUTES = {path_text(path): (path, kind) for path, kind in attributes()}


def document(path: Path, value: str) -> str:
    """A file that has the value at the path, each step on a line of its own, the value on the last one."""
    lines = []
    for depth, step in enumerate(path):
        lines.append("  " * depth + ("-" if isinstance(step, int) else f"{step}:"))
    return "\n".join(lines) + f" {value}\n"


def problems(text: str) -> list[str]:
    """Messages with their two lines of source."""
    with pytest.raises(LoadError) as caught:
        load([FILE], files=MemoryFiles({FILE: text}))
    return [str(problem) for problem in caught.value.problems]


def expected(path: Path, line: int) -> str:
    """How the message about the last step of the path begins."""
    column = 2 * (len(path) - 1) + (3 if isinstance(path[-1], int) else 1)
    return f"{FILE}:{line}:{column}: {path_text(path)}: "


def holds(path: Path, value: str, says: str) -> None:
    """The file with this value is refused with a message that begins and says so; another error is told as well."""
    text = document(path, value)
    line = len(path)
    for whole, rest in ((text, ""), (text + "nonsense: 1\n", "nonsense: unknown key")):
        found = problems(whole)
        (mine,) = [each for each in found if each.startswith(expected(path, line)) and says in each] or [None]
        assert mine is not None, f"{whole}\n{found}"
        assert mine.splitlines()[1].strip() == text.splitlines()[-1].strip()
        assert mine.splitlines()[2].strip() == "^"
        assert any(rest in each for each in found), found


def accepted(kind: Kind) -> set[str]:
    """Types that the kind takes, with those that another one includes."""
    types = set(kind.types)
    return types | ({INTEGER, WHOLE} if NUMBER in types else {WHOLE} if INTEGER in types else set())


@pytest.mark.parametrize("name", ATTRIBUTES)
def test_wrong_types(name: str) -> None:
    path, kind = ATTRIBUTES[name]
    for type_, value in WRITTEN.items():
        if type_ in accepted(kind) or (type_ == NULL and isinstance(path[-1], int)):
            continue
        if type_ == INTEGER and WHOLE in kind.types:
            continue
        holds(path, value, "must be ")


WITH_FIELDS = {name: one for name, one in ATTRIBUTES.items() if one[1].fields and not one[1].open_keys}


@pytest.mark.parametrize("name", WITH_FIELDS)
def test_unknown_keys(name: str) -> None:
    path, kind = WITH_FIELDS[name]
    assert kind.fields
    known = max(kind.fields, key=len)
    holds((*path, f"{known}x"), "1", f'unknown key; did you mean "{known}"?')


WITH_VALUES = {name: one for name, one in ATTRIBUTES.items() if one[1].enum or one[1].minimum is not None}


@pytest.mark.parametrize("name", WITH_VALUES)
def test_values_out_of_bounds(name: str) -> None:
    path, kind = WITH_VALUES[name]
    if kind.enum:
        holds(path, "neverheardof", "'neverheardof' is not one of ")
    if kind.minimum is not None:
        holds(path, str(int(kind.minimum) - 1), "must be greater than or equal to ")
    if kind.maximum is not None:
        holds(path, str(int(kind.maximum) + 1), "must be less than or equal to ")


UNIQUE = {name: one for name, one in ATTRIBUTES.items() if one[1].unique}


#: Where Docker Compose, and so we, take a repeated item for one.
ONCE = {
    *(f"services.one.{key}" for key in ("annotations", "cap_add", "cap_drop", "dns", "dns_opt", "dns_search")),
    *(f"services.one.{key}" for key in ("environment", "expose", "labels", "links", "ports", "profiles", "sysctls")),
    *(f"services.one.{key}" for key in ("tmpfs", "volumes", "deploy.labels")),
    *(f"services.one.build.{key}" for key in ("args", "labels", "additional_contexts")),
    *(f"services.one.networks.one.{key}" for key in ("aliases", "link_local_ips")),
    "networks.one.labels",
}


def repeated(path: Path, kind: Kind) -> str:
    """A file in which an item stands twice."""
    assert kind.items is not None
    item = "{}" if STRING not in kind.items.types else "80:80" if path[-1] == "ports" else "same=1"
    return document(path, f"[{item}, {item}]")


@pytest.mark.parametrize("name", UNIQUE)
def test_items_that_are_there_twice(name: str) -> None:
    path, kind = UNIQUE[name]
    text = repeated(path, kind)
    if name not in ONCE:
        (mine,) = [each for each in problems(text) if "the same as item 0" in each]
        assert mine.startswith(f"{FILE}:{len(path)}:")
        assert f" {path_text((*path, 1))}: " in mine
        return
    with suppress(LoadError):  # for other reasons
        found = load([FILE], files=MemoryFiles({FILE: text}))
        assert str(found.model).count("same") <= 1


REQUIRED = {name: one for name, one in ATTRIBUTES.items() if one[1].required}


@pytest.mark.parametrize("name", REQUIRED)
def test_keys_that_are_missing(name: str) -> None:
    path, kind = REQUIRED[name]
    found = problems(document(path, "{x-other: 1}"))
    for key in kind.required:
        assert any(each.startswith(expected(path, len(path))) and f'"{key}" is missing here' in each for each in found)


def test_the_tables_are_not_empty() -> None:
    assert len(ATTRIBUTES) > 400
    assert min(map(len, (WITH_FIELDS, WITH_VALUES, UNIQUE, REQUIRED))) >= 5
