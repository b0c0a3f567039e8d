"""Words of a Dockerfile: quotes, escapes and variables ("Dockerfile reference", "Environment replacement").

Forms: $NAME, ${NAME}, and with a word after the name: ":-", "-" (when unset), ":+", "+" (when set), ":?", "?"
(an error when unset), "#", "##", "%", "%%" (a pattern taken away at the begin or end), "/", "//" (a pattern replaced).
"""

from __future__ import annotations

import re
from collections.abc import Mapping

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_SPECIAL = re.compile(r"[@*#?!$0-9-]")
#: A variable's value that holds itself could double with each line of a file.
LONGEST = 1 << 20
DEEPEST = 32
LONGEST_PATTERN, LONGEST_MATCHED = 1024, 1 << 14


class ExpansionError(ValueError):
    """A word cannot be expanded. `offset`: where in the text."""

    def __init__(self, message: str, offset: int = 0) -> None:
        super().__init__(message)
        self.offset = offset


def expand(text: str, variables: Mapping[str, str], escape: str = "\\", *, quotes: bool = True) -> str:
    """Return a text with its variables replaced, and its quotes and escapes taken away.

    Args:
        variables: their values.
        escape: the escape character.
        quotes: whether quotes and escapes go; a here-document keeps them, but for an escaped "$".

    Raises:
        ExpansionError.
    """
    return _Expander(text, variables, escape, quotes).all()


def words(text: str, variables: Mapping[str, str], escape: str = "\\") -> list[str]:
    """Return a text's words; blanks in quotes are parts of a word, blanks in a variable's value separate.

    Raises:
        ExpansionError.
    """
    found: list[str] = []
    for raw, offset in split(text, escape):
        try:
            value = expand(raw, variables, escape)
        except ExpansionError as error:
            raise ExpansionError(str(error), offset + error.offset) from None
        if raw.startswith("$") and not re.search(r"['\"]", raw):
            found.extend(value.split())
        else:
            found.append(value)
    return found


def split(text: str, escape: str = "\\") -> list[tuple[str, int]]:
    """Return the words at blanks outside of quotes, quotes kept, each with its offset. Raises ExpansionError."""
    found: list[tuple[str, int]] = []
    begin, quote, place, depth = -1, "", 0, 0
    while place < len(text):
        letter = text[place]
        if begin < 0 and letter not in " \t\r\n":
            begin = place
        if letter == escape and quote != "'":
            place += 2
            continue
        if quote:
            quote = "" if letter == quote else quote
        elif letter in "'\"":
            quote, opened = letter, place
        elif text.startswith("${", place):
            depth += 1
        elif letter == "}" and depth:
            depth -= 1
        elif letter in " \t\r\n" and begin >= 0 and not depth:
            found.append((text[begin:place], begin))
            begin = -1
        place += 1
    if quote:
        raise ExpansionError(f"a {quote} has no partner", opened)
    if begin >= 0:
        found.append((text[begin:], begin))
    return found


class _Expander:
    def __init__(self, text: str, variables: Mapping[str, str], escape: str, quotes: bool, depth: int = 0) -> None:
        if depth > DEEPEST:
            raise ExpansionError(f"variables are nested more than {DEEPEST} deep")
        self._text, self._variables, self._escape, self._quotes = text, variables, escape, quotes
        self._place, self._depth = 0, depth

    def all(self) -> str:
        found: list[str] = []
        size = 0
        while self._place < len(self._text):
            piece = self._piece()
            size += len(piece)
            if size > LONGEST:
                raise ExpansionError(f"the text becomes longer than {LONGEST} characters")
            found.append(piece)
        return "".join(found)

    def _piece(self) -> str:
        letter = self._text[self._place]
        if letter == "'" and self._quotes:
            return self._single()
        if letter == '"' and self._quotes:
            return self._double()
        if letter == "$":
            return self._dollar()
        self._place += 1
        if letter == self._escape:
            return self._escaped()
        return letter

    def _escaped(self) -> str:
        """What follows an escape character outside of quotes."""
        if self._place >= len(self._text):
            return self._escape
        letter = self._text[self._place]
        if not self._quotes and letter not in ("$", self._escape):
            return self._escape
        self._place += 1
        return letter

    def _single(self) -> str:
        end = self._text.find("'", self._place + 1)
        if end < 0:
            raise ExpansionError("a ' has no partner", self._place)
        found = self._text[self._place + 1 : end]
        self._place = end + 1
        return found

    def _double(self) -> str:
        begin, found = self._place, ""
        self._place += 1
        while self._place < len(self._text):
            letter = self._text[self._place]
            if letter == '"':
                self._place += 1
                return found
            if letter == "$":
                found += self._dollar()
                continue
            self._place += 1
            if letter == self._escape and self._text[self._place : self._place + 1] in ('"', "$", self._escape):
                letter = self._text[self._place]
                self._place += 1
            found += letter
        raise ExpansionError('a " has no partner', begin)

    def _dollar(self) -> str:
        begin = self._place
        self._place += 1
        if self._text[self._place : self._place + 1] == "{":
            return self._braced(begin)
        match = _NAME.match(self._text, self._place) or _SPECIAL.match(self._text, self._place)
        if match is None:
            return "$"
        self._place = match.end()
        return self._variables.get(match[0], "")

    def _braced(self, begin: int) -> str:
        match = _NAME.match(self._text, begin + 2) or _SPECIAL.match(self._text, begin + 2)
        if match is None:
            raise ExpansionError("${ needs a name", begin)
        name, value = match[0], self._variables.get(match[0])
        self._place = match.end()
        operator = self._operator(begin)
        if not operator:
            return value or ""
        word = self._word(begin)
        colon, kind = operator.startswith(":"), operator.lstrip(":")
        absent = value is None or (colon and not value)
        if kind == "-":
            return self._inner(word) if absent else value or ""
        if kind == "+":
            return "" if absent else self._inner(word)
        if kind == "?":
            if absent:
                raise ExpansionError(self._inner(word) or f"{name} is not set", begin)
            return value or ""
        if kind in ("/", "//"):
            pattern, replacement = _halves(word)
            return _replaced(value or "", self._inner(pattern), self._inner(replacement), kind == "//")
        return _trimmed(value or "", self._inner(word), kind)

    def _operator(self, begin: int) -> str:
        """Return what follows the name; "" at the closing brace."""
        if self._place >= len(self._text):
            raise ExpansionError("${ has no }", begin)
        if self._text[self._place] == "}":
            self._place += 1
            return ""
        for operator in (":-", ":+", ":?", "##", "%%", "//", "-", "+", "?", "#", "%", "/"):
            if self._text.startswith(operator, self._place):
                self._place += len(operator)
                return operator
        raise ExpansionError(
            f"{self._text[begin : self._place + 2]!r} is no form of a variable; after the name come "
            ":- - :+ + :? ? # ## % %% / or //",
            begin,
        )

    def _word(self, begin: int) -> str:
        """Return the text up to the brace that closes, as it stands."""
        depth, quote, start = 1, "", self._place
        while self._place < len(self._text):
            letter = self._text[self._place]
            if letter == self._escape and quote != "'":
                self._place += 1
            elif quote:
                quote = "" if letter == quote else quote
            elif letter in "'\"" and self._quotes:
                quote = letter
            elif self._text.startswith("${", self._place):
                depth += 1
                self._place += 1
            elif letter == "}":
                depth -= 1
                if not depth:
                    self._place += 1
                    return self._text[start : self._place - 1]
            self._place += 1
        raise ExpansionError("${ has no }", begin)

    def _inner(self, text: str) -> str:
        return _Expander(text, self._variables, self._escape, self._quotes, self._depth + 1).all()


def _halves(word: str) -> tuple[str, str]:
    """Return pattern and replacement of "PATTERN/REPLACEMENT"; an escaped "/" is of the pattern."""
    match = re.match(r"((?:[^/\\]|\\.)*)(?:/(.*))?\Z", word, re.DOTALL)
    if match is None:
        return word, ""
    return match[1].replace("\\/", "/"), match[2] or ""


def _tokens(pattern: str) -> list[str]:
    """Return a shell pattern's parts: "*", "?", or a letter after a NUL. An escape makes the next letter plain."""
    found, place = [], 0
    while place < len(pattern):
        letter = pattern[place]
        if letter == "\\" and place + 1 < len(pattern):
            place += 1
            found.append("\0" + pattern[place])
        elif letter in "*?":
            found.append(letter)
        else:
            found.append("\0" + letter)
        place += 1
    return found


class _Matcher:
    """Where a pattern can end in a value, for every pattern in time that grows with the product of both lengths.

    A set of places in the value is one number, a bit for each place.
    """

    def __init__(self, tokens: list[str], value: str) -> None:
        if len(tokens) > LONGEST_PATTERN or len(value) > LONGEST_MATCHED:
            raise ExpansionError(f"a pattern of {LONGEST_PATTERN} and a value of {LONGEST_MATCHED} are matched at most")
        self._tokens, self._all = tokens, (1 << (len(value) + 1)) - 1
        self._at = {
            token: sum(1 << i for i, one in enumerate(value) if one == token[1]) for token in {*tokens} - {*"*?"}
        }

    def ends(self, start: int) -> int:
        """Return the places at which a match that begins at `start` may end."""
        reached = 1 << start
        for token in self._tokens:
            if token == "*":
                reached = self._all & -(reached & -reached) if reached else 0
            elif token == "?":
                reached = (reached << 1) & self._all
            else:
                reached = (reached & self._at[token]) << 1
        return reached

    def may_begin(self, start: int) -> bool:
        """Whether a match at a place is worth trying."""
        first = self._tokens[0]
        return first in "*?" or bool(self._at[first] >> start & 1)


def _trimmed(value: str, pattern: str, kind: str) -> str:
    tokens = _tokens(pattern)
    if kind[0] == "%":
        return _trimmed_begin(value[::-1], tokens[::-1], len(kind) == 2)[::-1]
    return _trimmed_begin(value, tokens, len(kind) == 2)


def _trimmed_begin(value: str, tokens: list[str], longest: bool) -> str:
    ends = _Matcher(tokens, value).ends(0)
    if not ends:
        return value
    return value[(ends if longest else ends & -ends).bit_length() - 1 :]


def _replaced(value: str, pattern: str, replacement: str, every: bool) -> str:
    if not pattern:
        return value
    matcher = _Matcher(_tokens(pattern), value)
    found, place = "", 0
    while place < len(value):
        end = matcher.ends(place).bit_length() - 1 if matcher.may_begin(place) else -1
        if end > place:
            found, place = found + replacement, end
            if not every:
                break
            continue
        found, place = found + value[place], place + 1
    return found + value[place:]
