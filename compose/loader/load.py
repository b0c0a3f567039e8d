"""The two ways in: `load` for a project, `load_model` for the files merged but not yet understood.

See the package's docstring for the picture of the steps.
"""

from __future__ import annotations

import os
import posixpath
from collections.abc import Mapping, Sequence
from dataclasses import replace

from pycompose.compose.loader.assemble import assemble
from pycompose.compose.loader.context import Context
from pycompose.compose.loader.discover import default_environment, default_project_name, normalise_name
from pycompose.compose.loader.errors import LoadError, NoComposeFileError, Problem
from pycompose.compose.loader.files import DiskFiles, Files
from pycompose.compose.loader.finish import Wishes, finish
from pycompose.compose.loader.interpolate import TemplateError, substitute
from pycompose.compose.loader.normalise import normalise as normalise_tree
from pycompose.compose.loader.project import Model, Project
from pycompose.compose.loader.remotes import CheckedFiles, Fetch, RemoteError, RemoteFiles, is_remote, no_remotes
from pycompose.compose.loader.tree import Map, mark_of
from pycompose.compose.loader.variables import Variables


def load(
    sources: Sequence[str | os.PathLike[str]],
    *,
    project_directory: str | os.PathLike[str] | None = None,
    project_name: str | None = None,
    environment: Mapping[str, str] | None = None,
    env_files: Sequence[str] | None = None,
    profiles: Sequence[str] = (),
    services: Sequence[str] | None = None,
    interpolate: bool = True,
    normalise: bool = True,
    resolve_paths: bool = True,
    check_consistency: bool = True,
    resolve_environment: bool = True,
    all_env_files: bool = False,
    all_resources: bool = False,
    files: Files | None = None,
    fetch: Fetch = no_remotes,
    trust_remote: bool = False,
) -> Project:
    """Load a project.

    Args:
        sources: the files in the order of merging; `-` is standard input, and some may be remote.
        project_directory: base of relative paths and of `.env`; default: the first file's folder, the working
            directory where that file is remote. Relative paths in a remote file start at its own folder.
        project_name: as given by the user; default: see `default_project_name`.
        environment: the caller's variables; they win over env files.
        env_files: files of variables for interpolation; default: `.env` of the project directory.
        profiles: active profiles; default: `COMPOSE_PROFILES`. "*" is all.
        services: only these and what they depend on; their profiles are activated.
        interpolate, normalise, resolve_paths, check_consistency, resolve_environment: False skips the step.
        all_env_files: read the env files of enabled services that are not selected, too.
        all_resources: keep networks, volumes, secrets and configs that no service uses.
        files: the file system.
        fetch: brings remote files here.
        trust_remote: let remote files name any path of this machine.

    Raises:
        LoadError: with every problem found in the step that failed.
        NoComposeFileError: a file named in `sources` is not there.
    """
    paths = _absolute(sources)
    context = _context(paths, project_directory, environment, env_files, files, interpolate, resolve_paths)
    paths, context = _with_remotes(paths, context, fetch, trust_remote)
    name = _project_name(paths, context, project_name, normalise)
    tree = _read(paths, context, name, normalise)
    wishes = Wishes(
        profiles=_profiles(profiles, context.variables),
        services=services,
        check_consistency=check_consistency,
        resolve_environment=resolve_environment,
        all_env_files=all_env_files,
        all_resources=all_resources,
    )
    return finish(tree, context, name, tuple(map(context.remotes.name, paths)), wishes)


def load_model(
    sources: Sequence[str | os.PathLike[str]],
    *,
    project_directory: str | os.PathLike[str] | None = None,
    project_name: str | None = None,
    environment: Mapping[str, str] | None = None,
    env_files: Sequence[str] | None = None,
    normalise: bool = True,
    resolve_paths: bool = True,
    files: Files | None = None,
    fetch: Fetch = no_remotes,
    trust_remote: bool = False,
) -> Model:
    """Load the files without interpolating them: merged and in long form, but with every variable still in place.

    Since `${REPLICAS}` may be anything, values keep the types that they were written with, all services are there
    whatever their profile, and nothing is checked that needs a value. The arguments, and what is raised, are `load`'s.
    """
    paths = _absolute(sources)
    context = _context(paths, project_directory, environment, env_files, files, False, resolve_paths)
    paths, context = _with_remotes(paths, context, fetch, trust_remote)
    name = _project_name(paths, context, project_name, normalise)
    context = replace(context, variables=Variables({}))
    tree = _read(paths, context, name, normalise)
    return Model(
        name=name, tree=tree, environment=context.variables, normalised=normalise, warnings=tuple(context.warnings)
    )


def _absolute(sources: Sequence[str | os.PathLike[str]]) -> list[str]:
    plain = [str(source) for source in sources]
    paths = [one if one == "-" or is_remote(one) else os.path.abspath(one) for one in plain]
    if not paths:
        raise NoComposeFileError(Problem("no configuration file provided", remedy="name one with -f"))
    return paths


def _with_remotes(paths: list[str], context: Context, fetch: Fetch, trusted: bool) -> tuple[list[str], Context]:
    """Bring the remote ones of the project's own files here; returns the paths of all.

    Raises:
        LoadError: one cannot be had.
    """
    remotes = RemoteFiles(fetch)
    context = replace(context, remotes=remotes, trusted=trusted, files=CheckedFiles(context.files, remotes))
    try:
        return [remotes.bring(path).path if is_remote(path) else path for path in paths], context
    except RemoteError as error:
        raise LoadError(Problem(error.message, remedy=error.remedy)) from None


def _context(
    paths: list[str],
    project_directory: str | os.PathLike[str] | None,
    environment: Mapping[str, str] | None,
    env_files: Sequence[str] | None,
    files: Files | None,
    interpolated: bool,
    resolve_paths: bool,
) -> Context:
    files = files or DiskFiles()
    directory = _directory(paths, project_directory)
    warnings: list[str] = []
    variables = default_environment(directory, environment or {}, env_files, files, warnings.append)
    home = variables.get("HOME", "")
    return Context(files, directory, variables, interpolated, home, resolve_paths, warnings=warnings)


def _directory(paths: list[str], given: str | os.PathLike[str] | None) -> str:
    if given:
        return os.path.abspath(given)
    first = next((path for path in paths if path != "-"), None)
    return posixpath.dirname(first) if first and not is_remote(first) else os.getcwd()


def _read(paths: list[str], context: Context, name: str, normalised: bool) -> Map:
    """Return the project's tree."""
    context.variables["COMPOSE_PROJECT_NAME"] = name
    tree = assemble(paths, context)
    if not tree:
        raise LoadError(Problem("empty compose file", file=context.remotes.name(paths[0]), remedy="define services"))
    if normalised:
        tree["name"] = name
        normalise_tree(tree, name, context.variables)
    return tree


def _profiles(given: Sequence[str], variables: Mapping[str, str]) -> tuple[str, ...]:
    chosen = given or variables.get("COMPOSE_PROFILES", "").split(",")
    return tuple(name.strip() for name in chosen if name.strip())


def _project_name(paths: list[str], context: Context, given: str | None, normalised: bool) -> str:
    """Choose the name; the last file or document that has one wins. The parsed files are kept for the loading."""
    in_file: str | None = None
    for path in dict.fromkeys(paths):
        documents = context.documents(path)
        context.sources[path] = documents
        for index, document in enumerate(documents):
            written = document.tree.get("name") if isinstance(document.tree, dict) else None
            if not isinstance(written, str) or not written:
                continue
            name = written
            if context.interpolated and not given and "$" in written:
                try:
                    name = substitute(written, context.variables.get, context.warn)
                except TemplateError as error:
                    mark = mark_of(document.tree, "name")
                    raise LoadError(Problem.at(mark, ("name",), str(error), error.remedy)) from None
            if index == 0 or normalise_name(name):
                in_file = name
    return default_project_name(context.directory, context.variables, given, in_file, normalised)
