"""Writing JSON exactly as Go's encoding/json does."""

from __future__ import annotations

import re
from decimal import Decimal
from json.encoder import encode_basestring
from typing import Any

from pycompose.compose.loader.tree import Date

_ESCAPED = re.compile("[<>&\u2028\u2029]")


def dump_json(value: Any, indent: str = "") -> str:
    """Write a value with its keys in their order.

    Args:
        value: dicts with string keys, lists and scalars.
        indent: what one level is indented by; empty: all on one line, as Go's Marshal.

    Raises:
        ValueError: it holds an infinite number, or one that is none.
    """
    out: list[str] = []
    _write(value, "\n" if indent else "", indent, out)
    return "".join(out)


def _write(value: Any, lead: str, indent: str, out: list[str]) -> None:
    if isinstance(value, dict) and value:
        below = lead + indent
        start, colon = "{" + below, ": " if indent else ":"
        for key, item in value.items():
            out.append(f"{start}{_string(key)}{colon}")
            _write(item, below, indent, out)
            start = "," + below
        out.append(lead + "}")
    elif isinstance(value, list) and value:
        below = lead + indent
        start = "[" + below
        for item in value:
            out.append(start)
            _write(item, below, indent, out)
            start = "," + below
        out.append(lead + "]")
    else:
        out.append(_scalar(value))


def _scalar(value: Any) -> str:
    match value:
        case Date():
            return _string(value.shown)
        case str():
            return _string(value)
        case None:
            return "null"
        case bool():
            return "true" if value else "false"
        case float():
            return _number(value)
        case dict():
            return "{}"
        case list():
            return "[]"
    return str(value)


def _string(text: str) -> str:
    quoted: str = encode_basestring(text)
    return _ESCAPED.sub(lambda match: f"\\u{ord(match[0]):04x}", quoted)


def _number(value: float) -> str:
    """Write a number with an exponent only below 1e-6 and from 1e21 on."""
    if value != value or value in (float("inf"), float("-inf")):
        raise ValueError(f"JSON has no number {value}")
    digits = Decimal(repr(value))
    if value == 0 or 1e-6 <= abs(value) < 1e21:
        return f"{digits:f}".removesuffix(".0")
    sign, figures, _ = digits.normalize().as_tuple()
    mantissa = str(figures[0]) + ("." + "".join(map(str, figures[1:])) if len(figures) > 1 else "")
    return f"{'-' if sign else ''}{mantissa}e{digits.adjusted():+d}"
