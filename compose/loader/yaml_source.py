"""From a file's text to annotated trees, one for each YAML document in it.

Values are read as Docker Compose's YAML library (go-yaml 3) reads them, which is nearly YAML 1.2: `yes`, `on` and
`22:22` are strings, `0777`, `0o777` and `0x1ff` integers. The text is read as a stream of events, never as recursive
nodes, so that neither depth nor aliases can exhaust the process: both are counted while the tree is built.

`!reset` and `!override` (Compose's own tags) are not values: the paths that carry them are listed beside the tree and
applied when it is merged over another file.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import yaml

from pycompose.compose.loader.dates import read_date
from pycompose.compose.loader.errors import LoadError, Problem
from pycompose.compose.loader.tree import MAX_NODES, Map, Mark, Path, Reset, Seq, Source, clone, size

MAX_DEPTH = 100
"""Levels of nesting; Compose's own attributes need ten."""
MAX_BYTES = 16 * 1024 * 1024

_CONSTANTS: dict[str, Any] = {"": None, "~": None, "null": None, "Null": None, "NULL": None}
_CONSTANTS |= dict.fromkeys(("true", "True", "TRUE"), True) | dict.fromkeys(("false", "False", "FALSE"), False)
_CONSTANTS |= dict.fromkeys((".inf", ".Inf", ".INF", "+.inf", "+.Inf", "+.INF"), float("inf"))
_CONSTANTS |= dict.fromkeys(("-.inf", "-.Inf", "-.INF"), float("-inf"))
_CONSTANTS |= dict.fromkeys((".nan", ".NaN", ".NAN"), float("nan"))
_INTEGER = re.compile(r"[-+]?(0[xX][0-9a-fA-F]+|0[oO]?[0-7]+|0[bB][01]+|0|[1-9][0-9]*)\Z|0b[-+][01]+\Z|0o[-+][0-7]+\Z")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?\Z")
_POINTED = re.compile(r"\.[0-9](_?[0-9])*([eE][-+]?[0-9](_?[0-9])*)?\Z")
_STANDARD_TAG = "tag:yaml.org,2002:"


@dataclass(frozen=True, slots=True)
class Document:
    """One YAML document: its tree, and the paths marked `!reset` or `!override` in it."""

    tree: Any
    resets: tuple[Reset, ...]


def parse(source: Source) -> list[Document]:
    """Read all documents of a file.

    Raises:
        LoadError: the text is not YAML, has a key twice, or passes a limit (`MAX_DEPTH`, `MAX_NODES`, `MAX_BYTES`).
    """
    if len(source.text) > MAX_BYTES:
        raise LoadError(Problem(f"larger than {MAX_BYTES >> 20} MB", file=source.name))
    builder = _Builder(source)
    try:
        return list(builder.documents(yaml.parse(source.text, Loader=yaml.CSafeLoader)))
    except yaml.YAMLError as error:
        raise LoadError(_yaml_problem(source, error)) from None


def scalar(text: str) -> Any:
    """Resolve an unquoted scalar as go-yaml 3 does (resolve.go)."""
    if text in _CONSTANTS:
        return _CONSTANTS[text]
    first = text[0]
    if first not in "0123456789+-.":
        return text
    if first == ".":
        return _finite(text, text) if _POINTED.match(text) else text
    if text[4:5] == "-" and (moment := read_date(text)):
        return moment
    plain = text.replace("_", "")
    if len(plain) > 300:
        return text
    if _INTEGER.match(plain):
        number = _integer(plain)
        if -(1 << 63) <= number < 1 << 64:
            return number
    return _finite(plain, text) if _FLOAT.match(plain) else text


def _finite(plain: str, text: str) -> Any:
    number = float(plain)
    return text if number in (float("inf"), float("-inf")) else number


def _integer(plain: str) -> int:
    sign, digits = (-1, plain[1:]) if plain[0] == "-" else (1, plain.lstrip("+"))
    lowered = digits.lower()
    if lowered[:2] in ("0b", "0o") and lowered[2] in "+-":
        return int(lowered[2:], 2 if lowered[1] == "b" else 8)
    if lowered[:2] in ("0x", "0b", "0o"):
        return sign * int(lowered, 0)
    if len(digits) > 1 and digits[0] == "0":
        return sign * int(digits, 8)
    return sign * int(digits)


class _Builder:
    """Builds trees from events; `path` is where it stands."""

    def __init__(self, source: Source) -> None:
        self.source = source
        self.problems: list[Problem] = []
        self.nodes = 0
        self.path: list[str | int] = []
        self.mark_above: Mark | None = None

    def documents(self, events: Iterator[Any]) -> Iterator[Document]:
        for event in events:
            if isinstance(event, yaml.DocumentStartEvent):
                self.anchors: dict[str, Any] = {}
                self.resets: list[Reset] = []
                self.anchor_resets: dict[str, list[Path]] = {}
                tree = self.node(next(events), events)
                if self.problems:
                    raise LoadError(self.problems)
                yield Document(tree, tuple(self.resets))

    def mark(self, event: Any) -> Mark:
        start = event.start_mark
        return Mark(self.source, start.line + 1, start.column + 1)

    def count(self, event: Any, more: int = 1) -> None:
        self.nodes += more
        if self.nodes > MAX_NODES:
            message = f"more than {MAX_NODES:,} values once aliases are written out"
            raise LoadError(Problem.at(self.mark(event), tuple(self.path), message, "use fewer aliases of aliases"))

    def node(self, event: Any, events: Iterator[Any]) -> Any:
        """Build the value that starts with `event`."""
        self.count(event)
        above, self.mark_above = self.mark_above, None
        if isinstance(event, yaml.AliasEvent):
            return self.alias(event)
        anchor = event.anchor
        before = len(self.resets)
        if anchor:
            self.anchors[anchor] = _UNFINISHED
        if event.tag in ("!reset", "!override"):
            self.resets.append(Reset(tuple(self.path), above or self.mark(event)))
        if isinstance(event, yaml.ScalarEvent):
            value = self.scalar(event)
        else:
            if len(self.path) >= MAX_DEPTH:
                message = f"nested more than {MAX_DEPTH} levels deep"
                raise LoadError(Problem.at(self.mark(event), "", message, "no Compose attribute needs that"))
            mapping = isinstance(event, yaml.MappingStartEvent)
            value = self.mapping(event, events) if mapping else self.sequence(event, events)
        if anchor:
            self.anchors[anchor] = value
            depth = len(self.path)
            self.anchor_resets[anchor] = [path[depth:] for path, _ in self.resets[before:]]
        return _RESET if event.tag == "!reset" else value

    def alias(self, event: Any) -> Any:
        name = event.anchor
        if name not in self.anchors:
            raise LoadError(Problem.at(self.mark(event), tuple(self.path), f'there is no anchor "&{name}" above'))
        value = self.anchors[name]
        if value is _UNFINISHED:
            raise LoadError(Problem.at(self.mark(event), tuple(self.path), f'the anchor "&{name}" contains itself'))
        self.resets.extend(Reset((*self.path, *path), self.mark(event)) for path in self.anchor_resets.get(name, ()))
        if isinstance(value, dict | list):
            self.count(event, size(value))
            return clone(value)
        return value

    def scalar(self, event: Any) -> Any:
        text, tag = event.value, event.tag
        if tag is None:
            return scalar(text) if event.implicit[0] else text
        if tag.startswith(_STANDARD_TAG):
            return self.tagged(event, tag.removeprefix(_STANDARD_TAG), text)
        return text

    def tagged(self, event: Any, tag: str, text: str) -> Any:
        """Apply an explicit `!!int`, `!!float`, `!!bool`, `!!null` or `!!str`."""
        if tag in ("str", "binary"):
            return text
        value = scalar(text) if text else None
        kinds: dict[str, Any] = {"int": int, "float": int | float, "bool": bool, "null": type(None)}
        if tag in kinds and not isinstance(value, kinds[tag]):
            raise LoadError(Problem.at(self.mark(event), tuple(self.path), f"{text!r} is not !!{tag}"))
        return float(value) if tag == "float" and value is not None else value

    def sequence(self, event: Any, events: Iterator[Any]) -> Seq:
        result = Seq(mark=self.mark(event))
        while not isinstance(item := next(events), yaml.SequenceEndEvent):
            self.path.append(len(result))
            value = self.node(item, events)
            self.path.pop()
            if value is not _RESET:
                result.append(value)
                result.marks.append(self.mark(item))
        return result

    def mapping(self, event: Any, events: Iterator[Any]) -> Map:
        result = Map(mark=self.mark(event))
        merges: list[Map] = []
        seen: dict[str, Mark] = {}
        while not isinstance(item := next(events), yaml.MappingEndEvent):
            mark = self.mark(item)
            key = self.key(item, events, mark)
            if key in seen:
                message = f'the key "{key}" is here twice, first in line {seen[key].line}, column {seen[key].column}'
                self.problems.append(Problem.at(mark, (*self.path, key), message, "remove one of them"))
            seen[key] = mark
            merge = key == "<<" and item.implicit[0]
            if not merge:
                self.path.append(key)
            self.mark_above = mark
            value = self.node(next(events), events)
            if merge:
                merges.extend(self.merged(value, mark))
            else:
                self.path.pop()
                if value is not _RESET:
                    result[key] = value
                    result.marks[key] = mark
        for merged in merges:
            for key, value in merged.items():
                if key not in result:
                    result[key] = value
                    result.marks[key] = merged.marks[key]
        return result

    def key(self, event: Any, events: Iterator[Any], mark: Mark) -> str:
        if isinstance(event, yaml.ScalarEvent):
            value = self.scalar(event)
        elif isinstance(event, yaml.AliasEvent):
            value = self.alias(event)
        else:
            value = None
        if event.anchor and isinstance(event, yaml.ScalarEvent):
            self.anchors[event.anchor] = value
        if isinstance(value, str):
            return str(value)
        shown = event.value if isinstance(event, yaml.ScalarEvent) else "a list or mapping"
        raise LoadError(Problem.at(mark, tuple(self.path), f"the key {shown} is not a string", "write it in quotes"))

    def merged(self, value: Any, mark: Mark) -> list[Map]:
        """Return the mappings that a `<<` names, in order of precedence."""
        found = value if isinstance(value, Seq) else [value]
        if any(not isinstance(one, Map) for one in found):
            raise LoadError(Problem.at(mark, (*self.path, "<<"), "only a mapping or a list of mappings can be merged"))
        return list(found)


_UNFINISHED = object()
_RESET = object()


def _yaml_problem(source: Source, error: yaml.YAMLError) -> Problem:
    """Say a YAML syntax error in our words where they are clearer."""
    mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
    text = getattr(error, "problem", None) or str(error).splitlines()[0]
    if mark is None:
        return Problem(f"not YAML: {text}", file=source.name)
    place = Mark(source, mark.line + 1, mark.column + 1)
    line = source.line(place.line)
    indent = line[: len(line) - len(line.lstrip())]
    if "\t" in indent or "'\\t'" in text:
        tab = line.find("\t") + 1
        return Problem.at(
            Mark(source, place.line, tab or place.column),
            "",
            "a tab, where YAML allows only spaces",
            "indent with spaces",
        )
    context = getattr(error, "context", None)
    remedy = ""
    if context in ("while parsing a block mapping", "while parsing a block collection"):
        remedy = "check the indentation: this line fits none of those above"
    return Problem.at(place, "", f"not YAML: {text}" + (f" ({context})" if context else ""), remedy)
