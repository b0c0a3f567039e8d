"""The chain of steps from files to a `Project`; see the package's docstring for the picture."""

from __future__ import annotations

import os
import posixpath
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from pycompose.compose.loader import include as including
from pycompose.compose.loader import interpolate as interpolation
from pycompose.compose.loader.attributes import PROJECT, SERVICE
from pycompose.compose.loader.canonical import canonical, set_defaults
from pycompose.compose.loader.consistency import check_forms, check_project
from pycompose.compose.loader.discover import default_environment, default_project_name
from pycompose.compose.loader.environment import read_env_files, read_text, resolve_labels, resolve_service
from pycompose.compose.loader.errors import LoadError, NoComposeFileError, Problem
from pycompose.compose.loader.extends import Base, apply_extends
from pycompose.compose.loader.files import DiskFiles, Files
from pycompose.compose.loader.interpolate import TemplateError, substitute
from pycompose.compose.loader.kinds import check
from pycompose.compose.loader.merge import RULES, apply_resets, deduplicate, merge
from pycompose.compose.loader.normalise import normalise as normalise_tree
from pycompose.compose.loader.normalise import resolve_names
from pycompose.compose.loader.paths import Resolver
from pycompose.compose.loader.project import Project
from pycompose.compose.loader.select import select_services, without_unused
from pycompose.compose.loader.tree import Map, Mark, Path, Source, clone, mark_of
from pycompose.compose.loader.typed import Typer
from pycompose.compose.loader.yaml_source import Document, parse


@dataclass
class _Context:
    """What one project, or included project, is loaded with."""

    files: Files
    directory: str
    variables: dict[str, str]
    interpolated: bool
    validated: bool
    home: str
    resolve_paths: bool = True
    included: tuple[str, ...] = ()
    warnings: list[str] = field(default_factory=list)
    sources: dict[str, list[Document]] = field(default_factory=dict)

    def warn(self, message: str) -> None:
        if message not in self.warnings:
            self.warnings.append(message)


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
    all_resources: bool = False,
    files: Files | None = None,
) -> Project:
    """Load a project.

    Args:
        sources: the files in the order of merging; `-` is standard input.
        project_directory: base of relative paths and of `.env`; default: the first file's folder.
        project_name: as given by the user; default: see `default_project_name`.
        environment: the caller's variables; they win over env files.
        env_files: files of variables for interpolation; default: `.env` of the project directory.
        profiles: active profiles; default: `COMPOSE_PROFILES`. "*" is all.
        services: only these and what they depend on; their profiles are activated.
        interpolate, normalise, resolve_paths, check_consistency, resolve_environment: False skips the step.
        all_resources: keep networks, volumes, secrets and configs that no service uses.
        files: the file system.

    Raises:
        LoadError: with every problem found in the step that failed.
        NoComposeFileError: a file named in `sources` is not there.
    """
    files = files or DiskFiles()
    paths = [str(source) if str(source) == "-" else os.path.abspath(source) for source in sources]
    if not paths:
        raise NoComposeFileError(Problem("no configuration file provided", remedy="name one with -f"))
    directory = _directory(paths, project_directory)
    warnings: list[str] = []
    variables = default_environment(directory, environment or {}, env_files, files, warnings.append)
    home = variables.get("HOME", "")
    context = _Context(files, directory, variables, interpolate, True, home, resolve_paths, warnings=warnings)
    name = _project_name(paths, context, project_name)
    variables["COMPOSE_PROJECT_NAME"] = name
    tree = _load_model(paths, context)
    if not tree:
        raise LoadError(Problem("empty compose file", file=paths[0], remedy="define services"))
    return _finish(
        tree,
        context,
        name,
        tuple(paths),
        _profiles(profiles, variables),
        services,
        normalised=normalise,
        consistent=check_consistency,
        environment=resolve_environment,
        all_resources=all_resources,
    )


def _directory(paths: list[str], given: str | os.PathLike[str] | None) -> str:
    if given:
        return os.path.abspath(given)
    first = next((path for path in paths if path != "-"), None)
    return posixpath.dirname(first) if first else os.getcwd()


def _profiles(given: Sequence[str], variables: Mapping[str, str]) -> tuple[str, ...]:
    chosen = given or variables.get("COMPOSE_PROFILES", "").split(",")
    return tuple(name.strip() for name in chosen if name.strip())


def _documents(path: str, context: _Context) -> list[Document]:
    """Read and parse a file; each call returns fresh trees but for the first caller's."""
    try:
        return context.sources.pop(path)
    except KeyError:
        pass
    try:
        text = read_text(path, context.files)
    except LoadError as error:
        if "not found" in str(error):
            raise NoComposeFileError(Problem(f"{path}: no such file")) from None
        raise
    return parse(Source(path, text))


def _project_name(paths: list[str], context: _Context, given: str | None) -> str:
    """Choose the name; the last file or document that has one wins. The parsed files are kept for the loading."""
    in_file: str | None = None
    for path in dict.fromkeys(paths):
        documents = _documents(path, context)
        context.sources[path] = documents
        for document in documents:
            if isinstance(document.tree, dict) and isinstance(document.tree.get("name"), str) and document.tree["name"]:
                in_file = document.tree["name"]
                if context.interpolated and not given and "$" in in_file:
                    try:
                        in_file = substitute(in_file, context.variables.get, context.warn)
                    except TemplateError as error:
                        mark = mark_of(document.tree, "name")
                        raise LoadError(Problem.at(mark, ("name",), str(error), error.remedy)) from None
    return default_project_name(context.directory, context.variables, given, in_file)


def _load_model(paths: Sequence[str], context: _Context) -> Map:
    """Load files over one another to one canonical tree with absolute paths."""
    tree = Map()
    for path in paths:
        for document in _documents(path, context):
            tree = _load_document(document, path, tree, context)
    set_defaults(tree)
    problems = check_forms(tree)
    if problems and context.validated:
        raise LoadError(problems)
    if context.resolve_paths:
        Resolver(context.directory, context.home, context.files).resolve(tree)
    _resolve_variables(tree, context.variables)
    return tree


def _load_document(document: Document, path: str, base: Map, context: _Context) -> Map:
    tree = _mapping(document.tree, path)
    if context.interpolated:
        try:
            interpolation.interpolate(tree, context.variables, context.warn)
        except LoadError as error:
            raise LoadError(_with_others(error.problems, tree)) from None

    def load_base(other: str, service: str, mark: Mark | None, key: Path) -> Base:
        return _load_base(other, service, mark, key, context, path)

    apply_extends(tree, path, document.resets, load_base)
    apply_resets(base, document.resets)
    _apply_includes(tree, path, context)
    tree = _mapping(merge(base, tree, (), RULES), path)
    deduplicate(tree)
    problems: list[Problem] = []
    check(tree, PROJECT, None, (), problems)
    if problems:
        raise LoadError(_with_others(problems, tree))
    if "version" in tree:
        context.warn(
            f"{path}: the attribute `version` is obsolete, it will be ignored, please remove it to avoid potential "
            "confusion"
        )
        del tree["version"]
    _canonicalise(tree, context)
    return tree


def _with_others(problems: Sequence[Problem], tree: Map) -> list[Problem]:
    """Add to `problems` what else is wrong in other places of the file."""
    places = {(one.file, one.line, one.column) for one in problems}
    return [*problems, *(one for one in _all_problems(tree) if (one.file, one.line, one.column) not in places)]


def _all_problems(tree: Map) -> list[Problem]:
    """Look further once something is wrong: check each service by itself, as far as it can be read.

    Only used to report more at once; a service that the first check finds faulty is not looked at again.
    """
    found: list[Problem] = []
    services = tree.get("services")
    for name, service in services.items() if isinstance(services, Map) else ():
        problems: list[Problem] = []
        check(service, SERVICE, services, ("services", name), problems)
        if not problems and isinstance(service, Map):
            alone = Map({"services": Map({name: clone(service)})})
            problems = canonical(alone)
            if not problems:
                typer = Typer()
                typer.struct(alone, PROJECT, ())
                problems = typer.problems
        found += [problem for problem in problems if not problem.message.endswith("is missing here")]
    return found


def _mapping(tree: Any, path: str) -> Map:
    if not isinstance(tree, Map):
        got = "nothing" if tree is None else "a list" if isinstance(tree, list) else "a single value"
        remedy = "begin with services:"
        raise LoadError(Problem(f"the top level must be a mapping, not {got}", file=path, remedy=remedy))
    return tree


def _canonicalise(tree: Map, context: _Context) -> None:
    problems = canonical(tree, context.interpolated)
    if problems:
        raise LoadError(problems)
    for service in (tree.get("services") or {}).values():
        if isinstance(service, dict) and isinstance(service.get("dns"), list):
            service["dns"][:] = [address for address in service["dns"] if address]
    deduplicate(tree)


def _load_base(written: str, service: str, mark: Mark | None, key: Path, context: _Context, origin: str) -> Base:
    """Load the file that a service extends: its services in long form, its paths absolute."""
    if including.is_remote(written):
        message = f"{written}: remote files cannot be extended yet"
        raise LoadError(Problem.at(mark, key, message, "fetch it, and name the local file"))
    path = posixpath.normpath(posixpath.join(context.directory, written))
    try:
        documents = _documents(path, context)
    except NoComposeFileError:
        raise LoadError(Problem.at(mark, (*key, "file"), f"{path}: no such file")) from None
    tree = Map()
    resets: tuple[Path, ...] = ()
    for document in documents:
        below = _mapping(document.tree, path)
        if context.interpolated:
            interpolation.interpolate(below, context.variables, context.warn)
        resets = document.resets
        apply_resets(tree, resets)
        tree = merge(tree, below, (), RULES)
        deduplicate(tree)
    services = tree.get("services")
    if not isinstance(services, Map):
        raise LoadError(Problem.at(mark, key, f"{path} has no services"))
    only = Map({"services": services})
    for name in list(services):
        problems: list[Problem] = []
        check(services[name], SERVICE, services, ("services", name), problems)
        if problems and name == service:
            raise LoadError(problems)
        if problems:
            del services[name]
    _canonicalise(only, context)
    Resolver(posixpath.dirname(path), context.home, context.files).resolve(only)
    return services, resets, path


def _apply_includes(tree: Map, path: str, context: _Context) -> None:
    if "include" not in tree:
        return
    problems: list[Problem] = []
    below = (PROJECT.fields or {})["include"]
    check(tree["include"], below, tree, ("include",), problems)
    if problems:
        raise LoadError(problems)
    chain = (*context.included, path)
    for one in including.read_includes(tree, context.directory):
        if one.paths[0] in chain:
            steps = " -> ".join((*chain[chain.index(one.paths[0]) :], one.paths[0]))
            raise LoadError(Problem.at(one.mark, ("include",), f"include cycle detected: {steps}"))
        if len(chain) > 50:
            raise LoadError(Problem.at(one.mark, ("include",), "more than 50 files include one another in a chain"))
        env_files = one.env_files
        if env_files is None:
            default = posixpath.join(one.directory, ".env")
            env_files = (default,) if context.files.is_file(default) else ()
        values = read_env_files(env_files, context.variables, context.files, context.warn)
        inner = replace(
            context,
            directory=one.directory,
            variables={**values, **context.variables},
            included=chain,
            resolve_paths=True,
        )
        try:
            imported = _load_model(one.paths, inner)
        except NoComposeFileError as error:
            raise LoadError(Problem.at(one.mark, ("include",), error.problems[0].message)) from None
        including.import_resources(imported, tree)
    del tree["include"]


def _resolve_variables(tree: Map, variables: Mapping[str, str]) -> None:
    """Give names listed without a value in `environment` the value that they have here."""
    for service in (tree.get("services") or {}).values():
        if isinstance(service, dict) and isinstance(service.get("environment"), list):
            resolve_names(service["environment"], variables, keep=True)
    for section in ("secrets", "configs"):
        for entry in (tree.get(section) or {}).values():
            if isinstance(entry, dict) and entry.get("environment") in variables:
                entry[_VALUE] = variables[entry["environment"]]


_VALUE = "x-#value"
"""Where the content of a secret or config from a variable travels inside the tree, as in compose-go."""


def _finish(
    tree: Map,
    context: _Context,
    name: str,
    paths: tuple[str, ...],
    profiles: tuple[str, ...],
    services: Sequence[str] | None,
    *,
    normalised: bool,
    consistent: bool,
    environment: bool,
    all_resources: bool,
) -> Project:
    """From the canonical tree to the project: names, types, profiles, consistency, environment."""
    if normalised:
        normalise_tree(tree, name, context.variables)
    values = {section: _take_values(tree.get(section)) for section in ("secrets", "configs")}
    tree["name"] = name
    typer = Typer()
    model = typer.struct(tree, PROJECT, ())
    if typer.problems:
        raise LoadError(typer.problems)
    everything = model["services"]
    enabled = {one: entry for one, entry in everything.items() if _active(entry, profiles)}
    disabled = {one: entry for one, entry in everything.items() if one not in enabled}
    model["services"] = enabled
    if consistent:
        problems = check_project(model, disabled, tree)
        if problems:
            raise LoadError(problems)
    for entry in enabled.values():
        if entry.get("scale") is not None and entry.get("deploy"):
            entry["deploy"]["replicas"] = entry["scale"]
            entry["deploy"] = {key: entry["deploy"][key] for key in sorted(entry["deploy"], key=_DEPLOY_ORDER)}
    model["services"], disabled = select_services(enabled, disabled, services, profiles)
    if not all_resources:
        without_unused(model)
    problems = []
    for one, entry in model["services"].items():
        if environment:
            problems += resolve_service(entry, entry.pop("env_file", None), one, context.variables, context.files, tree)
        problems += resolve_labels(entry, one, context.files, tree)
        if environment:
            entry.pop("label_file", None)
        model["services"][one] = _ordered(entry)
    if problems:
        raise LoadError(problems)
    return Project(
        name=name,
        working_dir=context.directory,
        config_files=paths,
        model=model,
        disabled_services=disabled,
        environment=context.variables,
        profiles=profiles,
        warnings=tuple(context.warnings),
        secret_values=values["secrets"],
        config_values=values["configs"],
        tree=tree,
    )


_SERVICE_ORDER = {name: index for index, name in enumerate(SERVICE.fields or {})}
_DEPLOY_NAMES = list(((SERVICE.fields or {})["deploy"].fields) or {})


def _DEPLOY_ORDER(key: str) -> tuple[int, str]:
    return (_DEPLOY_NAMES.index(key) if key in _DEPLOY_NAMES else len(_DEPLOY_NAMES), key)


def _ordered(service: dict[str, Any]) -> dict[str, Any]:
    return {key: service[key] for key in sorted(service, key=lambda one: (_SERVICE_ORDER.get(one, 999), one))}


def _take_values(section: Any) -> dict[str, str]:
    return {
        name: entry.pop(_VALUE)
        for name, entry in (section or {}).items()
        if isinstance(entry, dict) and _VALUE in entry
    }


def _active(service: dict[str, Any], profiles: tuple[str, ...]) -> bool:
    wanted = service.get("profiles")
    return not wanted or "*" in profiles or any(profile in profiles for profile in wanted)
