"""Which variables values refer to, without substituting them: `$VAR`, `${VAR…}`, and those inside defaults."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

from pycompose.compose.loader.interpolate import FORM, closing_brace


class Reference(NamedTuple):
    """One variable as a value refers to it; `default` and `presence` are the words after `-` and `+`."""

    name: str
    required: bool = False
    default: str = ""
    presence: str = ""


def references_in(tree: Any) -> dict[str, Reference]:
    """Return the references of all values of a tree by variable; a later one replaces an earlier one."""
    found: dict[str, Reference] = {}
    pending = [tree]
    while pending:
        value = pending.pop()
        if isinstance(value, str):
            if "$" in value:
                found.update({one.name: one for one in references(value)})
        elif isinstance(value, dict):
            pending.extend(reversed(value.values()))
        elif isinstance(value, list):
            pending.extend(reversed(value))
    return found


def references(text: str) -> Iterator[Reference]:
    """Return the references of one text, in order; those inside a default come after it (compose-go, variables.go)."""
    for match in FORM.finditer(text):
        if match["escaped"]:
            continue
        form = match["named"] or match["braced"] or ""
        found = match.group()
        end = closing_brace(found)
        if not match["named"] and end > 0:
            form = found[2:end]
            yield from references(found[end + 1 :])
        name = form
        for index, char in enumerate(form):
            if not (char.isascii() and (char.isalnum() or char == "_")):
                name = form[:index] if index else form
                break
        rest = form[len(name) :]
        operator, words = rest.lstrip(":")[:1], rest.removeprefix(":")[1:]
        reference = Reference(
            name,
            required=operator == "?",
            default=words if operator == "-" else "",
            presence=words if operator == "+" else "",
        )
        yield reference
        yield from references(reference.default)
        yield from references(reference.presence)
