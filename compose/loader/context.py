"""What one project, or included project, is loaded with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from pycompose.compose.loader.confine import Walls
from pycompose.compose.loader.environment import read_text
from pycompose.compose.loader.errors import LoadError, NoComposeFileError, Problem
from pycompose.compose.loader.files import Files
from pycompose.compose.loader.remotes import RemoteFiles
from pycompose.compose.loader.tree import Source
from pycompose.compose.loader.variables import Variables
from pycompose.compose.loader.yaml_source import Document, parse


@dataclass
class Context:
    """One project being loaded.

    `directory` is the base of relative paths and `variables` what interpolation sees. `interpolated`, `resolve_paths`
    say which steps to take; with a `root`, paths are made relative to that folder instead of absolute. `included` are
    the files that led here by `include`, `home` what `~` stands for. `granted` are the project directories that local
    files gave to remote ones, by the folder that came with those; with `trusted`, remote files may name any path.
    `warnings`, `sources` (files parsed ahead) and `remotes` are shared with included projects.
    """

    files: Files
    directory: str
    variables: Variables
    interpolated: bool
    home: str
    resolve_paths: bool = True
    root: str = ""
    included: tuple[str, ...] = ()
    remotes: RemoteFiles = field(default_factory=RemoteFiles)
    granted: Mapping[str, str] = field(default_factory=dict)
    trusted: bool = False
    warnings: list[str] = field(default_factory=list)
    sources: dict[str, list[Document]] = field(default_factory=dict)

    def warn(self, message: str) -> None:
        """Keep a warning for the user, once."""
        if message not in self.warnings:
            self.warnings.append(message)

    def walls(self, path: str) -> Walls | None:
        """Return what the file at `path` may name, None for a local file: everything."""
        owner = self.remotes.owner(path)
        return Walls(owner, self.granted.get(owner.root, ""), self.files) if owner else None

    def documents(self, path: str) -> list[Document]:
        """Read and parse a file; a second call returns fresh trees.

        Raises:
            NoComposeFileError: it is not there.
            LoadError: it cannot be read, or is not YAML.
        """
        try:
            return self.sources.pop(path)
        except KeyError:
            pass
        try:
            text = read_text(path, self.files)
        except LoadError as error:
            if "not found" in str(error):
                raise NoComposeFileError(Problem(f"{path}: no such file")) from None
            raise
        documents = parse(Source(path, text))
        self.remotes.read(path, documents)
        return documents
