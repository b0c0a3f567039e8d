"""Variables that remember where they come from: the caller's environment, or a line of an env file."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

PROJECT_NAME = -1
"""The "line" of COMPOSE_PROJECT_NAME, which neither the caller nor a file defines."""


class Definition(NamedTuple):
    """One place that gives a variable a value.

    `file` is None for the caller's environment; lines count from 1. `uses` are the variables that the value refers to
    where it is written, each with what defines it, the winner first.
    """

    value: str
    file: str | None = None
    line: int = 0
    uses: tuple[Use, ...] = ()


class Use(NamedTuple):
    """One variable that a value refers to, and its definitions, the winner first; none when it is unset."""

    name: str
    definitions: tuple[Definition, ...]


class Variables(dict[str, str]):
    """The variables that interpolation sees, with all definitions of each, also those that lost.

    Args:
        caller: the caller's environment; it wins over every file.
        defined: what env files say, in the order in which they were read; a later definition wins.
    """

    def __init__(self, caller: Mapping[str, str], defined: Mapping[str, list[Definition]] | None = None) -> None:
        self.caller = caller
        self.defined = dict(defined or {})
        super().__init__({name: found[-1].value for name, found in self.defined.items()})
        self.update(caller)

    def definitions(self, name: str) -> list[Definition]:
        """Return the places that define a variable, the winner first."""
        found = [Definition(self.caller[name])] if name in self.caller else []
        found += self.defined.get(name, [])[::-1]
        if name in self and (not found or found[0].value != self[name]):
            return [Definition(self[name], line=PROJECT_NAME), *found]
        return found

    def beneath(self, defined: Mapping[str, list[Definition]]) -> Variables:
        """Return these variables completed by further files, which lose against all that is here."""
        merged = {name: [*defined.get(name, []), *self.defined.get(name, [])] for name in {**defined, **self.defined}}
        result = Variables(self.caller, merged)
        result.update(self)
        return result
