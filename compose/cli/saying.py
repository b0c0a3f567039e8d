"""Messages on standard error: one line each off a terminal, wrapped between words on one."""

from __future__ import annotations

import os
import sys
import textwrap

from pycompose.compose.cli.program import renamed


def say(text: str) -> None:
    """Print a message for people; its advice names the program as it was called."""
    print(wrapped(renamed(text), _columns()), file=sys.stderr)


def wrapped(text: str, columns: int | None) -> str:
    """Return text whose lines fit; lines that are indented (source, examples) stay as they are.

    Args:
        text: one or several lines.
        columns: of the terminal; None: there is none.
    """
    if columns is None:
        return text
    found: list[str] = []
    for line in text.splitlines():
        if len(line) <= columns or line.startswith("  "):
            found.append(line)
        else:
            found += textwrap.wrap(
                line, columns, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False
            )
    return "\n".join(found)


def _columns() -> int | None:
    try:
        return os.get_terminal_size(sys.stderr.fileno()).columns or None
    except (OSError, ValueError):
        return None
