"""Tables, JSON and templates on stdout: the forms of every list.

`table` is for people: aligned as Docker's tables are (three spaces between), and on a terminal it fits the width
(`fitting.py`). `json` is one array, always; `ndjson` is the same objects, one a line. A template fills Go-like
`{{.Field}}` text, with `json`, `upper`, `lower`, `index` and a leading `table`. docs/command-line.md lists the fields
of each list; they are added to, never renamed.
"""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from pycompose.compose.cli.errors import UsageError
from pycompose.compose.cli.fitting import Row, fit, lines_of

_ACTION = re.compile(r"\{\{\s*(.*?)\s*\}\}")


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return lines of aligned columns; the last column is never padded."""
    names = [str(number) for number in range(len(header))]
    columns = dict(zip(names, header, strict=True))
    return "\n".join(lines_of([dict(zip(names, row, strict=True)) for row in rows], columns))


def screen_width() -> int | None:
    """Return the columns of the terminal that is standard output; None when it is none."""
    try:
        return os.get_terminal_size(sys.stdout.fileno()).columns or None
    except (OSError, ValueError):
        return None


def show(form: str, rows: Sequence[Row], columns: Mapping[str, str], *, whole: bool = False) -> str:
    """Return rows in the form asked for.

    Args:
        form: "table", "json", "ndjson", or a template.
        rows: fields by name.
        columns: the table's header by field name.
        whole: leave out nothing of a table, however wide it is (--no-trunc).

    Raises:
        UsageError: the template cannot be filled.
    """
    if form == "table":
        return "\n".join(fit(rows, columns, None if whole else screen_width()))
    if form == "json":
        return json_array(rows)
    if form == "ndjson":
        return "\n".join(json.dumps(dict(row), default=str) for row in rows)
    headed = form.startswith("table ")
    text = form.removeprefix("table ").replace("\\t", "\t").replace("\\n", "\n")
    if "{{" not in text:
        raise UsageError(
            f"--format {form}: want table, json, ndjson, or a template such as '{{{{.{_first(columns)}}}}}'"
        )
    lines = [fill(text, row) for row in rows]
    if not headed:
        return "\n".join(lines)
    head = _ACTION.sub(lambda match: _title(match[1].rpartition(".")[2], columns), text)
    cells = [line.split("\t") for line in (head, *lines)]
    width = max(map(len, cells))
    padded = [row + [""] * (width - len(row)) for row in cells]
    return table(padded[0], padded[1:])


def json_array(rows: Sequence[Row]) -> str:
    """Return a JSON array with one object a line."""
    return "[" + ",\n ".join(json.dumps(dict(row), default=str) for row in rows) + "]"


def _first(columns: Mapping[str, str]) -> str:
    return next(iter(columns), "Name")


def _title(field: str, columns: Mapping[str, str]) -> str:
    return columns.get(field, field.upper())


def fill(text: str, row: Any) -> str:
    """Fill `{{.A.B}}`, `{{json .A}}`, `{{upper .A}}`, `{{lower .A}}` and `{{index .A "key"}}` from `row`.

    Raises:
        UsageError: an action is not one of these, or the field does not exist.
    """
    return _ACTION.sub(lambda match: _action(match[1], row), text)


def _action(words: str, row: Any) -> str:
    function, _, rest = words.partition(" ") if not words.startswith(".") else ("", "", words)
    if function == "index":
        match = re.fullmatch(r'(\.\S*)\s+"([^"]*)"', rest.strip())
        found = _lookup(match[1], row) if match else None
        if match and isinstance(found, Mapping):
            return _plain(found.get(match[2], ""))
    elif function == "json":
        return json.dumps(_lookup(rest.strip(), row), default=str)
    elif function in ("upper", "lower", "println", "print", ""):
        value = _plain(_lookup(rest.strip(), row))
        return value.upper() if function == "upper" else value.lower() if function == "lower" else value
    raise UsageError(f"--format: cannot do {{{{{words}}}}}; known are .Field, json, index, upper, lower")


def _lookup(path: str, row: Any) -> Any:
    value = row
    for name in path.strip(".").split(".") if path.strip(".") else ():
        if not isinstance(value, Mapping) or name not in value:
            known = ", ".join(f".{key}" for key in value) if isinstance(value, Mapping) else "none"
            raise UsageError(f"--format: no field .{name} in {path}; known are {known}")
        value = value[name]
    return value


def _plain(value: Any) -> str:
    if value is None:
        return "<no value>"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, (dict, list)):
        return json.dumps(value, default=str)
    return str(value)
