"""Topics of `pycompose help`: texts in a small Markdown, shown on terminals and turned into man pages.

A topic is a file of the folder `topics`: "# name: title", "## Heading", paragraphs, and lists whose items are
"- `term`: text". One line of the file is one paragraph or item. Nothing else is understood.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import resources

BOLD, RESET = "\x1b[1m", "\x1b[0m"
_ITEM = re.compile(r"- (`[^`]+`(?:, `[^`]+`)*): (.*)")


@dataclass(frozen=True)
class Block:
    """One piece of a topic: kind "title", "heading", "text" or "item"; `term` of an item only."""

    kind: str
    text: str
    term: str = ""


def names() -> list[str]:
    """Return the names of all topics."""
    return sorted(file.name.removesuffix(".md") for file in _folder() if file.name.endswith(".md"))


def title(name: str) -> str:
    """Return a topic's title."""
    return next(block.text for block in blocks(name) if block.kind == "title")


def blocks(name: str) -> Iterator[Block]:
    """Return the pieces of a topic."""
    text = (resources.files(__package__) / "topics" / f"{name}.md").read_text(encoding="utf-8")
    for line in text.splitlines():
        item = _ITEM.fullmatch(line)
        if line.startswith("# "):
            yield Block("title", line[2:].partition(": ")[2])
        elif line.startswith("## "):
            yield Block("heading", line[3:])
        elif item:
            yield Block("item", item[2], item[1])
        elif line:
            yield Block("text", line)


def shown(name: str, width: int, *, colour: bool) -> str:
    """Return a topic for a terminal of that many columns."""
    lines: list[str] = []
    before = ""
    for block in blocks(name):
        if lines and not (block.kind == before == "item"):
            lines.append("")
        lines += _lines(block, min(width, 100), colour=colour)
        before = block.kind
    return "\n".join(lines)


def _lines(block: Block, width: int, *, colour: bool) -> list[str]:
    text = plain(block.text)
    if block.kind in ("title", "heading"):
        return [f"{BOLD}{text}{RESET}" if colour else text]
    if block.kind == "text":
        return textwrap.wrap(text, width, break_on_hyphens=False)
    term = plain(block.term)
    told = textwrap.wrap(text, max(20, width - 10), break_on_hyphens=False)
    head = f"  {BOLD}{term}{RESET}" if colour else f"  {term}"
    if len(term) <= 6:
        return [head + " " * (8 - len(term)) + told[0], *(" " * 10 + line for line in told[1:])]
    return [head, *(" " * 10 + line for line in told)]


def plain(text: str) -> str:
    """Return text without the marks of code."""
    return text.replace("`", "")


def _folder() -> Iterator[resources.abc.Traversable]:
    return (resources.files(__package__) / "topics").iterdir()
