"""Which variables a Compose file refers to, for `config --variables`."""

from __future__ import annotations

from typing import Any

from pycompose.compose.cli.errors import UsageError
from pycompose.compose.loader.references import Reference, references_in

_HEADINGS = ("NAME", "REQUIRED", "DEFAULT VALUE", "ALTERNATE VALUE")


def table_of_variables(tree: Any, form: str | None = None) -> str:
    """Return every variable that the values of a tree refer to, by name.

    Args:
        tree: a model that was not interpolated.
        form: "table" (default), "json" or "yaml", each as Docker Compose prints it.

    Raises:
        UsageError: another form is asked for.
    """
    from pycompose.compose.loader.yaml_text import dump

    found = dict(sorted(references_in(tree).items()))
    match form:
        case "json":
            return _json(found)
        case "yaml":
            rows = {name: {key.lower(): item for key, item in _fields(one).items()} for name, one in found.items()}
            return dump(rows).replace("  ", "    ") if rows else "{}\n"
        case None | "" | "table":
            cells = [(name, str(one.required).lower(), one.default, one.presence) for name, one in found.items()]
            return "".join(_aligned([_HEADINGS, *cells]))
    raise UsageError(f"--format {form}: config --variables prints table, json or yaml")


def _json(found: dict[str, Reference]) -> str:
    from pycompose.compose.loader.json_text import dump_json

    return dump_json({name: _fields(one) for name, one in found.items()}, "    ") + "\n\n"


def _fields(reference: Reference) -> dict[str, Any]:
    return {
        "Name": reference.name,
        "DefaultValue": reference.default,
        "PresenceValue": reference.presence,
        "Required": reference.required,
    }


def _aligned(rows: list[tuple[str, ...]]) -> list[str]:
    """Pad all columns but the last to at least twenty characters, with three between them."""
    widths = [max(20, *(len(row[column]) + 3 for row in rows)) for column in range(len(rows[0]) - 1)]
    return [
        "".join(cell.ljust(width) for cell, width in zip(row, widths, strict=False)) + row[-1] + "\n" for row in rows
    ]
