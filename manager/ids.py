"""Identifiers: tasks have 64 hex digits (also the container's id), other objects 25 lower-case letters and digits."""

import secrets
import string

ALPHABET = string.digits + string.ascii_lowercase


def task_id() -> str:
    """Return a new random task id."""
    return secrets.token_hex(32)


def object_id() -> str:
    """Return a new random object id."""
    return "".join(secrets.choice(ALPHABET) for _ in range(25))
