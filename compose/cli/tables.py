"""Tables, JSON and templates on stdout: the three forms of every list.

`table` pads columns as Docker does (three spaces between). `template` fills Go-like `{{.Field}}` text, with `json`,
`upper`, `lower` and a leading `table`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from pycompose.compose.cli.errors import UsageError

Row = Mapping[str, Any]
_ACTION = re.compile(r"\{\{\s*(.*?)\s*\}\}")


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return lines of aligned columns; the last column is never padded."""
    lines = [list(header), *map(list, rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(header))]
    return "\n".join(
        "   ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines
    )


def show(form: str, rows: Sequence[Row], columns: Mapping[str, str], *, array: bool = False) -> str:
    """Return rows in the form asked for.

    Args:
        form: "table", "json" (a line per row; with `array` one JSON array), "ndjson", or a template.
        rows: fields by name.
        columns: the table's header by field name.
    """
    if form == "table":
        return table(list(columns.values()), [[str(row[field]) for field in columns] for row in rows])
    if form == "json" and array:
        return json.dumps([dict(row) for row in rows], indent=2, default=str)
    if form in ("json", "ndjson"):
        return "\n".join(json.dumps(dict(row), default=str) for row in rows)
    headed = form.startswith("table ")
    text = form.removeprefix("table ").replace("\\t", "\t").replace("\\n", "\n")
    lines = [fill(text, row) for row in rows]
    if not headed:
        return "\n".join(lines)
    head = _ACTION.sub(lambda match: _title(match[1].rpartition(".")[2], columns), text)
    cells = [line.split("\t") for line in (head, *lines)]
    width = max(map(len, cells))
    padded = [row + [""] * (width - len(row)) for row in cells]
    return table(padded[0], padded[1:])


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
