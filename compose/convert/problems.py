"""Collects what is wrong while converting, each with its place in the files."""

from __future__ import annotations

from typing import Any

from pycompose.compose.loader import LoadError, Problem, Project


class ConvertError(LoadError):
    """The project is a good Compose file, and asks for what cannot be done."""


class Problems:
    """Errors and warnings of one conversion."""

    def __init__(self, project: Project) -> None:
        self._project = project
        self._errors: list[Problem] = []
        self.warnings: list[str] = []

    def error(self, path: tuple[str | int, ...], message: str, remedy: str = "") -> None:
        """Note an error at the attribute `path`."""
        self._errors.append(self._project.problem(path, message, remedy))

    def warn(self, path: tuple[str | int, ...], message: str) -> None:
        """Note a warning at the attribute `path`."""
        text = f"{self.place(path)}: {message}"
        if text not in self.warnings:
            self.warnings.append(text)

    def written(self, path: tuple[str | int, ...]) -> Any:
        """Return what the files say at `path`, also where the printed model leaves it out; None when nothing."""
        found = self._project.tree
        for part in path:
            try:
                found = found[part]
            except (KeyError, IndexError, TypeError):
                return None
        return found

    def place(self, path: tuple[str | int, ...]) -> str:
        """Return `file:line:column: key` of an attribute."""
        position = self._project.position(path)
        key = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path).lstrip(".")
        return f"{position.file}:{position.line}:{position.column}: {key}" if position else key

    def check(self) -> None:
        """Raise ConvertError when there was an error."""
        if self._errors:
            raise ConvertError(self._errors)
