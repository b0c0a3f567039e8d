"""Every row of the table has an attack and a benign twin, and every marked test says what it does."""

from __future__ import annotations

import ast
from collections import Counter
from pathlib import Path

from attacks.rows import GROUPS, ROWS


def marked() -> list[tuple[str, str, str]]:
    """(kind, row, docstring) of each marked test."""
    found = []
    for path in Path(__file__).parent.glob("test_*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                for mark in node.decorator_list:
                    kind = mark.func.attr if isinstance(mark, ast.Call) and isinstance(mark.func, ast.Attribute) else ""
                    if isinstance(mark, ast.Call) and kind in ("attack", "twin"):
                        rows = [value.value for value in mark.args if isinstance(value, ast.Constant)]
                        found += [(kind, str(row), ast.get_docstring(node) or "") for row in rows]
    return found


def test_each_row_is_attacked_and_has_a_twin() -> None:
    kinds = Counter((row, kind) for kind, row, _ in marked())
    assert {row for row, _ in kinds} == set(ROWS)
    assert not [row for row in ROWS if not kinds[row, "attack"] or not kinds[row, "twin"]]
    assert {row[0] for row in ROWS} == set(GROUPS)


def test_each_test_says_what_it_does() -> None:
    assert not [row for _, row, text in marked() if not text]
