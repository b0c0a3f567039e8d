"""Variables: from `.env` files to interpolation, from `env_file` and `label_file` to services."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from pycompose.compose.loader import dotenv
from pycompose.compose.loader.errors import LoadError, Problem
from pycompose.compose.loader.files import Files
from pycompose.compose.loader.interpolate import Warn
from pycompose.compose.loader.tree import Mark, Path, Source, locate
from pycompose.compose.loader.variables import Definition, Use, Variables

Lookup = Callable[[str], "str | None"]


def read_env_files(
    paths: Iterable[str], variables: Mapping[str, str], files: Files, warn: Warn
) -> dict[str, list[Definition]]:
    """Read files of variables for interpolation.

    Returns:
        Every definition of each variable in the order of reading: the last one holds, and `variables` win over all.

    Raises:
        LoadError: a file is missing or cannot be read.
    """
    values: dict[str, str] = {}
    found: dict[str, list[Definition]] = {}

    def above(name: str) -> Sequence[Definition]:
        if isinstance(variables, Variables):
            return variables.definitions(name)
        return [Definition(variables[name])] if name in variables else []

    for path in paths:
        text = _read(path, files, "env file", None, ())
        _parse(path, text, "", variables.get, values, warn, found, above)
    return found


def resolve_service(
    service: dict[str, Any],
    entries: Any,
    name: str,
    variables: Variables,
    files: Files,
    tree: Any,
    found: dict[str, list[Definition]],
) -> list[Problem]:
    """Fill a service's environment from the caller and from its env files, in place.

    Precedence: `environment`, then later env files, then earlier ones. Returns what went wrong; `found` gets what the
    env files define, in the order of reading.
    """
    own: dict[str, str | None] = dict(service.get("environment") or {})
    for key, value in own.items():
        if value is None and key in variables:
            own[key] = variables[key]
    values = {key: value for key, value in own.items() if value is not None}

    def lookup(key: str) -> str | None:
        return variables[key] if key in variables else own.get(key)

    def above(key: str) -> Sequence[Definition]:
        given = own.get(key)
        mark = locate(tree, ("services", name, "environment", key)) if given is not None else None
        inside = [Definition(given or "", mark.source.name, mark.line)] if mark else []
        return [*variables.definitions(key), *inside]

    problems: list[Problem] = []
    for index, entry in enumerate(entries or ()):
        path: Path = ("services", name, "env_file", index)
        if not entry.get("path"):
            problems.append(Problem.at(locate(tree, path), path, "an env file without a path", "name it or remove it"))
            continue
        if not entry["required"] and not files.is_file(entry["path"]):
            continue
        try:
            text = _read(entry["path"], files, "env file", locate(tree, path), path)
            _parse(entry["path"], text, entry.get("format", ""), lookup, values, lambda _: None, found, above)
        except LoadError as error:
            problems.extend(error.problems)
    merged: dict[str, str | None] = {**values, **own}
    if merged:
        service["environment"] = {key: merged[key] for key in sorted(merged, key=str.encode)}
    return problems


def resolve_labels(service: dict[str, Any], name: str, files: Files, tree: Any) -> list[Problem]:
    """Fill a service's labels from its label files, in place; `labels` wins. Returns what went wrong."""
    problems: list[Problem] = []
    values: dict[str, str] = {}
    for index, file in enumerate(service.get("label_file") or ()):
        path: Path = ("services", name, "label_file", index)
        try:
            text = _read(file, files, "label file", locate(tree, path), path)
            values.update(_parse(file, text, "", values.get, {}, lambda _: None, {}, lambda _: ()))
        except LoadError as error:
            problems.extend(error.problems)
    values.update(service.get("labels") or {})
    if values:
        service["labels"] = {key: values[key] for key in sorted(values, key=str.encode)}
    return problems


def read_text(path: str, files: Files) -> str:
    """Read a text file.

    Raises:
        LoadError: it cannot be read, or is not UTF-8.
    """
    return _read(path, files, "file", None, ())


def _read(path: str, files: Files, what: str, mark: Mark | None, key: Path) -> str:
    try:
        content = files.read(path)
    except FileNotFoundError:
        raise LoadError(Problem.at(mark, key, f"{what} {path} not found")) from None
    except IsADirectoryError:
        raise LoadError(Problem.at(mark, key, f"{what} {path} is a directory; name a file in it")) from None
    except OSError as error:
        raise LoadError(Problem.at(mark, key, f"{what} {path}: {error.strerror or error}")) from None
    try:
        return content.decode("utf-8-sig" if what == "file" else "utf-8")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        message = f"not UTF-8 text: byte {content[error.start]:#04x}"
        raise LoadError(Problem(message, file=path, line=line, column=1)) from None


def _parse(
    path: str,
    text: str,
    form: str,
    lookup: Lookup,
    values: dict[str, str],
    warn: Warn,
    found: dict[str, list[Definition]],
    above: Callable[[str], Sequence[Definition]],
) -> dict[str, str]:
    """Read one file into `values`, and what defines each into `found`; `above` defines what wins over the file."""

    def tell(name: str, value: str, line: int, names: tuple[str, ...]) -> None:
        uses = tuple(Use(one, (*above(one), *reversed(found.get(one, ())))) for one in names)
        found.setdefault(name, []).append(Definition(value, path, line, uses))

    try:
        if form == "raw":
            return dotenv.parse_raw(text, lookup, values, tell)
        if form not in ("", ".env"):
            raise LoadError(Problem(f'unsupported env_file format "{form}"', remedy='leave it out, or write "raw"'))
        return dotenv.parse(text, lookup, values, warn, tell)
    except dotenv.DotenvError as error:
        raise LoadError(Problem.at(Mark(Source(path, text), error.line, 1), "", str(error))) from None
