"""A project as the layers of an artifact: its own files, what they extend, and env files if they go along.

Files that services extend, and env files, lie beside each other at the other end under names made of their paths'
hashes, and the Compose files name them so. What is included stays where it is: only remote files may be included.
"""

from __future__ import annotations

import hashlib
import posixpath
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from pycompose.compose.loader import LoadError, Problem, is_remote
from pycompose.compose.loader.interpolate import TemplateError, substitute
from pycompose.compose.remote.artifacts import COMPOSE_FILE, ENV_FILE, NOTE_ENV, NOTE_EXTENDS, NOTE_FILE, NOTE_VERSION
from pycompose.compose.remote.rewrite import rewrite
from pycompose.proto.v1.image_pb2 import ArtifactLayer


@dataclass
class Bundle:
    """Collects a project's files.

    Attributes:
        read: returns a local file's content.
        directory: of the project.
        environment: what variables in paths mean.
        version: written into each layer: whose form this is.
        env_files: the new names of env files, by their paths.
    """

    read: Callable[[str], bytes]
    directory: str
    environment: Mapping[str, str]
    version: str
    env_files: dict[str, str] = field(default_factory=dict)
    _extended: dict[str, str] = field(default_factory=dict)

    def layers(self, files: list[str], with_env: bool) -> list[ArtifactLayer]:
        """Return the layers.

        Args:
            files: absolute paths of the Compose files in the order of merging.
            with_env: add the env files' content.

        Raises:
            LoadError: a file cannot be read.
        """
        found = [self._layer(path, posixpath.basename(path), self.directory) for path in files]
        done = 0
        while done < len(self._extended):
            path, name = list(self._extended.items())[done]
            layer = self._layer(path, name, posixpath.dirname(path))
            layer.annotations[NOTE_EXTENDS] = "true"
            found.append(layer)
            done += 1
        for path, name in self.env_files.items() if with_env else ():
            try:
                data = self.read(path)
            except FileNotFoundError:
                continue  # one that need not be there: the project has been loaded
            notes = {NOTE_VERSION: self.version, NOTE_ENV: name}
            found.append(ArtifactLayer(media_type=ENV_FILE, data=data, annotations=notes))
        return found

    def _layer(self, path: str, name: str, folder: str) -> ArtifactLayer:
        def env_file(written: str) -> str:
            place = self._absolute(written, folder)
            return self.env_files.setdefault(place, f"{_hash(place)}.env")

        def extends(written: str) -> str | None:
            if is_remote(written):
                return None
            place = self._absolute(written, folder)
            return self._extended.setdefault(place, f"{_hash(place)}.yaml")

        try:
            text = self.read(path).decode("utf-8-sig")
        except OSError as error:
            raise LoadError(Problem(f"{path}: {error.strerror}")) from None
        data = rewrite(text, env_file, extends).encode()
        return layer_of(name, data, self.version)

    def _absolute(self, written: str, folder: str) -> str:
        try:
            path = substitute(written, self.environment.get, lambda _: None)
        except TemplateError as error:
            raise LoadError(Problem(f"{written}: {error}")) from None
        home = self.environment.get("HOME", "")
        path = posixpath.join(home, path[1:].lstrip("/")) if path.startswith("~") and home else path
        return posixpath.normpath(posixpath.join(folder, path))


def layer_of(name: str, data: bytes, version: str) -> ArtifactLayer:
    """Return the layer of one Compose file."""
    return ArtifactLayer(media_type=COMPOSE_FILE, data=data, annotations={NOTE_VERSION: version, NOTE_FILE: name})


def _hash(path: str) -> str:
    return hashlib.sha256(path.encode()).hexdigest()
