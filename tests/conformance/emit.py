"""Writing a generated tree as YAML text, in the many styles that people write it in.

A tree is dicts, lists and scalars, and the nodes below for what plain Python values cannot say. The style (flow or
block, how a string is quoted, indentation) is drawn from a `random.Random`, so that one seed is one text.
"""

from __future__ import annotations

import json
import random
import re
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Raw:
    """A scalar written exactly so, without quotes: its type is what the reader makes of it."""

    text: str


@dataclass(frozen=True)
class Tagged:
    """A node with a tag of its own, such as `!reset`."""

    tag: str
    value: Any


@dataclass(frozen=True)
class Anchored:
    """A node that gets a name."""

    name: str
    value: Any


@dataclass(frozen=True)
class Alias:
    """A reference to an anchored node above."""

    name: str


_PLAIN = re.compile(r"[A-Za-z./_][A-Za-z0-9./_$-]*\Z")
_RESERVED = {"true", "false", "null", "yes", "no", "on", "off", "y", "n", ".nan", ".inf"}


def yaml_text(tree: Any, style: random.Random) -> str:
    """Write a tree as one document."""
    lines = _block(tree, 0, style)
    return "\n".join(lines) + "\n"


def _block(node: Any, indent: int, style: random.Random) -> list[str]:
    """Return the lines of a node at an indentation, the first one without it being known what stands before."""
    lead = " " * indent
    if isinstance(node, dict) and node and style.random() > 0.08:
        lines = []
        for key, value in node.items():
            lines += _entry(f"{lead}{_key(key, style)}:", value, indent, style)
        return lines
    if isinstance(node, list) and node and style.random() > 0.2:
        lines = []
        for value in node:
            lines += _entry(f"{lead}-", value, indent, style)
        return lines
    return [lead + _flow(node, style)]


def _entry(head: str, value: Any, indent: int, style: random.Random) -> list[str]:
    step = style.choice((2, 2, 2, 4, 1))
    prefix = ""
    while isinstance(value, Tagged | Anchored):
        prefix += f" {value.tag}" if isinstance(value, Tagged) else f" &{value.name}"
        value = value.value
    if isinstance(value, dict | list) and value and style.random() < 0.75:
        return [head + prefix, *_block(value, indent + step, style)]
    if isinstance(value, str) and "\n" in value and _literal_allowed(value) and style.random() < 0.5:
        chomp = "-" if not value.endswith("\n") else "+" if value.endswith("\n\n") else ""
        body = value[:-1] if value.endswith("\n") else value
        lead = " " * (indent + step)
        return [f"{head}{prefix} |{chomp}", *(lead + line if line else "" for line in body.split("\n"))]
    return [f"{head}{prefix} {_flow(value, style)}"]


def _literal_allowed(text: str) -> bool:
    return text[0] not in " \n" and not re.search(r"[^\n\x20-\x7e\xa1-\u2027\u2030-\ud7ff]", text)


def _flow(node: Any, style: random.Random) -> str:
    if isinstance(node, dict):
        return "{" + ", ".join(f"{_key(key, style)}: {_flow(value, style)}" for key, value in node.items()) + "}"
    if isinstance(node, list):
        return "[" + ", ".join(_flow(value, style) for value in node) + "]"
    if isinstance(node, Raw):
        return node.text
    if isinstance(node, Tagged):
        return f"{node.tag} {_flow(node.value, style)}"
    if isinstance(node, Anchored):
        return f"&{node.name} {_flow(node.value, style)}"
    if isinstance(node, Alias):
        return f"*{node.name} "
    if isinstance(node, str):
        return _string(node, style)
    return json.dumps(node)


def _key(key: str, style: random.Random) -> str:
    if key == "<<":
        return key
    return _string(key, style) if style.random() < 0.9 else _double(key)


def _string(text: str, style: random.Random) -> str:
    if _PLAIN.match(text) and text.lower() not in _RESERVED and style.random() < 0.8:
        return text
    if not re.search(r"[^\x20-\x7e\xa1-\u2027]", text) and style.random() < 0.4:
        return "'" + text.replace("'", "''") + "'"
    return _double(text)


def _double(text: str) -> str:
    out = []
    for char in text:
        code = ord(char)
        if char in '"\\':
            out.append("\\" + char)
        elif 0x20 <= code <= 0x7E or 0xA1 <= code <= 0x2027 or 0x2030 <= code <= 0xD7FF or code >= 0x10000:
            out.append(char)
        else:
            out.append("\\n" if char == "\n" else f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}")
    return '"' + "".join(out) + '"'
