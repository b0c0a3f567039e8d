"""What the live view looks like: pure functions from rows to lines.

The view is a header and a line a resource. It is never taller than the screen: finished rows leave it upwards, where
they stay in the terminal's history (`settle` says which), and of what is unfinished as much is shown as there is room
for.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from pycompose.compose.cli.fitting import clean, cut, width_of

GREEN, RED, YELLOW, DIM, RESET = "\x1b[32m", "\x1b[31m", "\x1b[33m", "\x1b[2m", "\x1b[0m"
_TINTS = {"done": GREEN, "failed": RED, "busy": YELLOW}
_SPINNER = "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏"


@dataclass
class Row:
    """One resource.

    Attributes:
        word, detail: "Waiting", "for db to be healthy".
        state: "busy", "done" or "failed".
        began, ended: seconds of a monotonic clock; `ended` is None while busy.
        settled: it was printed for good, and has left the view.
    """

    word: str
    detail: str
    state: str
    began: float
    ended: float | None = None
    settled: bool = False


@dataclass(frozen=True)
class Screen:
    """Where lines go: columns and lines of the terminal, and whether it has colours."""

    columns: int
    height: int
    colour: bool


def settle(rows: Mapping[str, Row], height: int, *, flowing: bool) -> list[str]:
    """Return the names of finished rows that leave the view now.

    Args:
        rows: all rows by name, in the order of their coming.
        height: lines of the screen.
        flowing: other output scrolls above the view: whatever is finished leaves at once.
    """
    inside = [name for name, row in rows.items() if not row.settled]
    finished = [name for name in inside if rows[name].state != "busy"]
    if flowing:
        return finished
    return finished[: max(0, len(inside) - (height - 2))]


def header(title: str, rows: Mapping[str, Row]) -> str:
    """Return "[+] Running 3/7"."""
    return f"[+] {title} {sum(row.state == 'done' for row in rows.values())}/{len(rows)}"


def view(title: str, rows: Mapping[str, Row], screen: Screen, now: float) -> list[str]:
    """Return the lines of the view: at most one fewer than the screen has."""
    inside = {name: row for name, row in rows.items() if not row.settled}
    if not inside:
        return []
    room = max(1, screen.height - 2)
    lines = [cut(header(title, rows), screen.columns)]
    shown = list(inside.items())
    if len(shown) > room:
        shown = sorted(shown, key=lambda one: one[1].state == "done")[: room - 1]
    width = name_width(inside)
    lines += [_line(name, row, width, screen, now) for name, row in shown]
    if len(shown) < len(inside):
        lines.append(f" … and {len(inside) - len(shown)} more")
    return lines


def name_width(rows: Iterable[str]) -> int:
    """Return the width of the column of names."""
    return max(map(width_of, rows), default=0)


def final(name: str, row: Row, width: int, screen: Screen, now: float) -> list[str]:
    """Return the lines of a row that is printed for good; why it failed is never cut, but wrapped below."""
    whole = _text(row)
    if row.state != "failed" or width_of(whole) <= _room(row, width, screen, now):
        return [_line(name, row, width, screen, now)]
    short = Row(row.word, "", row.state, row.began, row.ended)
    below = textwrap.wrap(clean(" ".join(row.detail.split())), max(20, screen.columns - 4), break_on_hyphens=False)
    return [_line(name, short, width, screen, now), *(f"    {line}" for line in below)]


def physical(widths: Sequence[int], columns: int) -> int:
    """Return how many lines of a terminal text lines take that have these widths (it may have become narrower)."""
    return sum(max(1, -(-width // columns)) for width in widths)


def _text(row: Row) -> str:
    return clean(" ".join(f"{row.word} {row.detail}".split()))


def _seconds(row: Row, now: float) -> str:
    return f"{(row.ended if row.ended is not None else now) - row.began:.1f}s"


def _room(row: Row, width: int, screen: Screen, now: float) -> int:
    return screen.columns - width - len(_seconds(row, now)) - 7


def _line(name: str, row: Row, width: int, screen: Screen, now: float) -> str:
    mark = {"done": "✔", "failed": "✘"}.get(row.state) or _SPINNER[int(now * 10) % len(_SPINNER)]
    seconds = _seconds(row, now)
    text = cut(_text(row), max(10, _room(row, width, screen, now)))
    padding = " " * (width - width_of(name))
    if screen.colour:
        tint = _TINTS[row.state]
        return f" {tint}{mark}{RESET} {name}{padding}  {tint}{text}{RESET}  {DIM}{seconds}{RESET}"
    return cut(f" {mark} {name}{padding}  {text}  {seconds}", screen.columns)
