"""What holds for every message that a client sends, whatever it means."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message

Violation = tuple[str, str]
#: Of a spec, encoded: an answer with one object must fit a client's default limit of 4 MiB.
SPEC_BYTES = 1024 * 1024
DURATION_SECONDS = 10 * 365 * 24 * 3600


def shape(message: Message, path: str = "spec") -> list[Violation]:
    """Check sizes, and that enums are known, durations possible, numbers numbers, and texts without NUL."""
    if message.ByteSize() > SPEC_BYTES:
        return [(path, f"{message.ByteSize()} bytes are more than the {SPEC_BYTES} that a spec may have")]
    return list(_walk(message, path))


def _walk(message: Message, path: str) -> Iterator[Violation]:
    if isinstance(message, Duration):
        if not (0 <= message.seconds <= DURATION_SECONDS and 0 <= message.nanos < 1_000_000_000):
            yield path, "is no duration; use 0 s or more, and at most ten years"
        return
    for field, value in message.ListFields():
        place = f"{path}.{field.name}"
        if field.message_type is not None and field.message_type.GetOptions().map_entry:
            values = field.message_type.fields_by_name["value"]
            for key in value:
                yield from _value(field.message_type.fields_by_name["key"], key, f"{place}[{key!r}]")
                yield from _value(values, value[key], f"{place}[{key!r}]")
        elif field.is_repeated:
            for index, item in enumerate(value):
                yield from _value(field, item, f"{place}[{index}]")
        else:
            yield from _value(field, value, place)


def _value(field: FieldDescriptor, value: Any, place: str) -> Iterator[Violation]:
    if isinstance(value, Message):
        yield from _walk(value, place)
    elif isinstance(value, str) and "\0" in value:
        yield place, "has a NUL character, which no program can read; leave it out"
    elif isinstance(value, float) and not math.isfinite(value):
        yield place, f"{value} is no number that counts anything"
    elif field.enum_type is not None and value not in field.enum_type.values_by_number:
        words = ", ".join(one.name for one in field.enum_type.values[1:])
        yield place, f"{value} is not known; use one of {words}"
