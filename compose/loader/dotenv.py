"""`.env` files, `env_file` and `label_file`: the grammar, and nothing else.

    KEY=value   KEY: value   export KEY=value   KEY (taken from the caller)   # comment

An unquoted value ends at ` #` or the end of the line; 'single' quotes are literal; "double" quotes know escapes
(`\\n`, `\\t`, `\\"`, `\\$` …). Unquoted and double-quoted values are interpolated, the caller's variables first, then
those above in the same file. Quoted values may span lines. The reading follows compose-go's dotenv package.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from pycompose.compose.loader.interpolate import MAX_TEXT, TemplateError, Warn, substitute

Lookup = Callable[[str], "str | None"]
Tell = Callable[[str, str, int, "tuple[str, ...]"], None]
"""Told a name, its value, its line, and the variables that the value refers to."""
_EXPORT = re.compile(r"export\s+")
_BLANKS = "\t\v\f\r \x85\xa0"
_ESCAPE = re.compile(r'\\(?:[abcfnrtv$"\\]|0\d{0,3})')
_SIMPLE = {"a": "\a", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v", "\\": "\\", '"': '"'}


class DotenvError(Exception):
    """A line that cannot be read; `line` counts from 1."""

    def __init__(self, line: int, message: str) -> None:
        super().__init__(message)
        self.line = line


def parse(
    text: str,
    lookup: Lookup = lambda _: None,
    known: dict[str, str] | None = None,
    warn: Warn = lambda _: None,
    tell: Tell = lambda *_: None,
) -> dict[str, str]:
    """Read one file.

    Args:
        text: the file's content.
        lookup: the caller's variables; they win over the file's in interpolation and give a bare `KEY` its value.
        known: variables of earlier files; they are seen by interpolation, and this dict is updated and returned.
        warn: is told about unset variables.
        tell: is told each name, its value and line, and the variables in it, before the next line is read.

    Raises:
        DotenvError: naming the line.
    """
    values = {} if known is None else known
    reader = _Reader(text.removeprefix("\ufeff"))

    names: list[str] = []

    def resolve(name: str) -> str | None:
        names.append(name)
        found = lookup(name)
        return values.get(name) if found is None else found

    size = sum(map(len, values.values()))
    while reader.statement():
        line = reader.line()
        key, inherited = reader.key()
        if " " in key:
            raise DotenvError(line, f"the name {key!r} has a space in it")
        if inherited:
            found = lookup(key)
            if found is not None:
                values[key] = found
                tell(key, found, line, (key,))
            continue
        names.clear()
        value, expand = reader.value()
        if expand:
            try:
                value = substitute(value, resolve, warn)
            except TemplateError as error:
                raise DotenvError(line, f"{error} in {value!r}") from None
        size += len(value)
        if size > MAX_TEXT + len(text):
            raise DotenvError(line, f"variables make more than {MAX_TEXT >> 20} MB of text")
        tell(key, value, line, tuple(dict.fromkeys(names)))
        values[key] = value
    return values


def parse_raw(text: str, lookup: Lookup, known: dict[str, str], tell: Tell = lambda *_: None) -> dict[str, str]:
    """Read a file of `format: raw`: `KEY=value` lines, taken as they are, or `KEY` alone, taken from `lookup`."""
    for number, line in enumerate(text.removeprefix("\ufeff").split("\n"), 1):
        line = line.removesuffix("\r").lstrip()
        if not line or line.startswith("#"):
            continue
        key, found, value = line.partition("=")
        if not key.strip() or any(blank in key for blank in " \t"):
            raise DotenvError(number, f"{key!r} is not a variable's name")
        given = value if found else lookup(key)
        if given is not None:
            known[key] = given
            tell(key, given, number, () if found else (key,))
    return known


class _Reader:
    """Stands at a position in the text."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.position = 0
        self._counted = (0, 1)

    def line(self) -> int:
        """Return the line of the position; counted on from where it was last asked."""
        start, line = self._counted
        self._counted = (self.position, line + self.text.count("\n", start, self.position))
        return self._counted[1]

    def statement(self) -> bool:
        """Go to the next statement; return whether there is one."""
        text, size = self.text, len(self.text)
        while self.position < size:
            if text[self.position].isspace():
                self.position += 1
            elif text[self.position] == "#":
                end = text.find("\n", self.position)
                self.position = size if end < 0 else end
            else:
                return True
        return False

    def key(self) -> tuple[str, bool]:
        """Read a name up to `=`, `:` or the end of the line; the latter means that it is inherited."""
        text = self.text
        if match := _EXPORT.match(text, self.position):
            self.position = match.end()
        start = self.position
        for index in range(start, len(text)):
            char = text[index]
            if char in _BLANKS:
                continue
            if char in "=:\n":
                self.position = index + 1
                self.skip_blanks()
                return text[start:index].rstrip(), char == "\n"
            if not (char in "_.-[]" or char.isalpha() or char.isnumeric()):
                whole = text[start:].split("\n", 1)[0]
                raise DotenvError(self.line(), f"unexpected character {char!r} in variable name {whole!r}")
        self.position = len(text)
        return text[start:].rstrip(), True

    def skip_blanks(self) -> None:
        while self.position < len(self.text) and self.text[self.position] in _BLANKS:
            self.position += 1

    def value(self) -> tuple[str, bool]:
        """Read a value; return it and whether it is to be interpolated."""
        text = self.text
        quote = text[self.position : self.position + 1]
        if quote in ("'", '"'):
            return self.quoted(quote)
        end = text.find("\n", self.position)
        raw = text[self.position :] if end < 0 else text[self.position : end]
        self.position = len(text) if end < 0 else end + 1
        return raw.partition(" #")[0].rstrip(), True

    def quoted(self, quote: str) -> tuple[str, bool]:
        text, escaped = self.text, False
        chars: list[str] = []
        for index in range(self.position + 1, len(text)):
            char = text[index]
            if char == quote and not escaped:
                self.position = index + 1
                value = "".join(chars)
                return (_ESCAPE.sub(_unescape, value), True) if quote == '"' else (value, False)
            if char == "\\" and not escaped:
                escaped = True
                continue
            if escaped and char != quote:
                chars.append("\\")
            escaped = False
            chars.append(char)
        shown = text[self.position :].split("\n", 1)[0]
        raise DotenvError(self.line(), f"unterminated quoted value {shown}")


def _unescape(match: re.Match[str]) -> str:
    escape = match.group()[1:]
    if escape == "$":
        return "$$"
    if escape[0] == "0":
        return (
            chr(int(escape[1:], 8)) if re.fullmatch("0[0-3]?[0-7]{2}", escape) and len(escape) == 4 else match.group()
        )
    return _SIMPLE.get(escape, match.group())
