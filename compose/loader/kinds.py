"""What an attribute may look like: the vocabulary of `attributes.py`, and the check against it.

A `Kind` says at once which YAML types an attribute accepts, what its items or entries are, and how it is written in
the canonical model (`canon`, applied by `typed.py`). `check` reports every violation, not just the first.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import Any

from pycompose.compose.loader.errors import MAX_PROBLEMS, Problem, nearest
from pycompose.compose.loader.tree import Date, Path, mark_of, marked

STRING, NUMBER, INTEGER, WHOLE, BOOLEAN, NULL, MAPPING, LIST = (
    "string",
    "number",
    "integer",
    "whole number",
    "boolean",
    "null",
    "mapping",
    "list",
)
"""The YAML types. `1.0` is an integer, as in JSON schema; a whole number has no decimal point at all."""


@dataclass(frozen=True)
class Kind:
    """The forms of one attribute.

    `types`: the YAML types accepted. `items`, `values`, `fields`: kinds of list items, of entries with free keys, of
    named keys. `canon`: the name of the conversion to canonical form. `keep`: what is printed though it is empty
    ("never": Go's omitempty; "zero": a pointer, kept when set; "always": printed even when absent, as `default`).
    `key_pattern`: what free keys look like; with `open_keys` others are allowed too.
    `alone`: it refuses `x-` keys. `printed`: False for what Docker Compose reads and does not print.
    `extensions`: False where it drops `x-` keys.
    """

    types: frozenset[str]
    items: Kind | None = None
    values: Kind | None = None
    fields: dict[str, Kind] | None = None
    required: tuple[str, ...] = ()
    unique: bool = False
    enum: tuple[str, ...] = ()
    pattern: str = ""
    minimum: float | None = None
    maximum: float | None = None
    key_pattern: str = ""
    open_keys: bool = False
    canon: str = ""
    keep: str = "never"
    default: Any = None
    alone: bool = False
    printed: bool = True
    extensions: bool = True
    json_names: dict[str, str] = field(default_factory=dict)

    def with_(self, **changes: Any) -> Kind:
        """Return a copy with some of its properties changed."""
        return replace(self, **changes)


def kind(*types: str, **properties: Any) -> Kind:
    """Make a kind from type names and properties."""
    return Kind(frozenset(types), **properties)


def struct(fields: dict[str, Kind], *others: str, **properties: Any) -> Kind:
    """Make a mapping with named keys; `others` are further types accepted in its place."""
    return Kind(frozenset((MAPPING, *others)), fields=fields, canon=properties.pop("canon", "struct"), **properties)


def list_of(items: Kind, *others: str, **properties: Any) -> Kind:
    """Make a list; `others` are further types accepted in its place."""
    return Kind(frozenset((LIST, *others)), items=items, canon=properties.pop("canon", "list"), **properties)


def map_of(values: Kind, *others: str, **properties: Any) -> Kind:
    """Make a mapping with free keys; `others` are further types accepted in its place."""
    return Kind(frozenset((MAPPING, *others)), values=values, canon=properties.pop("canon", "map"), **properties)


_MAX_DIGITS = 400
_NUMBER_TEXT = re.compile(r"[-+]?[0-9]+(\.[0-9]*)?([eE][-+]?[0-9]{1,3})?\Z")
_NAMES = {
    str: (STRING,),
    bool: (BOOLEAN,),
    int: (INTEGER, NUMBER, WHOLE),
    float: (NUMBER,),
    type(None): (NULL,),
}


def check(value: Any, kind: Kind, container: Any, path: Path, problems: list[Problem]) -> None:
    """Append to `problems` everything about `value` that `kind` does not allow, up to about `MAX_PROBLEMS`.

    `container` is what holds the value under the last step of `path`; it knows the value's place.
    """
    types = kind.types
    if len(problems) > MAX_PROBLEMS:
        return
    match value:
        case dict():
            if MAPPING not in types:
                _wrong_type(value, kind, container, path, problems)
            elif kind.fields is not None:
                _check_fields(value, kind, container, path, problems)
            else:
                _check_entries(value, kind, path, problems)
        case list():
            if LIST not in types:
                _wrong_type(value, kind, container, path, problems)
            else:
                _check_items(value, kind, path, problems)
        case _:
            names = _NAMES.get(type(value), ("date",))
            if not any(name in types for name in names) and not (
                type(value) is float and INTEGER in types and value.is_integer()
            ):
                _wrong_type(value, kind, container, path, problems)
            elif kind.enum or kind.pattern or kind.minimum is not None:
                _check_value(value, kind, container, path, problems)


def _check_fields(value: dict[str, Any], kind: Kind, container: Any, path: Path, problems: list[Problem]) -> None:
    fields = kind.fields or {}
    for key, item in value.items():
        below = fields.get(key)
        if below is not None:
            check(item, below, value, (*path, key), problems)
        elif not kind.open_keys and (kind.alone or not key.startswith("x-")) and len(problems) <= MAX_PROBLEMS:
            problems.append(Problem.at(mark_of(value, key), (*path, key), "unknown key", nearest(key, fields)))
    for name in kind.required:
        if name not in value:
            mark = mark_of(container, path[-1]) if path else None
            problems.append(Problem.at(mark, path, f'"{name}" is missing here'))


def _check_entries(value: dict[str, Any], kind: Kind, path: Path, problems: list[Problem]) -> None:
    pattern, values = kind.key_pattern, kind.values
    for key, item in value.items():
        if pattern and not kind.open_keys and not re.search(pattern, key):
            message = f"{key!r} is not a name"
            remedy = "use letters, digits, dots, hyphens and underscores"
            problems.append(Problem.at(mark_of(value, key), (*path, key), message, remedy))
        elif values is not None:
            check(item, values, value, (*path, key), problems)


def _check_items(value: list[Any], kind: Kind, path: Path, problems: list[Problem]) -> None:
    if kind.items is not None:
        for index, item in enumerate(value):
            check(item, kind.items, value, (*path, index), problems)
    if kind.unique and len(value) > 1:
        _check_unique(value, path, problems)


def _check_unique(value: list[Any], path: Path, problems: list[Problem]) -> None:
    """Find equal items. As for Docker Compose, a number also equals earlier text that reads as it."""
    seen: dict[Any, int] = {}
    read: dict[Decimal, int] = {}
    for index, (item, mark) in enumerate(marked(value)):
        key = _comparable(item)
        earlier = seen.get(key)
        if earlier is None and isinstance(key, Decimal):
            earlier = read.get(key)
        if isinstance(key, str) and len(key) < _MAX_DIGITS and _NUMBER_TEXT.match(key):
            read.setdefault(Decimal(key), index)
        if earlier is not None:
            first = mark_of(value, earlier)
            where = f", line {first.line}" if first else ""
            problems.append(Problem.at(mark, (*path, index), f"the same as item {earlier}{where}", "remove one"))
        seen.setdefault(key, index)


def _comparable(item: Any) -> Any:
    """Return a value that is equal for equal items."""
    match item:
        case dict():
            return ("mapping", tuple((key, _comparable(item[key])) for key in sorted(item)))
        case list():
            return ("list", tuple(map(_comparable, item)))
        case bool() | None:
            return ("constant", item)
        case int() | float():
            return Decimal(repr(item)) if item == item else ("constant", "nan")
    return item


def _check_value(value: Any, kind: Kind, container: Any, path: Path, problems: list[Problem]) -> None:
    message = remedy = ""
    if isinstance(value, str):
        if kind.enum and value not in kind.enum:
            message, remedy = f"{value!r} is not one of {', '.join(kind.enum)}", nearest(value, kind.enum)
        elif kind.pattern and not re.search(kind.pattern, value):
            message = f"{value!r} is not allowed here"
    elif kind.minimum is not None and type(value) is not bool and value is not None:
        if value < kind.minimum:
            message = f"must be greater than or equal to {kind.minimum}"
        elif kind.maximum is not None and value > kind.maximum:
            message = f"must be less than or equal to {kind.maximum}"
    if message:
        problems.append(Problem.at(mark_of(container, path[-1]), path, message, remedy))


def _wrong_type(value: Any, kind: Kind, container: Any, path: Path, problems: list[Problem]) -> None:
    wanted = " or ".join(sorted(kind.types - {INTEGER} if NUMBER in kind.types else kind.types))
    remedy = ""
    if isinstance(value, Date):
        got, remedy = "a date", "write it in quotes"
    elif value is None:
        got, remedy = "nothing", "give it a value or remove the key"
    elif isinstance(value, dict):
        got = "a mapping"
    elif isinstance(value, list):
        got = "a list"
    else:
        shown = str(value).lower() if isinstance(value, bool) else value
        got = f"the {_NAMES[type(value)][0]} {shown!r}" if isinstance(value, str) else f"{_an(type(value))} {shown}"
        if STRING in kind.types and not isinstance(value, str):
            remedy = f'write "{shown}"'
    problems.append(
        Problem.at(
            mark_of(container, path[-1]) if path else None, path, f"must be {_article(wanted)}, not {got}", remedy
        )
    )


def _an(kind: type) -> str:
    return {bool: "the boolean", int: "the number", float: "the number"}.get(kind, "the value")


def _article(words: str) -> str:
    return f"an {words}" if words[0] in "aeiou" else f"a {words}"
