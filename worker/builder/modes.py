"""Modes as `--chmod` has them: octal digits, or the symbols of chmod(1). Purely."""

from __future__ import annotations

import re
from collections.abc import Callable

_CLAUSE = re.compile(r"([ugoa]*)((?:[-+=](?:[rwxXst]*|[ugo]))+)\Z")
_ACTION = re.compile(r"([-+=])([rwxXst]*|[ugo])")
_SHIFTS = {"u": 6, "g": 3, "o": 0}
_BITS = {"r": 4, "w": 2, "x": 1}


def changer(text: str) -> Callable[[int, bool], int]:
    """Return what makes the new mode of (old mode, whether it is a folder). Raises ValueError."""
    if re.fullmatch(r"[0-7]{1,4}", text):
        wanted = int(text, 8)
        return lambda mode, folder: wanted
    clauses = []
    for part in text.split(","):
        match = _CLAUSE.match(part)
        if match is None:
            raise ValueError(f"--chmod={text}: write octal digits (0755) or symbols (u=rwX,go=rX)")
        clauses.append((match[1] or "a", _ACTION.findall(match[2])))

    def change(mode: int, folder: bool) -> int:
        for who, actions in clauses:
            for sign, letters in actions:
                mode = _changed(mode, folder, who.replace("a", "ugo"), sign, letters)
        return mode

    return change


def _changed(mode: int, folder: bool, who: str, sign: str, letters: str) -> int:
    for one in dict.fromkeys(who):
        shift = _SHIFTS[one]
        bits = _bits(mode, folder, letters) << shift
        if "s" in letters and one in "ug":
            bits |= 0o4000 if one == "u" else 0o2000
        if sign == "=":
            mode &= ~(7 << shift | ({"u": 0o4000, "g": 0o2000, "o": 0}[one] if not folder else 0))
        mode = mode & ~bits if sign == "-" else mode | bits
    if "t" in letters:
        mode = mode & ~0o1000 if sign == "-" else mode | 0o1000
    return mode


def _bits(mode: int, folder: bool, letters: str) -> int:
    if letters in _SHIFTS:
        return mode >> _SHIFTS[letters] & 7
    found = sum(_BITS[letter] for letter in set(letters) & _BITS.keys())
    if "X" in letters and (folder or mode & 0o111):
        found |= 1
    return found
