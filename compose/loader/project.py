"""The loaded project, as the rest of pycompose sees it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from pycompose.compose.loader.errors import Problem
from pycompose.compose.loader.references import Reference
from pycompose.compose.loader.remotes import Fetched
from pycompose.compose.loader.tree import Path, locate
from pycompose.compose.loader.variables import Definition


class Position(NamedTuple):
    """A place in a file; line and column count from 1."""

    file: str
    line: int
    column: int


@dataclass(frozen=True)
class Model:
    """The files merged and in long form, not interpolated: what `config --no-interpolate` prints is `tree`.

    `normalised` says whether what is implied was written out.
    """

    name: str
    tree: Any
    environment: Mapping[str, str]
    normalised: bool = True
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class Project:
    """One project, complete and consistent.

    `model` is the canonical mapping: what `config --format json` prints, with all `x-` keys and `models` besides.
    Sizes are decimal strings of bytes and durations Go's text there ("1m30s"), as Docker prints them. Treat it as
    read-only. `disabled_services` are those whose profiles are not active, in the same form. `environment` is what
    interpolation saw. `secret_values` and `config_values` hold the content of those that come from a variable.
    `env_file_values` are the variables that each service's env files define, every definition in the order of reading.
    `warnings` are lines for the user. `remotes` are the remote files, and `remote_variables` what those read of the
    caller's environment, by name, wherever it ends.
    """

    name: str
    working_dir: str
    config_files: tuple[str, ...]
    model: dict[str, Any]
    disabled_services: dict[str, Any]
    environment: Mapping[str, str]
    profiles: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    secret_values: Mapping[str, str] = field(default_factory=dict, repr=False)
    config_values: Mapping[str, str] = field(default_factory=dict, repr=False)
    env_file_values: Mapping[str, Mapping[str, Sequence[Definition]]] = field(default_factory=dict, repr=False)
    tree: Any = field(default=None, repr=False, compare=False)
    remotes: tuple[Fetched, ...] = ()
    remote_variables: Mapping[str, Reference] = field(default_factory=dict)

    @property
    def services(self) -> dict[str, Any]:
        """The enabled services by name."""
        services: dict[str, Any] = self.model["services"]
        return services

    def place(self, *path: str | int) -> str:
        """Return "FILE:LINE:COLUMN: services.web.ports[0]: " for the beginning of a message, "" for no such place."""
        position = self.position(path)
        key = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path).lstrip(".")
        return f"{position.file}:{position.line}:{position.column}: {key}: " if position else ""

    def problem(self, path: Path, message: str, remedy: str = "") -> Problem:
        """Return what is wrong with an attribute, with its place and its line of the file."""
        return Problem.at(locate(self.tree, path), path, message, remedy)

    def position(self, path: Path) -> Position | None:
        """Return where the attribute at `path` was written: of the nearest enclosing one when it is implied."""
        mark = locate(self.tree, path)
        return Position(mark.source.name, mark.line, mark.column) if mark else None
