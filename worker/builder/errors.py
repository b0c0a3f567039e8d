"""What the builder says no with."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


class BuildError(Exception):
    """A build cannot be done, or failed; the message is for the person who asked for it."""


class DockerfileError(BuildError):
    """A Dockerfile cannot be read.

    Args:
        line, column: where, from 1; column 0: the whole line.
        message: what is wrong.
        remedy: what to write in its place; "" when the message says it.
    """

    def __init__(self, line: int, column: int, message: str, remedy: str = "") -> None:
        self.line, self.column, self.message, self.remedy = line, column, message, remedy
        place = f"{line}:{column}" if column else str(line)
        super().__init__(f"{place}: {message}" + (f"; {remedy}" if remedy else ""))


class MissingSource(BuildError):
    """A source of COPY or ADD is not there. `source`: as it was asked for."""

    def __init__(self, source: str) -> None:
        super().__init__(f"{source} is not there")
        self.source = source


class StepFailed(BuildError):
    """A step failed.

    Args:
        first, last: its lines in the Dockerfile, from 1.
        message: why.
        code: exit status of RUN; 0 for another step.
        source: the missing source of COPY; "" for another reason.
    """

    def __init__(self, first: int, last: int, message: str, code: int = 0, source: str = "") -> None:
        super().__init__(message)
        self.first, self.last, self.code, self.source = first, last, code, source


def nearest(word: str, known: Iterable[str]) -> str:
    """Return the remedy for a word that is none of those known."""
    names = sorted(known)
    near = get_close_matches(word, names, n=1) or get_close_matches(word.upper(), names, n=1)
    return f"did you mean {near[0]}?" if near else f"use {', '.join(names)}"
