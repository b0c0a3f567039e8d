"""Which files make the project, and what it is called, when the command line does not say."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Mapping, Sequence

from pycompose.compose.loader.environment import read_env_files
from pycompose.compose.loader.errors import LoadError, NoComposeFileError, Problem
from pycompose.compose.loader.files import DiskFiles, Files
from pycompose.compose.loader.interpolate import Warn
from pycompose.compose.loader.remotes import is_remote
from pycompose.compose.loader.variables import Variables

FILE_NAMES = ("compose.yaml", "compose.yml", "docker-compose.yml", "docker-compose.yaml")
OVERRIDE_NAMES = (
    "compose.override.yml",
    "compose.override.yaml",
    "docker-compose.override.yml",
    "docker-compose.override.yaml",
)


def discover_files(
    directory: str, variables: Mapping[str, str], files: Files | None = None, warn: Warn = lambda _: None
) -> list[str]:
    """Find the project's files: `COMPOSE_FILE`, else the first default name here or in a folder above.

    Args:
        directory: the absolute folder to start from.
        variables: the environment (`COMPOSE_FILE`, `COMPOSE_PATH_SEPARATOR`).
        files: the file system.
        warn: is told when several candidates exist.

    Returns:
        Absolute paths, in the order of merging; `-` stays.

    Raises:
        NoComposeFileError: nothing was found.
    """
    files = files or DiskFiles()
    if variables.get("COMPOSE_FILE"):
        separator = variables.get("COMPOSE_PATH_SEPARATOR") or ":"
        named = _split(variables["COMPOSE_FILE"], separator)
        whole = [name == "-" or is_remote(name) for name in named]
        paths = [
            name if kept else posixpath.normpath(posixpath.join(directory, name))
            for name, kept in zip(named, whole, strict=True)
        ]
        for path, kept in zip(paths, whole, strict=True):
            if not kept and not files.is_file(path):
                raise NoComposeFileError(Problem(f"{path}: no such file", remedy="COMPOSE_FILE names it"))
        return paths
    folder = directory
    while True:
        found = [path for name in FILE_NAMES if files.is_file(path := posixpath.join(folder, name))]
        if found:
            if len(found) > 1:
                warn(f"Found multiple config files with supported names: {', '.join(found)}")
                warn(f"Using {found[0]}")
            overrides = [path for name in OVERRIDE_NAMES if files.is_file(path := posixpath.join(folder, name))]
            if len(overrides) > 1:
                warn(f"Found multiple override files with supported names: {', '.join(overrides)}")
                warn(f"Using {overrides[0]}")
            return [found[0], *overrides[:1]]
        parent = posixpath.dirname(folder)
        if parent == folder:
            raise NoComposeFileError(
                Problem(
                    f"no configuration file found in {directory} or any folder above",
                    remedy=f"write {FILE_NAMES[0]}, or name a file with -f",
                )
            )
        folder = parent


def _split(text: str, separator: str) -> list[str]:
    """Return the files that COMPOSE_FILE names.

    Raises:
        LoadError: a remote one is among several that ":" separates.
    """
    if separator != ":" or not any(is_remote(text[at:]) for at in (0, *_after_colons(text))):
        return text.split(separator)
    if is_remote(text) and "://" not in text.partition("://")[2]:
        return [text]
    remedy = 'separate them by another character: COMPOSE_PATH_SEPARATOR="|" COMPOSE_FILE="one|other"'
    raise LoadError(Problem("COMPOSE_FILE names a remote file, which has colons itself, among others", remedy=remedy))


def _after_colons(text: str) -> list[int]:
    return [at + 1 for at, char in enumerate(text) if char == ":"]


def default_environment(
    directory: str,
    variables: Mapping[str, str],
    env_files: Sequence[str] | None = None,
    files: Files | None = None,
    warn: Warn = lambda _: None,
) -> Variables:
    """Return `variables` completed from `env_files`, by default from `.env` in `directory` if it is there.

    Raises:
        LoadError: a file is missing or malformed.
    """
    files = files or DiskFiles()
    if not env_files:
        default = posixpath.join(directory, ".env")
        off = variables.get("COMPOSE_DISABLE_ENV_FILE", "").lower() in ("1", "t", "true")
        env_files = [default] if not off and files.is_file(default) else []
    paths = [posixpath.normpath(posixpath.join(directory, path)) for path in env_files]
    return Variables(variables, read_env_files(paths, variables, files, warn))


def normalise_name(text: str) -> str:
    """Make a project name of any text: lower case, only `a-z0-9_-`, starting with a letter or digit."""
    return "".join(re.findall("[a-z0-9_-]", text.lower())).lstrip("_-")


def check_name(name: str) -> str:
    """Return `name` if it is a project name.

    Raises:
        LoadError: it is not.
    """
    if name != normalise_name(name):
        remedy = f'did you mean "{normalise_name(name)}"?' if normalise_name(name) else ""
        message = (
            f"invalid project name {name!r}: it must consist only of lower-case letters, digits, hyphens and "
            "underscores, and start with a letter or digit"
        )
        raise LoadError(Problem(message, remedy=remedy))
    return name


def default_project_name(
    directory: str,
    variables: Mapping[str, str],
    named: str | None = None,
    in_file: str | None = None,
    normalised: bool = True,
) -> str:
    """Choose the project's name: `named` (the flag), `COMPOSE_PROJECT_NAME`, the file's `name`, the folder's.

    Args:
        directory: the project directory, absolute.
        variables: the environment.
        named: as given by the user.
        in_file: the file's `name`, None when it has none.
        normalised: False leaves the file's name as it is written.

    Raises:
        LoadError: the chosen one is not a name, or nothing is left of the file's or the folder's.
    """
    if named:
        return check_name(named)
    if variables.get("COMPOSE_PROJECT_NAME"):
        return check_name(variables["COMPOSE_PROJECT_NAME"])
    name = normalise_name(posixpath.basename(directory))
    if in_file is not None:
        name = normalise_name(in_file) if normalised else in_file
    if not name:
        raise LoadError(Problem("project name must not be empty", remedy="name it with -p NAME or a top-level name"))
    return name
