"""What differs from run to run becomes the same: ids, ages, sizes, paths. Tables are aligned anew; they were before."""

from __future__ import annotations

import re
from collections.abc import Sequence

AGES = r"(?:Less than a second|1 second|\d+ seconds|About a minute|\d+ minutes)"
RULES = (
    (r"\b[0-9a-f]{64}\b", "a" * 64),
    (r"\b[0-9a-f]{12}\b", "a" * 12),
    (r"\b(?=[a-z]*\d)[0-9a-z]{12}\b", "z" * 12),
    (r"\b(?=[a-z]*\d)[0-9a-z]{25}\b", "z" * 25),
    (r"\b\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z?", "2000-01-01T00:00:00.000000000Z"),
    (r"\b\d{4}-\d\d-\d\d \d\d:\d\d:\d\d \+\d{4} \w+", "2000-01-01 00:00:00 +0000 UTC"),
    (rf"{AGES} ago\b", "a moment ago"),
    (rf"\bUp {AGES}", "Up a moment"),
    (rf"\bsince {AGES}", "since a moment"),
    (r"\b\d+\.\d(?=s$)", "0.0"),
    (r"[⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏]", "~"),
    (r"\b(pid|process) \d+", r"\1 N"),
    (r"\b10\.128\.\d+\.\d+", "10.128.0.0"),
    (r"\b\d+(\.\d+)?(kB|MB|GB|KiB|MiB|GiB)\b", r"N\2"),
    (r"\b(\d+)(st|nd|rd|th) check\b", "Nth check"),
    (r"\d+ checks? failed", "N checks failed"),
)
_ID = re.compile(r"(?!a{12})[0-9a-z]{12}\Z")
_HEADER = re.compile(r"[A-Z][A-Z0-9 /%]*(?: {3,}[A-Z][A-Z0-9 /%]*)+")


def normal(lines: Sequence[str], extra: Sequence[tuple[str, str]] = ()) -> list[str]:
    """Return lines as they are the same in each run; blank ones are left out.

    Args:
        lines: as printed.
        extra: further (pattern, replacement) pairs, applied first.
    """
    found: list[str] = []
    left = [line for line in lines if line.strip()]
    while left:
        if _HEADER.fullmatch(left[0]):
            table = [left.pop(0)]
            while left and not _HEADER.fullmatch(left[0]):
                table.append(left.pop(0))
            found += _table(table, extra)
        else:
            found.append(_line(left.pop(0), extra))
    return found


def _line(line: str, extra: Sequence[tuple[str, str]]) -> str:
    for pattern, replacement in (*extra, *RULES):
        line = re.sub(pattern, replacement, line)
    return line.rstrip()


def _table(lines: Sequence[str], extra: Sequence[tuple[str, str]]) -> list[str]:
    """Normalise cells of a table and align it anew; what is no row of it (a reason below a row) stays a line."""
    header = lines[0]
    starts = [match.start() for match in re.finditer(r"(?:(?<= {3})|^)\S", header)]
    rows: list[list[str] | str] = []
    for line in lines:
        if line.startswith("  ") or any(line[start - 1 : start].strip() for start in starts[1:]):
            rows.append(_line(line, extra))
            continue
        ends = [*starts[1:], None]
        cells = [_line(line[start:end].rstrip(), extra) for start, end in zip(starts, ends, strict=True)]
        # an id may have no digit by chance: where the header says that it is one, it needs none
        named = [header[start:end].rstrip() for start, end in zip(starts, ends, strict=True)]
        rows.append(
            [_ID.sub("z" * 12, cell) if name.endswith("ID") else cell for name, cell in zip(named, cells, strict=True)]
        )
    whole = [row for row in rows if isinstance(row, list)]
    widths = [max(len(row[column]) for row in whole) for column in range(len(starts))]
    return [
        row
        if isinstance(row, str)
        else "   ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]
