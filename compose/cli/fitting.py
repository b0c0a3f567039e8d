"""A table that fits a width: pure functions from rows to lines.

Theory: a reader of 80 columns wants whole names and whole reasons, and can do without knowing when a container was
made. So nothing is cut in the middle of a line. In this order, until the table fits:

1. ports become short ("8080→80 +2", the IPv6 twin of a port is not told twice);
2. why something waits or failed moves below its row, wrapped there;
3. columns go, by rank (`YIELDING`), the least wanted first.

Without a width (standard output is no terminal, or --no-trunc) everything stays on one line a row.
"""

from __future__ import annotations

import re
import textwrap
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

Row = Mapping[str, Any]

YIELDING = (
    "Command",
    "Digest",
    "Labels",
    "CreatedAt",
    "RunningFor",
    "CreatedSince",
    "Created",
    "Platform",
    "EngineVersion",
    "BlockIO",
    "DesiredState",
    "Image",
    "Mode",
    "ConfigFiles",
    "Driver",
    "Service",
    "NetIO",
    "MemPerc",
    "ContainerID",
    "Ports",
)
"""Fields whose columns go when a table is too wide, the first first. What is not listed stays."""
REASONS = ("Error", "Reasons", "Reason")
"""Fields that tell why; never cut, wrapped below their row where they do not fit."""
_GAP = "   "
_INDENT = "  "
_PORT = re.compile(r"(?:(?P<host>\[[^]]*\]|[^:\[]*):)?(?P<public>[\d-]+)->(?P<target>[\d-]+)/(?P<protocol>\w+)")


def fit(rows: Sequence[Row], columns: Mapping[str, str], width: int | None) -> list[str]:
    """Return the lines of a table.

    Args:
        rows: fields by name.
        columns: header by field name.
        width: columns of the screen; None: as wide as it gets.
    """
    cells = [{field: clean(str(row[field])) for field in columns} for row in rows]
    shown = {
        field: title for field, title in columns.items() if field not in REASONS or any(row[field] for row in cells)
    }
    lines = lines_of(cells, shown)
    if width is None or _widest(lines) <= width:
        return lines
    if "Ports" in shown:
        for row in cells:
            row["Ports"] = short_ports(row["Ports"])
    reasons = [field for field in shown if field in REASONS]
    below = [" ".join(row[field] for field in reasons if row[field]) for row in cells]
    for field in reasons:
        del shown[field]
    dropped = []
    for field in YIELDING:
        if _widest(lines_of(cells, shown)) <= width:
            break
        if field in shown and len(shown) > 1:
            dropped.append(shown.pop(field))
    lines = lines_of(cells, shown)
    found = lines[:1]
    for line, text in zip(lines[1:], below, strict=True):
        found.append(line)
        if text:
            found += textwrap.wrap(
                text,
                max(20, width),
                initial_indent=_INDENT + "↳ ",
                subsequent_indent=_INDENT + "  ",
                break_on_hyphens=False,
            )
    return found


def lines_of(rows: Sequence[Row], columns: Mapping[str, str]) -> list[str]:
    """Return the header and a line a row, all cells aligned; the last column is never padded."""
    lines = [list(columns.values()), *([str(row[field]) for field in columns] for row in rows)]
    widths = [max(width_of(line[column]) for line in lines) for column in range(len(columns))]
    return [_GAP.join(_pad(cell, width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines]


def short_ports(text: str) -> str:
    """Return "0.0.0.0:8080->80/tcp, [::]:8080->80/tcp, 0.0.0.0:53->53/udp" as "8080→80 +1"."""
    found: dict[str, None] = {}
    for part in text.split(", ") if text else ():
        match = _PORT.fullmatch(part)
        if match is None:
            found[part] = None
            continue
        host = "" if match["host"] in (None, "", "0.0.0.0", "[::]", "*") else f"{match['host']}:"
        kind = "" if match["protocol"] == "tcp" else f"/{match['protocol']}"
        found[f"{host}{match['public']}→{match['target']}{kind}"] = None
    first, *more = found or [""]
    return first + (f" +{len(more)}" if more else "")


def clean(text: str) -> str:
    """Return text that is safe in a line of a terminal: control characters as Go's %q writes them."""
    if text.isprintable():
        return text
    return "".join(one if one.isprintable() else one.encode("unicode_escape").decode() for one in text)


def width_of(text: str) -> int:
    """Return how many columns of a terminal a text takes (UAX #11; combining marks take none)."""
    if text.isascii():
        return len(text)
    return sum(_columns(one) for one in text)


def _columns(character: str) -> int:
    if unicodedata.combining(character):
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1


def cut(text: str, limit: int) -> str:
    """Return text that takes at most `limit` columns, with an ellipsis where it was cut."""
    if width_of(text) <= limit:
        return text
    kept, left = [], limit - 1
    for one in text:
        left -= _columns(one)
        if left < 0:
            break
        kept.append(one)
    return "".join(kept) + "…"


def _pad(text: str, width: int) -> str:
    return text + " " * (width - width_of(text))


def _widest(lines: Iterable[str]) -> int:
    return max(map(width_of, lines), default=0)
