"""From files to one canonical tree: parse, interpolate, extend, include, merge, check, bring to long forms.

    each document ─► interpolate ─► extends ─► resets ─► include ─► merge onto what came before ─► deduplicate
                                                                        ─► check kinds ─► long forms ─► deduplicate
    after the last ─► defaults ─► check forms ─► paths ─► variables named without a value

Included projects pass the same steps in their own folder and with their own variables before their resources are
added; a file that is only extended skips what needs the whole project.
"""

from __future__ import annotations

import posixpath
from collections.abc import Mapping, Sequence
from dataclasses import replace

from pycompose.compose.loader import include as including
from pycompose.compose.loader import interpolate as interpolation
from pycompose.compose.loader.attributes import PROJECT
from pycompose.compose.loader.canonical import canonical, set_defaults
from pycompose.compose.loader.confine import Walls
from pycompose.compose.loader.consistency import check_forms
from pycompose.compose.loader.context import Context
from pycompose.compose.loader.environment import read_env_files
from pycompose.compose.loader.errors import LoadError, NoComposeFileError, Problem
from pycompose.compose.loader.extends import Base, apply_extends
from pycompose.compose.loader.kinds import check
from pycompose.compose.loader.merge import RULES, apply_resets, deduplicate, merge
from pycompose.compose.loader.normalise import resolve_names
from pycompose.compose.loader.paths import Resolver
from pycompose.compose.loader.remote_documents import confine_base, granted, localise, located
from pycompose.compose.loader.service_attributes import SERVICE
from pycompose.compose.loader.tree import Map, Mark, Path, Reset, Seq, clone
from pycompose.compose.loader.typed import Typer
from pycompose.compose.loader.yaml_source import Document

VALUE = "x-#value"
"""Where the content of a secret or config from a variable travels inside the tree, as in compose-go."""


def assemble(paths: Sequence[str], context: Context) -> Map:
    """Load files over one another to one canonical tree with absolute paths.

    Raises:
        LoadError: with every problem found in the step that failed.
    """
    tree = Map()
    for path in paths:
        for document in context.documents(path):
            tree = _add_document(document, path, tree, context)
    set_defaults(tree)
    problems = check_forms(tree)
    if problems:
        raise LoadError(problems)
    if context.resolve_paths:
        base = posixpath.relpath(context.directory, context.root) if context.root else context.directory
        Resolver(base, context.home, context.files).resolve(tree)
    _resolve_variables(tree, context.variables)
    return tree


def _add_document(document: Document, path: str, base: Map, context: Context) -> Map:
    tree = _mapping(document.tree, path)
    if context.interpolated:
        try:
            interpolation.interpolate(tree, context.variables, context.warn)
        except LoadError as error:
            raise LoadError(_with_others(error.problems, tree)) from None

    folder = context.directory
    if (walls := context.walls(path)) is not None:
        folder = localise(tree, path, base, walls, context)

    def load_base(other: str, service: str, mark: Mark | None, key: Path) -> Base:
        return _load_base(other, service, mark, key, folder, walls, context)

    apply_extends(tree, path, document.resets, load_base)
    apply_resets(base, document.resets)
    _apply_includes(tree, path, folder, walls, context)
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
    _to_long_forms(tree, context)
    return tree


def _with_others(problems: Sequence[Problem], tree: Map) -> list[Problem]:
    """Add to `problems` what else is wrong in other places of the file."""
    places = {(one.file, one.line, one.column) for one in problems}
    return [*problems, *(one for one in _all_problems(tree) if (one.file, one.line, one.column) not in places)]


def _all_problems(tree: Map) -> list[Problem]:
    """Look further once something is wrong: check what stands beside services, and each service by itself.

    Only used to report more at once; a service that the first check finds faulty is not looked at again.
    """
    found: list[Problem] = []
    beside = Map({key: value for key, value in tree.items() if key != "services"}, tree.mark, tree.marks)
    check(beside, PROJECT, None, (), found)
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


def _mapping(tree: object, path: str) -> Map:
    if not isinstance(tree, Map):
        got = "nothing" if tree is None else "a list" if isinstance(tree, list) else "a single value"
        remedy = "begin with services:"
        raise LoadError(Problem(f"the top level must be a mapping, not {got}", file=path, remedy=remedy))
    return tree


def _to_long_forms(tree: Map, context: Context) -> None:
    problems = canonical(tree, context.interpolated)
    if problems:
        raise LoadError(problems)
    for service in (tree.get("services") or {}).values():
        if isinstance(service, dict) and isinstance(service.get("dns"), list):
            service["dns"][:] = [address for address in service["dns"] if address]
    deduplicate(tree)


def _load_base(
    written: str, service: str, mark: Mark | None, key: Path, folder: str, walls: Walls | None, context: Context
) -> Base:
    """Load the file that a service extends: its services in long form, its paths absolute.

    Args:
        folder: what relative paths start from in the file that extends.
        walls: what that file may name.
    """
    path = located(written, mark, (*key, "file"), folder, walls, context)
    try:
        documents = context.documents(path)
    except NoComposeFileError:
        raise LoadError(Problem.at(mark, (*key, "file"), f"{path}: no such file")) from None
    tree = Map()
    resets: tuple[Reset, ...] = ()
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
        if services[name] is None:
            continue  # nothing to add to the service that extends it
        problems: list[Problem] = []
        check(services[name], SERVICE, services, ("services", name), problems)
        if problems and name == service:
            raise LoadError(problems)
        if problems:
            del services[name]
    _to_long_forms(only, context)
    inner = context.walls(path)
    if inner is not None:
        confine_base(only, service, path, inner, context)
    start = posixpath.dirname(path)
    if not (context.resolve_paths and (walls or inner)):
        # relative to the extending project's folder, which makes them absolute where paths are resolved
        start = posixpath.relpath(start, folder)
    Resolver(start, context.home, context.files).resolve(only)
    return services, resets, path


def _apply_includes(tree: Map, path: str, folder: str, walls: Walls | None, context: Context) -> None:
    if "include" not in tree:
        return
    problems: list[Problem] = []
    check(tree["include"], (PROJECT.fields or {})["include"], tree, ("include",), problems)
    if problems:
        raise LoadError(problems)
    chain = (*context.included, path)

    def locate(written: str, mark: Mark | None, key: Path) -> str:
        return located(written, mark, key, folder, walls, context)

    for one in including.read_includes(tree, locate):
        if one.paths[0] in chain:
            steps = " -> ".join(map(context.remotes.name, (*chain[chain.index(one.paths[0]) :], one.paths[0])))
            raise LoadError(Problem.at(one.mark, ("include",), f"include cycle detected: {steps}"))
        if len(chain) > 50:
            raise LoadError(Problem.at(one.mark, ("include",), "more than 50 files include one another in a chain"))
        env_files = one.env_files
        if env_files is None:
            default = posixpath.join(one.directory, ".env")
            env_files = (default,) if context.files.is_file(default) else ()
            if env_files and (owner := context.walls(default)) and not context.trusted and not owner.holds(default):
                raise LoadError(owner.refuse(one.mark, ("include",), default))
        inner = replace(
            context,
            granted=granted(one, context),
            directory=one.directory,
            variables=context.variables.beneath(
                read_env_files(env_files, context.variables, context.files, context.warn)
            ),
            included=chain,
            resolve_paths=True,
            root=context.root or ("" if context.resolve_paths else context.directory),
        )
        try:
            imported = assemble(one.paths, inner)
        except NoComposeFileError as error:
            raise LoadError(Problem.at(one.mark, ("include",), error.problems[0].message)) from None
        including.import_resources(imported, tree)
    del tree["include"]


def _resolve_variables(tree: Map, variables: Mapping[str, str]) -> None:
    """Give names listed without a value in `environment` the value that they have here."""
    for service in (tree.get("services") or {}).values():
        if isinstance(service, dict) and isinstance(service.get("environment"), Seq):
            resolve_names(service["environment"], variables, keep=True)
    for section, key in (("secrets", VALUE), ("configs", "content")):
        for entry in (tree.get(section) or {}).values():
            if isinstance(entry, dict) and entry.get("environment") in variables:
                entry[key] = variables[entry["environment"]]
