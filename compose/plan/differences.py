"""Which fields of two messages differ, in words for people."""

from __future__ import annotations

from typing import Any

from google.protobuf.message import Message


def differences(old: Message, new: Message, limit: int = 3) -> str:
    """Return the paths of fields that differ ("container.env, networks"), at most `limit` of them; "" when equal."""
    paths = list(_walk(old, new, ""))
    more = f" and {len(paths) - limit} more" if len(paths) > limit else ""
    return ", ".join(paths[:limit]) + more


def _walk(old: Any, new: Any, prefix: str) -> list[str]:
    found: list[str] = []
    for field in old.DESCRIPTOR.fields:
        before, after = getattr(old, field.name), getattr(new, field.name)
        if field.has_presence and old.HasField(field.name) != new.HasField(field.name):
            found.append(prefix + field.name)
        elif before == after:
            continue
        elif isinstance(before, Message) and not field.message_type.full_name.startswith("google."):
            found += _walk(before, after, f"{prefix}{field.name}.")
        else:
            found.append(prefix + field.name)
    return found
