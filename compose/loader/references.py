"""Which variables values refer to, without substituting them: `$VAR`, `${VAR…}`, and those inside defaults."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
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


def variables_read(trees: Sequence[Any]) -> dict[str, Reference]:
    """Return what files read of the caller's environment, in any form, by the variable's name.

    Those are the references in values, variables that a service lists without a value, and the contents of secrets and
    configs that come from one.

    Args:
        trees: of whole files, as they are written.
    """
    found = references_in(list(trees))
    for tree in trees:
        for name in _passed_on(tree):
            found.setdefault(name, Reference(name))
    return {name: found[name] for name in sorted(found)}


def _passed_on(tree: Any) -> Iterator[str]:
    services = tree.get("services") if isinstance(tree, dict) else None
    for service in services.values() if isinstance(services, dict) else ():
        listed = service.get("environment") if isinstance(service, dict) else None
        if isinstance(listed, dict):
            yield from (name for name, value in listed.items() if value is None)
        elif isinstance(listed, list):
            yield from (one for one in listed if isinstance(one, str) and "=" not in one)
    for section in ("secrets", "configs"):
        entries = tree.get(section) if isinstance(tree, dict) else None
        for entry in entries.values() if isinstance(entries, dict) else ():
            if isinstance(entry, dict) and isinstance(entry.get("environment"), str):
                yield entry["environment"]


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
