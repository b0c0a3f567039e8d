"""The canonical values: strings where Docker prints strings, numbers where it prints numbers, nothing that is empty.

This is the last step on one value: `1.5g` becomes "1610612736", a command line a list, `K=V` lists mappings. The
conversions are named by `Kind.canon` in `attributes.py`; `CANON` holds them.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable
from typing import Any

from pycompose.compose.loader.errors import Problem
from pycompose.compose.loader.interpolate import _boolean
from pycompose.compose.loader.kinds import Kind
from pycompose.compose.loader.tree import Date, Path, mark_of
from pycompose.compose.loader.units import (
    duration_text,
    go_text,
    parse_bytes,
    parse_duration,
    parse_float,
    shell_words,
    single,
)

_OCTAL = re.compile(r"[-+]?[0-7]{1,21}\Z")
Convert = Callable[[Any], Any]


class Typer:
    """Converts one tree; problems are collected."""

    def __init__(self) -> None:
        self.problems: list[Problem] = []

    def value(self, value: Any, kind: Kind, container: Any, path: Path) -> Any:
        """Return the canonical form of `value`, which `container` holds under the last step of `path`."""
        try:
            match kind.canon:
                case "struct":
                    if value is None and kind.default is None:
                        return None
                    return self.struct({} if value is None else value, kind, path)
                case "list":
                    return self.items(value, kind, path)
                case "map":
                    return {
                        key: self.value(value[key], kind.values, value, (*path, key)) if kind.values else value[key]
                        for key in sorted(value or (), key=str.encode)
                    }
                case "any" | "":
                    return plain(value)
                case "ulimit":
                    return self.ulimit(value, kind, path)
                case name:
                    return None if value is None else CANON[name](value)
        except ValueError as error:
            self.problems.append(Problem.at(mark_of(container, path[-1]), path, str(error)))
            return None

    def items(self, value: Any, kind: Kind, path: Path) -> Any:
        if value is None:
            return None
        entries = value if isinstance(value, list) else [value]
        if kind.items is None:
            return plain(entries)
        return [self.value(item, kind.items, value, (*path, index)) for index, item in enumerate(entries)]

    def struct(self, value: Any, kind: Kind, path: Path) -> dict[str, Any]:
        result: dict[str, Any] = {}
        for name, below in (kind.fields or {}).items():
            if below.keep == "drop":
                continue
            item = self.value(value[name], below, value, (*path, name)) if name in value else None
            if below.keep == "always":
                if item is None or (item == "" and below.default):
                    item = self.struct({}, below, (*path, name)) if below.canon == "struct" else below.default
                result[name] = item
            elif below.keep == "zero":
                if item is not None:
                    result[name] = item
            elif item and not (item == "0s" and below.canon == "duration"):
                result[name] = item
        extra = (key for key in value if key.startswith("x-") and key not in (kind.fields or {}))
        for name in sorted(extra) if kind.extensions else ():
            result[name] = plain(value[name])
        return result

    def ulimit(self, value: Any, kind: Kind, path: Path) -> Any:
        if isinstance(value, dict):
            return {name: int(value[name]) for name in ("soft", "hard") if int(value.get(name, 0))}
        return to_int(value) or {}


def plain(value: Any) -> Any:
    """Return a copy in plain dicts and lists, keys sorted."""
    if isinstance(value, dict):
        return {key: plain(value[key]) for key in sorted(value, key=str.encode)}
    if isinstance(value, list):
        return [plain(item) for item in value]
    return str(value) if isinstance(value, str) and not isinstance(value, Date) else value


def to_int(value: Any) -> int:
    """Return an integer from a number or its text."""
    if isinstance(value, str):
        text = value.strip()
        if not text.lstrip("+-").isdigit():
            raise ValueError(f"{value!r} is not an integer")
        return int(text)
    try:
        return int(value)
    except (ValueError, OverflowError):
        raise ValueError(f"{go_text(value)} is not an integer") from None


def _unsigned(value: Any) -> int:
    number = to_int(value)
    if number < 0:
        raise ValueError(f"must not be negative, but is {number}")
    return number


def _exact_text(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, str) or (isinstance(value, int) and not isinstance(value, bool)):
        return str(value)
    raise ValueError(f"{go_text(value)} must be text: write it in quotes")


def _exact_options(value: Any) -> dict[str, str]:
    return {key: _exact_text(value[key]) for key in sorted(value, key=str.encode)}


def _float(value: Any) -> float:
    return single(parse_float(value) if isinstance(value, str) else float(value))


def _bytes(value: Any) -> str:
    number = parse_bytes(value) if isinstance(value, str) else value if isinstance(value, int) else 0
    return str(number) if number else ""


def _duration(value: Any) -> str:
    return duration_text(parse_duration(value))


def _bool(value: Any) -> bool:
    return _boolean(value) if isinstance(value, str) else bool(value)


def _environment(value: Any) -> dict[str, str | None]:
    if isinstance(value, dict):
        pairs = [(key, None if item is None else go_text(item)) for key, item in value.items()]
    else:
        pairs = []
        for entry in value:
            name, found, item = go_text(entry).partition("=")
            if name and name[-1].isspace():
                raise ValueError(f"environment variable {name!r} is declared with a trailing space")
            pairs.append((name, item if found else None))
    return dict(sorted(pairs, key=lambda pair: pair[0].encode()))


def _labels(value: Any) -> dict[str, str]:
    return {key: item or "" for key, item in _pairs_of(value)}


def _pairs_of(value: Any) -> list[tuple[str, str]]:
    if isinstance(value, dict):
        pairs = [(key, "" if item is None else go_text(item)) for key, item in value.items()]
    else:
        pairs = [(name, item) for name, _, item in (go_text(entry).partition("=") for entry in value)]
    return sorted(dict(pairs).items(), key=lambda pair: pair[0].encode())


def _multi_options(value: Any) -> dict[str, list[str]]:
    table = {key: [go_text(one) for one in (item if isinstance(item, list) else [item])] for key, item in value.items()}
    return {key: table[key] for key in sorted(table, key=str.encode) if table[key]}


def _command(value: Any) -> list[str] | None:
    return shell_words(value) if isinstance(value, str) else [str(word) for word in value]


def _health_test(value: Any) -> list[str]:
    return ["CMD-SHELL", value] if isinstance(value, str) else [str(word) for word in value]


def _hosts(value: Any) -> list[str] | None:
    if not value:
        return None
    pairs: list[tuple[str, str]] = []
    if isinstance(value, dict):
        for host, item in value.items():
            addresses = item if isinstance(item, list) else ["" if item is None else item]
            pairs.extend((host, str(address)) for address in addresses)
    else:
        for entry in value:
            separator = "=" if "=" in entry else ":"
            host, found, addresses = entry.partition(separator)
            if not found:
                raise ValueError(f"invalid additional host, missing IP: {entry}")
            pairs.extend((host, address) for address in addresses.split(","))
    for host, _ in pairs:
        if not host or ":" in host or "=" in host:
            raise ValueError(f"bad host name {host!r}")
    return sorted(
        (f"{host}={ip[1:-1] if len(ip) > 2 and ip[0] == '[' and ip[-1] == ']' else ip}" for host, ip in pairs),
        key=str.encode,
    )


def _mode(value: Any) -> str:
    try:
        if isinstance(value, str) and not _OCTAL.match(value):
            raise ValueError
        number = int(value, 8) if isinstance(value, str) else operator.index(value)
    except (ValueError, TypeError):
        raise ValueError(f"{value!r} is not a file mode in octal") from None
    return f"0{number:o}" if number >= 0 else f"0-{-number:o}"


def _device_count(value: Any) -> int:
    if isinstance(value, str) and value.lower() == "all":
        return -1
    try:
        return to_int(value) if isinstance(value, str) else operator.index(value)
    except (ValueError, TypeError):
        raise ValueError(f'{value!r} is not a count; it is "all" or a number') from None


def _ssh(value: Any) -> list[str]:
    return [key if path is None or path == "" else f"{key}: {go_text(path)}" for key, path in sorted(value.items())]


CANON: dict[str, Convert] = {
    "text": lambda value: go_text(value),
    "bool": _bool,
    "int": to_int,
    "uint": _unsigned,
    "exact_text": _exact_text,
    "exact_options": _exact_options,
    "float": _float,
    "bytes": _bytes,
    "duration": _duration,
    "environment": _environment,
    "labels": _labels,
    "pairs": lambda value: dict(_pairs_of(value)),
    "options": lambda value: dict(_pairs_of(value)),
    "multi_options": _multi_options,
    "command": _command,
    "health_test": _health_test,
    "hosts": _hosts,
    "mode": _mode,
    "device_count": _device_count,
    "ssh": _ssh,
}
