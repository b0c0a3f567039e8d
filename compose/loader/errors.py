"""What the loader says when it cannot load.

    LoadError                 one or more problems, each with its place
    └── NoComposeFileError    nothing to load was found

A problem prints as `file:line:col: key: what is wrong; remedy`, with the line of the file under it.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable
from dataclasses import dataclass
from difflib import get_close_matches
from itertools import takewhile

from pycompose.compose.loader.tree import Mark, Path, path_text

MAX_PROBLEMS = 100
"""So many problems are told at once; a person reads no more, and a file with a million of them costs no more."""
_MAX_WORD = 100
_MAX_NEAR = 50


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing wrong in the files.

    `file`, `line` and `column` (both from 1) are None where no place in a file is to blame; `key` is the dotted path of
    the attribute ("services.web.ports[0]"), empty when there is none; `remedy` is what would be right, if known.
    """

    message: str
    key: str = ""
    remedy: str = ""
    file: str | None = None
    line: int | None = None
    column: int | None = None
    source_line: str = ""

    @classmethod
    def at(cls, mark: Mark | None, path: Path | str, message: str, remedy: str = "") -> Problem:
        """Make a problem that points at `mark`; `path` is the attribute's path, as a tuple or already written out."""
        key = path if isinstance(path, str) else path_text(path)
        if mark is None:
            return cls(message, key, remedy)
        source, line, column = mark
        return cls(message, key, remedy, source.name, line, column, source.line(line))

    def __str__(self) -> str:
        place = self.file or ""
        if self.line is not None:
            place += f":{self.line}:{self.column}"
        head = ": ".join(part for part in (place, self.key, self.message) if part)
        if self.remedy:
            head += f"; {self.remedy}"
        if not self.source_line.strip():
            return head
        shown = self.source_line.expandtabs(1)[:200]
        pointer = " " * ((self.column or 1) - 1) + "^" if (self.column or 1) <= len(shown) + 1 else ""
        return f"{head}\n    {shown}\n    {pointer}".rstrip()


class LoadError(Exception):
    """The files cannot be loaded; `problems` has every reason found, in the order of the file."""

    def __init__(self, problems: Iterable[Problem] | Problem | str) -> None:
        if isinstance(problems, str):
            problems = Problem(problems)
        found = [problems] if isinstance(problems, Problem) else list(problems)
        self.problems: tuple[Problem, ...] = tuple(sorted(dict.fromkeys(found), key=_place)[:MAX_PROBLEMS])
        more = [f"these are the first {MAX_PROBLEMS} problems; there may be more"] if len(found) >= MAX_PROBLEMS else []
        #: What a person is told, one text a problem.
        self.told = (*map(str, self.problems), *more)
        super().__init__("\n".join(self.told))


class NoComposeFileError(LoadError):
    """There is no Compose file where one was looked for."""


def _place(problem: Problem) -> tuple[str, int, int]:
    return problem.file or "", problem.line or 0, problem.column or 0


def nearest(word: str, known: Iterable[str]) -> str:
    """Return `did you mean "x"?` for the known word nearest to `word`, or nothing when none is near."""
    if len(word) > _MAX_WORD:
        return ""
    word = word.lower().replace("-", "_")
    folded = {name.lower().replace("-", "_"): name for name in known}
    if len(folded) > 4 * _MAX_NEAR:  # comparing with all would take seconds
        folded = dict(heapq.nlargest(_MAX_NEAR, folded.items(), key=lambda one: _shared(word, one[0])))
    match = get_close_matches(word, folded, n=1, cutoff=0.6)
    return f'did you mean "{folded[match[0]]}"?' if match else ""


def _shared(one: str, two: str) -> int:
    """Return how many characters at the beginning and at the end are the same."""
    ends = (zip(one, two, strict=False), zip(reversed(one), reversed(two), strict=False))
    return sum(1 for pairs in ends for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))
