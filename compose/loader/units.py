"""Bytes, durations, numbers and shell words as text, read and written as Go's libraries do."""

from __future__ import annotations

import re
import struct as binary
from decimal import Decimal

_DIGITS = tuple("0123456789")
_FLOAT = re.compile(
    r"(?:[-+]?(?:(?:D(?:\.D?)?|\.D)(?:e[-+]?D)?|inf|infinity)|nan)\Z".replace("D", "(?:[0-9](?:_?[0-9])*)"), re.I
)
_DURATION = re.compile(r"(\d+(?:\.\d*)?|\.\d+)(w|d|h|ms|us|µs|μs|ns|m|s)")
_MAX_DIGITS = 40
"""More digits than any duration has that a machine can wait for."""
_NANOSECONDS = {
    "ns": 1,
    "us": 10**3,
    "µs": 10**3,
    "μs": 10**3,
    "ms": 10**6,
    "s": 10**9,
    "m": 60 * 10**9,
    "h": 3600 * 10**9,
    "d": 86_400 * 10**9,
    "w": 7 * 86_400 * 10**9,
}


def parse_float(text: str) -> float:
    """Read a decimal number as Go's strconv.ParseFloat does: no blanks, an underscore only between digits.

    Raises:
        ValueError: it is not one, or it is too large.
    """
    if not _FLOAT.match(text):
        raise ValueError(f"{text!r} is not a number")
    number = float(text)
    if abs(number) == float("inf") and "i" not in text.lower():
        raise ValueError(f"{text!r} is too large a number")
    return number


def parse_bytes(text: str) -> int:
    """Read "64m", "1.5gb", "100": bytes, by powers of 1024 (docker/go-units RAMInBytes).

    Raises:
        ValueError: it is not such a size.
    """
    end = max(map(text.rfind, "0123456789. "))
    if end < 0:
        raise ValueError(f"{text!r} is not a size in bytes")
    number, unit = (text[:end] if text[end] == " " else text[: end + 1]), text[end + 1 :].lower()
    try:
        size = parse_float(number)
    except ValueError:
        raise ValueError(f"{text!r} is not a size in bytes") from None
    power = "bkmgtp".find(unit[:1])
    if power < 0 or unit[1:] not in ("", "b", "ib") or (unit[:1] == "b" and len(unit) > 1):
        raise ValueError(f"{text!r} is not a size in bytes")
    if size < 0:
        raise ValueError(f"{text!r} is a negative size")
    return int(size * 1024**power)


def parse_duration(text: str) -> int:
    """Read "1m30s", "1.5h", "2d": nanoseconds.

    Raises:
        ValueError: it is not such a duration.
    """
    sign, rest = (-1, text[1:]) if text[:1] == "-" else (1, text.removeprefix("+"))
    if rest == "0":
        return 0
    total, position = Decimal(0), 0
    while match := _DURATION.match(rest, position):
        total += Decimal(match[1]) * _NANOSECONDS[match[2]]
        position = match.end()
    if not rest or position != len(rest) or total.adjusted() > _MAX_DIGITS:
        raise ValueError(f"{text!r} is not a duration")
    return sign * int(total)


def duration_text(nanoseconds: int) -> str:
    """Write a duration as Go does: `1h0m0s`, `1m30s`, `1.5s`, `100ms`, `0s`."""
    if nanoseconds == 0:
        return "0s"
    sign, amount = ("-", -nanoseconds) if nanoseconds < 0 else ("", nanoseconds)
    if amount < 10**9:
        for unit, size in (("ms", 10**6), ("µs", 10**3), ("ns", 1)):
            if amount >= size:
                return f"{sign}{_fraction(amount, size)}{unit}"
    minutes, rest = divmod(amount, 60 * 10**9)
    hours, minutes = divmod(minutes, 60)
    text = f"{_fraction(rest, 10**9)}s"
    if hours or minutes:
        text = f"{minutes}m{text}"
    return f"{sign}{hours}h{text}" if hours else f"{sign}{text}"


def _fraction(amount: int, unit: int) -> str:
    whole, rest = divmod(amount, unit)
    digits = str(rest).rjust(len(str(unit)) - 1, "0").rstrip("0") if rest else ""
    return f"{whole}.{digits}" if digits else str(whole)


def single(number: float) -> float:
    """Return the shortest decimal that is the same 32-bit float, as Go prints a float32."""
    try:
        packed = binary.pack("f", number)
    except OverflowError:
        return number
    exact: float = binary.unpack("f", packed)[0]
    for digits in range(1, 10):
        shorter = float(f"{exact:.{digits}g}")
        if binary.pack("f", shorter) == packed:
            return shorter
    return exact


def go_text(value: object) -> str:
    """Write a scalar as Go's fmt.Sprint does: `true`, `1`, `1.5`, `1e+06`."""
    if value is True or value is False:
        return "true" if value else "false"
    if value is None:
        return "<nil>"
    if isinstance(value, float):
        if value != value or value in (float("inf"), float("-inf")):
            return {"inf": "+Inf", "-inf": "-Inf"}.get(str(value), "NaN")
        sign, digits, exponent = Decimal(repr(value)).as_tuple()
        assert isinstance(exponent, int)
        point = len(digits) + exponent - 1
        text = "".join(map(str, digits)).rstrip("0")
        if text and not -4 <= point < 6:
            return _scientific(sign, text, point)
        if value == 0:
            return "-0" if sign else "0"
        return str(int(value)) if value.is_integer() else f"{Decimal(repr(value)):f}"
    return str(value)


def _scientific(sign: int, digits: str, point: int) -> str:
    mantissa = digits[0] + (f".{digits[1:]}" if len(digits) > 1 else "")
    return f"{'-' if sign else ''}{mantissa}e{'-' if point < 0 else '+'}{abs(point):02d}"


def shell_words(line: str) -> list[str]:
    """Split a command as Compose does (mattn/go-shellwords): quotes, backslashes and `$(…)`, no variables.

    It ends at one of `;&|<>` outside quotes; a word of digits before `>` is part of the redirection.

    Raises:
        ValueError: a quote is not closed, or a parenthesis stands outside quotes.
    """
    words: list[str] = []
    word = ""
    started = escaped = single_quoted = double_quoted = back_quoted = dollar_quoted = False
    for char in line:
        if escaped:
            word += char
            escaped, started = False, True
        elif char == "\\" and not single_quoted:
            escaped = True
        elif char in " \t\r\n" and not (single_quoted or double_quoted or back_quoted or dollar_quoted):
            if started:
                words.append(word)
                word, started = "", False
        elif char == '"' and not (single_quoted or dollar_quoted):
            started = started or double_quoted
            double_quoted = not double_quoted
        elif char == "'" and not (double_quoted or dollar_quoted):
            started = started or single_quoted
            single_quoted = not single_quoted
        elif char in ";&|<>" and not (single_quoted or double_quoted or back_quoted or dollar_quoted):
            if char == ">" and word[:1] in _DIGITS:
                started = False
            break
        else:
            if char == "`" and not (single_quoted or double_quoted or dollar_quoted):
                back_quoted = not back_quoted
            elif char in "()" and not (single_quoted or double_quoted or back_quoted):
                if char == "(" and (dollar_quoted or not word.endswith("$")):
                    raise ValueError("invalid command line string: a parenthesis outside quotes")
                dollar_quoted = not dollar_quoted
            started = started or char not in " \t\r\n("
            word += char
    if started:
        words.append(word)
    if escaped or single_quoted or double_quoted or back_quoted or dollar_quoted:
        raise ValueError("invalid command line string: a quote is not closed")
    return words
