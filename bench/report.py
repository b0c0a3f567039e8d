"""Rows of measurements as a table."""

from __future__ import annotations

from dataclasses import dataclass, field
from statistics import median

HEADER = ("what", "ours", "budget", "", "peer", "", "ours/peer", "ours min–max", "rounds")


@dataclass
class Row:
    """One measurement. `ours`, `theirs`: a value a round, in `unit`; `budget` in `unit`, `ratio`: most of ours/peer."""

    what: str
    unit: str
    budget: float | None = None
    ratio: float | None = None
    peer: str = ""
    ours: list[float] = field(default_factory=list)
    theirs: list[float] = field(default_factory=list)

    def share(self) -> float | None:
        """Ours in parts of the peer's."""
        return median(self.ours) / median(self.theirs) if self.ours and self.theirs else None

    def missed(self) -> bool:
        """Whether a budget is missed."""
        share = self.share()
        too_much = self.budget is not None and bool(self.ours) and median(self.ours) > self.budget
        return too_much or (self.ratio is not None and share is not None and share > self.ratio)

    def cells(self) -> tuple[str, ...]:
        """The row's texts."""
        limits = [] if self.budget is None else [f"≤ {self.budget:g} {self.unit}"]
        limits += [] if self.ratio is None else [f"≤ {self.ratio:g} × peer"]
        share = self.share()
        return (
            self.what,
            f"{_number(median(self.ours))} {self.unit}" if self.ours else "",
            ", ".join(limits),
            ("MISSED" if self.missed() else "met") if limits and self.ours else "",
            self.peer,
            f"{_number(median(self.theirs))} {self.unit}" if self.theirs else "",
            f"{share:.2f}" if share is not None else "",
            f"{_number(min(self.ours))}–{_number(max(self.ours))}" if len(self.ours) > 1 else "",
            str(len(self.ours)),
        )


def _number(value: float) -> str:
    return f"{value:.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def table(rows: list[Row]) -> str:
    """A Markdown table, aligned for a terminal too."""
    lines = [HEADER, *(row.cells() for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(HEADER))]

    def text(line: tuple[str, ...]) -> str:
        return "| " + " | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) + " |"

    rule = "|" + "|".join("-" * (width + 2) for width in widths) + "|"
    return "\n".join([text(HEADER), rule, *map(text, lines[1:])])
