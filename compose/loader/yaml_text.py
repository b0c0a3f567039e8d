"""Writing YAML exactly as go-yaml 3 does with an indent of two: the style of each string, the order of keys.

A string is plain where the text reads back as the same string, double-quoted where YAML 1.1 would read a boolean or
number, single-quoted where only punctuation is in the way, a `|` block where it has several lines. The rules are those
of go-yaml's emitter (emitterc.go), its oddities included: characters beyond U+FFFF are escaped, and so is every
character of a string that starts with a byte order mark.
"""

from __future__ import annotations

import functools
import re
from typing import Any

from pycompose.compose.loader.tree import Date
from pycompose.compose.loader.units import go_text
from pycompose.compose.loader.yaml_source import scalar

MAX_SIMPLE_KEY = 128
"""Bytes of a key that stands before its colon; a longer one is written after a question mark."""

_OLD_BOOLEANS = frozenset(
    ["y", "Y", "yes", "Yes", "YES", "on", "On", "ON", "n", "N", "no", "No", "NO", "off", "Off", "OFF"]
)
_BASE_60 = re.compile(r"[-+]?[0-9][0-9_]*(?::[0-5]?[0-9])+(?:\.[0-9_]*)?\Z")
_ORDINARY = re.compile(r"[A-Za-z/][A-Za-z0-9/_.-]*\Z")
_RESERVED = _OLD_BOOLEANS | {"true", "True", "TRUE", "false", "False", "FALSE", "null", "Null", "NULL"}
_BREAKS = "\r\n\x85\u2028\u2029"
_UNPRINTABLE = re.compile(r"[^\n\x20-\x7e\xa0-\ud7ff\ue000-\ufefe\uff00-\ufffd]")
_ESCAPED = re.compile(r'[^\x20-\x7e\xa0-\u2027\u202a-\ud7ff\ue000-\ufefe\uff00-\ufffd]|["\\]')
_BREAK = re.compile(f"[{_BREAKS}]")
_LINE_START = re.compile("(?<=[\u2028\u2029])(?=[^\u2028\u2029])")
_BLOCK_LINE = re.compile("(?:\\A|(?<=[\n\u2028\u2029]))(?=[^\n\u2028\u2029])")
_SPACE_BREAK = re.compile(f" [{_BREAKS}]")
_BREAK_SPACE = re.compile(f"[{_BREAKS}] ")
_INDICATORS = re.compile(r"---|\.\.\.|[#,\[\]{}&*!|>'\"%@`]|[?:-](?:[ \t]|\Z)|.+?(?::(?:[ \t]|\Z)|[ \t]#)", re.S)
_ESCAPES = {
    "\0": "0", "\a": "a", "\b": "b", "\t": "t", "\n": "n", "\v": "v", "\f": "f", "\r": "r", "\x1b": "e", '"': '"',
    "\\": "\\", "\x85": "N", "\xa0": "_", "\u2028": "L", "\u2029": "P",
}  # fmt: skip


def dump(value: Any) -> str:
    """Write a value as one YAML document."""
    out: list[str] = []
    if isinstance(value, dict) and value:
        _mapping(value, 0, out)
    elif isinstance(value, list) and value:
        _sequence(value, 0, out)
    else:
        out.append(_scalar(value, 0) + "\n")
    return "".join(out)


def _mapping(value: dict[str, Any], indent: int, out: list[str], first: str | None = None) -> None:
    for index, (key, item) in enumerate(value.items()):
        lead = first if index == 0 and first is not None else " " * indent
        if _simple(key):
            out.append(f"{lead}{_scalar(key, indent, simple=True)}:")
            _after(item, indent, out)
        else:
            out.append(_ended(f"{lead}? {_scalar(key, indent)}"))
            _entry(f"{' ' * indent}: ", item, indent, out)


def _simple(key: str) -> bool:
    return (len(key) * 4 <= MAX_SIMPLE_KEY or len(key.encode()) <= MAX_SIMPLE_KEY) and not _BREAK.search(key)


def _after(item: Any, indent: int, out: list[str]) -> None:
    if isinstance(item, dict) and item:
        out.append("\n")
        _mapping(item, indent + 2, out)
    elif isinstance(item, list) and item:
        out.append("\n")
        _sequence(item, indent + 2, out)
    else:
        out.append(_ended(f" {_scalar(item, indent)}"))


def _sequence(value: list[Any], indent: int, out: list[str], first: str | None = None) -> None:
    lead = " " * indent + "- "
    for index, item in enumerate(value):
        _entry(f"{first}- " if index == 0 and first is not None else lead, item, indent, out)


def _entry(lead: str, item: Any, indent: int, out: list[str]) -> None:
    """Write an item whose first line starts with `lead`."""
    if isinstance(item, dict) and item:
        _mapping(item, indent + 2, out, lead)
    elif isinstance(item, list) and item:
        _sequence(item, indent + 2, out, lead)
    else:
        out.append(_ended(f"{lead}{_scalar(item, indent)}"))


def _ended(line: str) -> str:
    return line if line[-1] in "\u2028\u2029" else line + "\n"


def _scalar(value: Any, indent: int, simple: bool = False) -> str:
    match value:
        case None:
            return "null"
        case bool():
            return "true" if value else "false"
        case float():
            return {"+Inf": ".inf", "-Inf": "-.inf", "NaN": ".nan"}.get(text := go_text(value), text)
        case int():
            return str(value)
        case dict():
            return "{}"
        case list():
            return "[]"
        case Date():
            return value.shown
    return string(value, indent, simple)


def string(text: str, indent: int, simple: bool = False) -> str:
    """Write a string where lines are indented by `indent`; `simple` is for keys, which have no blocks."""
    if _ORDINARY.match(text) and text not in _RESERVED:
        return text
    several = bool(_BREAK.search(text))
    if several and simple:
        return _double(text)
    if "\n" in text:
        return _literal(text, indent) if _block_allowed(text) else _double(text)
    if _reads_as_other(text):
        return _double(text)
    if not text:
        return '""'
    if not several and text[0] != " " and text[-1] != " " and _quotes_allowed(text) and not _INDICATORS.match(text):
        return text
    return _single(text, indent) if _quotes_allowed(text) else _double(text)


def _reads_as_other(text: str) -> bool:
    """Tell whether plain text would be read as something else than this string."""
    resolved = scalar(text)
    return (
        not isinstance(resolved, str)
        or isinstance(resolved, Date)
        or text in _OLD_BOOLEANS
        or bool(_BASE_60.match(text))
    )


def _quotes_allowed(text: str) -> bool:
    return not (_UNPRINTABLE.search(text) or _SPACE_BREAK.search(text) or _BREAK_SPACE.search(text))


def _block_allowed(text: str) -> bool:
    return not (text[-1] == " " or _SPACE_BREAK.search(text) or _UNPRINTABLE.search(text.replace("\t", "")))


def _single(text: str, indent: int) -> str:
    quoted = text.replace("'", "''")
    if _BREAK.search(text):
        quoted = _LINE_START.sub(" " * (indent + 2), quoted)
    return f"'{quoted}'"


def _literal(text: str, indent: int) -> str:
    hint = "2" if text[0] in " " + _BREAKS else ""
    ends = text[-1] in _BREAKS
    chomp = "-" if not ends else "+" if len(text) == 1 or text[-2] in _BREAKS else ""
    lead = " " * (indent + 2)
    body = text[:-1] if text.endswith("\n") else text
    return f"|{hint}{chomp}\n" + _BLOCK_LINE.sub(lead, body)


def _double(text: str) -> str:
    if text.startswith("\ufeff"):
        return '"' + "".join(_escape(char) for char in text) + '"'
    return '"' + _ESCAPED.sub(lambda match: _escape(match[0]), text) + '"'


def _escape(char: str) -> str:
    if char in _ESCAPES:
        return "\\" + _ESCAPES[char]
    code = ord(char)
    return f"\\x{code:02X}" if code < 0x100 else f"\\u{code:04X}" if code < 0x10000 else f"\\U{code:08X}"


def natural_key(text: str) -> Any:
    """Return a sort key for mapping keys in go-yaml's order, in which `a2` comes before `a10`."""
    return functools.cmp_to_key(_natural)(text)


def _natural(one: str, two: str) -> int:
    if one == two:
        return 0
    return -1 if _less(one, two) else 1


def _less(one: str, two: str) -> bool:
    digits = False
    for index in range(min(len(one), len(two))):
        a, b = one[index], two[index]
        if a == b:
            digits = a.isdecimal()
            continue
        if a.isalpha() and b.isalpha():
            return a < b
        if a.isalpha() or b.isalpha():
            return a.isalpha() if digits else b.isalpha()
        return _less_number(one, two, index)
    return len(one) < len(two)


def _less_number(one: str, two: str, index: int) -> bool:
    """Compare from the first difference on, where at least one has digits; 0 counts with what stands before it."""
    lead = 0
    if "0" in (one[index], two[index]):
        back = index - 1
        while back >= 0 and one[back].isdecimal():
            if one[back] != "0":
                lead = 1
                break
            back -= 1
    left, first = _number_at(one, index, lead)
    right, second = _number_at(two, index, lead)
    if left != right:
        return left < right
    if first != second:
        return first < second
    return one[index] < two[index]


def _number_at(text: str, start: int, number: int) -> tuple[int, int]:
    """Return the number that starts at `start`, after `number` before it, and where it ends."""
    end = start
    while end < len(text) and text[end].isdecimal() and end - start < 1000:
        number = number * 10 + ord(text[end]) - 48
        end += 1
    return number, end
