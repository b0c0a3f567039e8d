"""Small readings: durations, sizes and numbers as the model writes them."""

from __future__ import annotations

from typing import Any

from google.protobuf.duration_pb2 import Duration

from pycompose.compose.loader.units import parse_bytes, parse_duration


def duration(text: Any) -> Duration:
    """Return Go's duration text ("1m30s") as a Duration."""
    result = Duration()
    result.FromNanoseconds(parse_duration(str(text)))
    return result


def size(value: Any) -> int:
    """Return a size in bytes: the model's decimal string, or any text with a unit."""
    text = "" if value is None else str(value)
    return int(text or 0) if text.lstrip("-").isdecimal() or not text else parse_bytes(text)


def pairs(values: Any) -> list[str]:
    """Return a mapping as "KEY=value"; keys without a value are left out."""
    return [f"{key}={value}" for key, value in (values or {}).items() if value is not None]


def texts(values: Any) -> dict[str, str]:
    """Return a mapping of texts; a missing value is an empty text."""
    return {key: "" if value is None else str(value) for key, value in (values or {}).items()}


def file_mode(value: Any) -> int:
    """Return permission bits: an octal text as the model prints it, or a number; 0 for none."""
    if value is None:
        return 0
    return int(value, 8) if isinstance(value, str) else int(value)
