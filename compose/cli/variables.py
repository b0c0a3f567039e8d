"""Which variables a Compose file refers to, for `config --variables`."""

from __future__ import annotations

import re

_REFERENCE = re.compile(
    r"\$(?:(?P<escaped>\$)|(?P<bare>[_a-zA-Z][_a-zA-Z0-9]*)|\{(?P<name>[_a-zA-Z][_a-zA-Z0-9]*)(?P<rest>[^}]*)\})"
)


def variables_of(text: str) -> list[tuple[str, str, str, str]]:
    """Return (name, "true" when required, default, alternate) of each reference, each once."""
    found = []
    for match in _REFERENCE.finditer(text):
        if match["escaped"]:
            continue
        rest = match["rest"] or ""
        operator = rest.lstrip(":")[:1]
        value = rest.lstrip(":")[1:]
        row = (
            match["bare"] or match["name"],
            "true" if operator == "?" else "false",
            value if operator == "-" else "",
            value if operator == "+" else "",
        )
        if row not in found:
            found.append(row)
    return found
