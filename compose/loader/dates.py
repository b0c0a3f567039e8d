"""YAML timestamps, as go-yaml 3 reads an unquoted date and Go's time package writes it.

No attribute of Compose takes a date; one can stand below `x-` keys, and it is what an unquoted `2001-01-01` anywhere
else is refused for.
"""

from __future__ import annotations

import datetime
import re

from pycompose.compose.loader.tree import Date

_DATE = re.compile(
    r"(\d{4})-(\d{1,2})-(\d{1,2})"
    r"(?:(?:[Tt](?P<time>\d{1,2}:\d{1,2}:\d{1,2})(?P<part>[.,]\d+)?(?P<zone>Z|[-+]\d\d:\d\d)|"
    r" (?P<local>\d{1,2}:\d{1,2}:\d{1,2})(?P<rest>[.,]\d+)?))?\Z"
)


def read_date(text: str) -> Date | None:
    """Return the date that an unquoted scalar is, None when it is none (go-yaml resolve.go: parseTimestamp)."""
    match = _DATE.match(text)
    if match is None:
        return None
    hours, minutes, seconds = map(int, (match["time"] or match["local"] or "0:0:0").split(":"))
    try:
        moment = datetime.datetime(int(match[1]), int(match[2]), int(match[3]), hours, minutes, seconds)
    except ValueError:
        return None
    part = (match["part"] or match["rest"] or "")[1:][:9].rstrip("0")
    zone = match["zone"] or "Z"
    if zone != "Z" and (int(zone[1:3]) > 24 or int(zone[4:6]) > 60):
        return None
    shown = moment.isoformat() + (f".{part}" if part else "") + ("Z" if zone[1:] == "00:00" else zone)
    return Date(text, shown)
