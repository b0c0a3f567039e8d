"""Write docs/compose-support.md from the tables that the tests of attributes run. With --check only compare.

usage: generate.py [--check]
"""

from __future__ import annotations

import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
TARGET = HERE / "compose-support.md"
sys.path.insert(0, str(HERE.parent / "tests"))

from attributes import table  # noqa: E402

HEAD = """# What each attribute of a Compose file does

Made by `make docs` from the tables in `tests/attributes`; do not edit. *works* means that a test tries it in a real
container (or with the command that it is for) on one machine. *refused* is an error before anything is done, *warned* a
named warning, each with the words shown; both stand beside *works* where only some values are meant. On a cluster
nothing is there yet: it comes with the cluster.

| attribute | one machine | cluster | |
|---|---|---|---|
"""
FOOT = """
Keys of pycompose's own (`x-on-unhealthy`, `x-publish`, `x-idmap`, `x-shared-volume`) are listed under `x-*`; those that
come with later versions are refused by name: {later}. Other `x-` keys are the user's.
"""


def cell(text: str) -> str:
    """A text in a cell of a table."""
    return " ".join(text.split()).replace("|", "\\|")


def line(path: str) -> str:
    """The row of one attribute."""
    notes: dict[str, None] = {}
    states: dict[str, None] = {}
    for row in table.rows():
        if path in row.paths:
            states["works"] = None
            if row.note:
                notes[cell(row.note)] = None
    for other in table.elsewhere():
        if path in other.paths:
            states["refused" if other.refused else "works"] = None
            for text in (other.refused and f"refused: “{other.refused}”", other.note):
                if text:
                    notes[cell(text)] = None
    for refusal in table.refusals():
        if path in refusal.paths:
            kind, words = ("refused", refusal.error) if refusal.error else ("warned", refusal.warning)
            states[kind] = None
            notes[cell(f"{kind}: “{words}”")] = None
    if not states:
        raise SystemExit(f"{path}: no test says what it does; add a row to tests/attributes")
    return f"| `{path}` | {', '.join(states)} | not yet | {'; '.join(notes)} |\n"


def text() -> str:
    """The whole document."""
    from pycompose.compose.convert.unsupported import LATER

    later = ", ".join(f"`{key}`" for key in LATER)
    return HEAD + "".join(line(path) for path in table.known_paths()) + FOOT.format(later=later)


def main() -> int:
    """Write, or compare."""
    wanted = text()
    if sys.argv[1:] == ["--check"]:
        if not TARGET.exists() or TARGET.read_text() != wanted:
            raise SystemExit("docs/compose-support.md is not up to date; run make docs")
        return 0
    TARGET.write_text(wanted)
    return 0


if __name__ == "__main__":
    sys.exit(main())
