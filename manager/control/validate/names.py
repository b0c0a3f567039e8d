"""Names and data of objects."""

from __future__ import annotations

import re

from pycompose.manager.control.validate.shape import Violation

NAME = re.compile(r"[a-z0-9][a-z0-9_.-]*\Z", re.IGNORECASE)
SECRET_LIMIT, CONFIG_LIMIT = 500 * 1024, 1000 * 1024


def name(value: str, field: str = "spec.name") -> list[Violation]:
    """Check a name of a service, network, volume, secret, config or project."""
    if not value:
        return [(field, "a name is needed: letters, digits, '.', '_' and '-'")]
    if len(value) > 255 or not NAME.match(value):
        short = value if len(value) <= 60 else f"{value[:57]}..."
        return [(field, f"{short!r} is no name: begin with a letter or digit, go on with letters, digits, '._-'")]
    return []


def data(size: int, limit: int) -> list[Violation]:
    """Check the size in bytes of a secret or config."""
    return [("spec.data", f"{size} bytes are more than the {limit} that fit; use a volume")] if size > limit else []
