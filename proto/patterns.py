"""Patterns of `.dockerignore`: which paths a list of them matches (Docker's documentation, "Dockerignore file").

A pattern matches a path and everything below it. `*`, `?` and `[…]` never match a "/", `**` matches any number of
folders, `!` takes back what was matched before, and the last pattern that matches decides.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterable

EPHEMERAL = (
    "**/.*.swp",
    "**/.*.swx",
    "**/.*.swo",
    "**/4913",
    "**/*~",
    "**/.#*",
    "**/#*#",
    "**/*___jb_tmp___",
    "**/*___jb_old___",
    "**/.idea",
    "**/.DS_Store",
    "**/.git",
)
"""What editors and version control leave for a moment, or for themselves."""


class Patterns:
    """A list of patterns.

    Args:
        lines: as in the file; empty lines and those that begin with "#" say nothing.
    """

    def __init__(self, lines: Iterable[str]) -> None:
        self._rules: list[tuple[bool, re.Pattern[str]]] = []
        for line in lines:
            text = line.strip()
            if not text or text.startswith("#"):
                continue
            take = not text.startswith("!")
            text = posixpath.normpath(text if take else text[1:].strip()).lstrip("/")
            if text not in ("", "."):
                self._rules.append((take, re.compile(_expression(text) + r"(?:/.*)?\Z", re.DOTALL)))

    def __bool__(self) -> bool:
        return bool(self._rules)

    def match(self, path: str) -> bool:
        """Return whether the list matches a path (relative, with "/" between its parts)."""
        found = False
        for take, rule in self._rules:
            if take != found and rule.match(path):
                found = take
        return found


def _expression(pattern: str) -> str:
    """Return a pattern as a regular expression, as moby's patternmatcher reads it."""
    found, place = "", 0
    while place < len(pattern):
        letter = pattern[place]
        place += 1
        if letter == "*" and pattern[place : place + 1] == "*":
            place += 1
            if pattern[place : place + 1] == "/":
                place += 1
                found += "(?:.*/)?"
            else:
                found += ".*"
        elif letter == "*":
            found += "[^/]*"
        elif letter == "?":
            found += "[^/]"
        elif letter == "\\" and place < len(pattern):
            found += re.escape(pattern[place])
            place += 1
        elif letter == "[" and "]" in pattern[place + 1 :]:
            end = pattern.index("]", place + 1)
            inside = pattern[place:end].replace("\\", "\\\\")
            found += "[" + ("^" + inside[1:] if inside.startswith("^") else inside) + "]"
            place = end + 1
        else:
            found += re.escape(letter)
    return found
