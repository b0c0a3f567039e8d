"""A Dockerfile as statements: directives, continued lines, comments and here-documents ("Dockerfile reference").

Nothing is known here of what an instruction means, but which ones take here-documents.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from pycompose.worker.builder.errors import DockerfileError

#: What is accepted at most: nobody writes more, and a parser that reads more can be made to work for hours.
LARGEST, MOST_LINES = 4 << 20, 100_000
DIRECTIVES = ("syntax", "escape", "check")
_DIRECTIVE = re.compile(r"#\s*([A-Za-z][A-Za-z0-9]*)\s*=\s*(.+?)\s*\Z")
_HEREDOC = re.compile(r"(\d*)<<(-?)(['\"]?)([A-Za-z_][A-Za-z0-9_.-]*)\3\Z")
_TAKES_HEREDOCS = ("ADD", "COPY", "RUN")


@dataclass(frozen=True)
class Heredoc:
    """A here-document.

    Attributes:
        name: what ends it, and the file's name when it is copied.
        text: its lines, with leading tabs taken away where it asks for that.
        expand: whether variables in it are replaced (its name is not quoted).
        descriptor: the number before "<<"; "" when there is none.
    """

    name: str
    text: str
    expand: bool
    descriptor: str = ""


@dataclass(frozen=True)
class Statement:
    """One instruction.

    Attributes:
        word: the instruction, in capital letters.
        rest: what follows it, continued lines joined.
        first, last: its lines, from 1, its here-documents with them.
        heredocs: in their order.
        pieces: (offset in `rest`, line, column) where each part of `rest` is from, in order.
    """

    word: str
    rest: str
    first: int
    last: int
    heredocs: tuple[Heredoc, ...] = ()
    pieces: tuple[tuple[int, int, int], ...] = ()

    def where(self, offset: int) -> tuple[int, int]:
        """Return the line and column, from 1, of an offset in `rest`."""
        index = bisect_right(self.pieces, (offset, 1 << 60, 0)) - 1
        if index < 0:
            return self.first, 0
        start, line, column = self.pieces[index]
        return line, column + offset - start

    def wrong(self, offset: int, message: str, remedy: str = "") -> DockerfileError:
        """Return the error for what is at an offset in `rest`."""
        return DockerfileError(*self.where(offset), message, remedy)


@dataclass(frozen=True)
class Source:
    """A whole file: `directives` by name, its statements, its `lines` (to be shown), its `escape` character."""

    directives: dict[str, str]
    statements: tuple[Statement, ...]
    lines: tuple[str, ...]

    @property
    def escape(self) -> str:
        """The character that continues a line and takes a letter's meaning."""
        return self.directives.get("escape", "\\")


def read(data: bytes) -> Source:
    """Take a Dockerfile apart. Raises DockerfileError."""
    if len(data) > LARGEST:
        raise DockerfileError(1, 0, f"the file has {len(data)} bytes; {LARGEST} are read at most")
    try:
        text = data.removeprefix(b"\xef\xbb\xbf").decode()
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise DockerfileError(line, 0, "the file is not UTF-8 text") from None
    lines = [line.removesuffix("\r") for line in text.split("\n")]
    if len(lines) > MOST_LINES:
        raise DockerfileError(MOST_LINES, 0, f"the file has {len(lines)} lines; {MOST_LINES} are read at most")
    directives, begin = _directives(lines)
    source = Source(directives, (), tuple(lines))
    statements = tuple(_Reader(lines, source.escape).statements(begin))
    if not statements:
        raise DockerfileError(1, 0, "there is no instruction in the file", "begin with FROM IMAGE")
    return Source(directives, statements, tuple(lines))


def statement_of(text: str, at: Statement) -> Statement:
    """Return the one instruction in a text that stands in another's place (ONBUILD)."""
    word, _, rest = text.strip().partition(" ")
    return Statement(word.upper(), rest.strip(), at.first, at.last, at.heredocs, ((0, at.first, 1),))


def heredoc_names(text: str) -> list[tuple[str, str, bool, bool]]:
    """Return (descriptor, name, expand, strip tabs) of the here-documents that a line announces, in order."""
    found = []
    for word in shell_words(text):
        match = _HEREDOC.match(word)
        if match:
            found.append((match[1], match[4], not match[3], bool(match[2])))
    return found


def shell_words(text: str) -> Iterator[str]:
    """Split at blanks outside of quotes, quotes kept, as far as is needed to find "<<EOF"."""
    word, quote, escaped = "", "", False
    for letter in text:
        if escaped:
            word, escaped = word + letter, False
        elif letter == "\\" and quote != "'":
            word, escaped = word + letter, True
        elif quote:
            word += letter
            quote = "" if letter == quote else quote
        elif letter in " \t":
            if word:
                yield word
            word = ""
        else:
            word += letter
            quote = letter if letter in "'\"" else ""
    if word:
        yield word


def _directives(lines: Sequence[str]) -> tuple[dict[str, str], int]:
    """Return the directives at the top of a file, and the line after them; the first other line ends them."""
    found: dict[str, str] = {}
    for index, line in enumerate(lines):
        match = _DIRECTIVE.match(line.strip())
        name = match[1].lower() if match else ""
        if match is None or name not in DIRECTIVES:
            # a shebang may come first, as the reference's own examples of executable files have it
            if index == 0 and line.startswith("#!"):
                continue
            return found, index
        if name in found:
            raise DockerfileError(index + 1, 1, f"the directive {name} is there twice", "keep one of them")
        if name == "escape" and match[2] not in ("\\", "`"):
            raise DockerfileError(index + 1, 1, f"escape={match[2]}: not a character that escapes", "use \\ or `")
        found[name] = match[2]
    return found, len(lines)


class _Reader:
    """Args: lines: the file; escape: what continues a line at its end."""

    def __init__(self, lines: Sequence[str], escape: str) -> None:
        self._lines, self._escape = lines, escape
        mark = re.escape(escape)
        # An escaped escape at the end is a letter, and continues nothing.
        self._continued = re.compile(rf"(?:\A|[^{mark}])({mark}[ \t]*)\Z")

    def statements(self, begin: int) -> Iterator[Statement]:
        """Yield the statements from a line on (from 0)."""
        index = begin
        while index < len(self._lines):
            text = self._lines[index].strip(" \t")
            if not text or text.startswith("#"):
                index += 1
                continue
            statement, index = self._statement(index)
            yield statement

    def _statement(self, begin: int) -> tuple[Statement, int]:
        joined, pieces, index = self._joined(begin)
        match = re.match(r"\S+", joined)
        word = match[0] if match else ""
        blank = re.match(r"\s*", joined[len(word) :])
        skip = len(word) + (blank.end() if blank else 0)
        rest = joined[skip:].rstrip()
        moved = [(start - skip, line, column) for start, line, column in pieces]
        kept = [piece for piece in moved if piece[0] >= 0]
        before = [piece for piece in moved if piece[0] < 0]
        if before and (not kept or kept[0][0] > 0):
            start, line, column = before[-1]
            kept.insert(0, (0, line, column - start))
        heredocs: list[Heredoc] = []
        inner = rest.split(None, 1)
        taker = inner[0].upper() if word.upper() == "ONBUILD" and inner else word.upper()
        if taker in _TAKES_HEREDOCS and not _is_json(rest):
            for announced in heredoc_names(rest):
                heredoc, index = self._heredoc(announced, index, begin)
                heredocs.append(heredoc)
        return Statement(word.upper(), rest, begin + 1, index, tuple(heredocs), tuple(kept)), index

    def _joined(self, begin: int) -> tuple[str, list[tuple[int, int, int]], int]:
        """Return a statement's lines joined, where each is from, and the line after it."""
        joined, pieces, index = "", [], begin
        while index < len(self._lines):
            line = self._lines[index]
            index += 1
            plain = line.strip(" \t")
            if index - 1 > begin and (not plain or plain.startswith("#")):
                continue
            left = len(line) - len(line.lstrip(" \t")) if index - 1 == begin else 0
            match = self._continued.search(line)
            pieces.append((len(joined), index, left + 1))
            joined += line[left : match.start(1) if match else len(line)]
            if match is None:
                break
        return joined, pieces, index

    def _heredoc(self, announced: tuple[str, str, bool, bool], begin: int, first: int) -> tuple[Heredoc, int]:
        descriptor, name, expand, strip = announced
        found: list[str] = []
        for index in range(begin, len(self._lines)):
            line = self._lines[index].lstrip("\t") if strip else self._lines[index]
            if line == name:
                return Heredoc(name, "".join(f"{one}\n" for one in found), expand, descriptor), index + 1
            found.append(line)
        raise DockerfileError(
            first + 1, 0, f"the here-document {name} has no end", f"end it by a line with {name} alone"
        )


def _is_json(rest: str) -> bool:
    return rest.lstrip().startswith("[")
