"""Writing YAML exactly as go-yaml 3 does with an indent of two: the style of each string, the order of keys.

A string is plain where the text reads back as the same string, double-quoted where YAML 1.1 would read a boolean or
number, single-quoted where only punctuation is in the way, a `|` block where it has several lines.
"""

from __future__ import annotations

import functools
import re
from typing import Any

from pycompose.compose.loader.tree import Date
from pycompose.compose.loader.units import go_text
from pycompose.compose.loader.yaml_source import scalar

_OLD_BOOLEANS = frozenset(
    ["y", "Y", "yes", "Yes", "YES", "on", "On", "ON", "n", "N", "no", "No", "NO", "off", "Off", "OFF"]
)
_BASE_60 = re.compile(r"[-+]?[0-9][0-9_]*(?::[0-5]?[0-9])+(?:\.[0-9_]*)?\Z")
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
        out.append(f"{lead}{_scalar(key, indent, simple=True)}:")
        _after(item, indent, out)


def _after(item: Any, indent: int, out: list[str]) -> None:
    if isinstance(item, dict) and item:
        out.append("\n")
        _mapping(item, indent + 2, out)
    elif isinstance(item, list) and item:
        out.append("\n")
        _sequence(item, indent + 2, out)
    else:
        out.append(f" {_scalar(item, indent)}\n")


def _sequence(value: list[Any], indent: int, out: list[str]) -> None:
    lead = " " * indent + "- "
    for item in value:
        if isinstance(item, dict) and item:
            _mapping(item, indent + 2, out, lead)
        elif isinstance(item, list) and item:
            below: list[str] = []
            _sequence(item, indent + 2, below)
            out.append(lead + "".join(below)[indent + 2 :])
        else:
            out.append(f"{lead}{_scalar(item, indent)}\n")


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
    text = str(value)
    if _reads_as_other(text):
        return _double(text)
    if "\n" in text and not simple:
        return _literal(text, indent) if _block_allowed(text) else _double(text)
    if _plain_allowed(text):
        return text
    return f"'{text.replace(chr(39), chr(39) * 2)}'" if _single_allowed(text) else _double(text)


def _reads_as_other(text: str) -> bool:
    """Tell whether plain text would be read as something else than this string."""
    resolved = scalar(text)
    return (
        not isinstance(resolved, str)
        or isinstance(resolved, Date)
        or text in _OLD_BOOLEANS
        or bool(_BASE_60.match(text))
    )


def _special(char: str) -> bool:
    """Tell whether a character cannot be printed as it is (go-yaml is_printable)."""
    code = ord(char)
    return not (
        char == "\n" or 0x20 <= code <= 0x7E or 0xA0 <= code <= 0xD7FF
        or (0xE000 <= code <= 0xFFFD and code != 0xFEFF) or 0x10000 <= code <= 0x10FFFF
    )  # fmt: skip


def _breaks(text: str) -> bool:
    return any(char in "\n\r\x85\u2028\u2029" for char in text)


def _plain_allowed(text: str) -> bool:
    if not text or text[0] == " " or text[-1] == " " or _breaks(text) or any(map(_special, text)):
        return False
    if text.startswith(("---", "...")):
        return False
    first = text[0]
    if first in "#,[]{}&*!|>'\"%@`":
        return False
    if first in "-?:" and (len(text) == 1 or text[1] in " \t"):
        return False
    return ": " not in text and not text.endswith(":") and " #" not in text and ":\t" not in text


def _single_allowed(text: str) -> bool:
    return not any(map(_special, text)) and not re.search(r" \n|\n ", text) and not _breaks(text)


def _block_allowed(text: str) -> bool:
    return not any(map(_special, text)) and not re.search(r" \n", text) and not text.endswith(" ") and "\r" not in text


def _literal(text: str, indent: int) -> str:
    hint = "2" if text[0] in " \n" else ""
    chomp = "-" if not text.endswith("\n") else "+" if text == "\n" or text.endswith("\n\n") else ""
    lead = " " * (indent + 2)
    body = text[:-1] if text.endswith("\n") else text
    lines = [lead + line if line else "" for line in body.split("\n")]
    return f"|{hint}{chomp}\n" + "\n".join(lines)


def _double(text: str) -> str:
    out = []
    for char in text:
        if char in _ESCAPES and (char in '"\\' or _special(char) or char in "\n\x85\xa0\u2028\u2029"):
            out.append("\\" + _ESCAPES[char])
        elif _special(char):
            code = ord(char)
            out.append(f"\\x{code:02X}" if code < 0x100 else f"\\u{code:04X}" if code < 0x10000 else f"\\U{code:08X}")
        else:
            out.append(char)
    return '"' + "".join(out) + '"'


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
            digits = a.isdigit()
            continue
        if a.isalpha() and b.isalpha():
            return a < b
        if a.isalpha() or b.isalpha():
            return a.isalpha() if digits else b.isalpha()
        return _less_number(one, two, index)
    return len(one) < len(two)


def _less_number(one: str, two: str, index: int) -> bool:
    lead = 0
    if "0" in (one[index], two[index]):
        back = index - 1
        while back >= 0 and one[back].isdigit():
            if one[back] != "0":
                lead = 1
                break
            back -= 1
    first, second = _digits(one, index), _digits(two, index)
    left, right = int(f"{lead}{first}"), int(f"{lead}{second}")
    if left != right:
        return left < right
    if len(first) != len(second):
        return len(first) < len(second)
    return one[index] < two[index]


def _digits(text: str, start: int) -> str:
    end = start
    while end < len(text) and text[end] in "0123456789" and end - start < 100:
        end += 1
    return text[start:end]
