"""From the canonical tree to the project: types, profiles, consistency, selection, environment."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pycompose.compose.loader.advice import advise
from pycompose.compose.loader.assemble import VALUE
from pycompose.compose.loader.attributes import PROJECT
from pycompose.compose.loader.consistency import check_project
from pycompose.compose.loader.context import Context
from pycompose.compose.loader.environment import resolve_labels, resolve_service
from pycompose.compose.loader.errors import LoadError
from pycompose.compose.loader.project import Project
from pycompose.compose.loader.references import variables_read
from pycompose.compose.loader.select import select_services, without_unused
from pycompose.compose.loader.service_attributes import SERVICE
from pycompose.compose.loader.tree import Map
from pycompose.compose.loader.typed import Typer
from pycompose.compose.loader.variables import Definition


@dataclass(frozen=True)
class Wishes:
    """What the caller wants of the finished project; the fields are `load`'s arguments."""

    profiles: tuple[str, ...] = ()
    services: Sequence[str] | None = None
    check_consistency: bool = True
    resolve_environment: bool = True
    all_env_files: bool = False
    all_resources: bool = False


def finish(tree: Map, context: Context, name: str, paths: tuple[str, ...], wishes: Wishes) -> Project:
    """Make the project of a canonical tree.

    Raises:
        LoadError: with every problem found in the step that failed.
    """
    secret_values = _take_values(tree.get("secrets"), VALUE)
    config_values = _take_values(tree.get("configs"), "content")
    tree["name"] = name
    typer = Typer()
    model = typer.struct(tree, PROJECT, ())
    if typer.problems:
        raise LoadError(typer.problems)
    everything = model["services"]
    enabled = {one: entry for one, entry in everything.items() if _active(entry, wishes.profiles)}
    disabled = {one: entry for one, entry in everything.items() if one not in enabled}
    model["services"] = enabled
    if wishes.check_consistency:
        problems = check_project(model, disabled, tree)
        if problems:
            raise LoadError(problems)
    for entry in enabled.values():
        if entry.get("scale") is not None and entry.get("deploy"):
            entry["deploy"]["replicas"] = entry["scale"]
            entry["deploy"] = {key: entry["deploy"][key] for key in sorted(entry["deploy"], key=_deploy_order)}
    from_files: dict[str, dict[str, list[Definition]]] = {}
    problems = []

    def resolve(one: str, entry: dict[str, Any]) -> None:
        found = from_files.setdefault(one, {})
        env_files = entry.pop("env_file", None)
        problems.extend(resolve_service(entry, env_files, one, context.variables, context.files, tree, found))

    for one, entry in enabled.items():
        problems += resolve_labels(entry, one, context.files, tree)
        if wishes.resolve_environment and wishes.all_env_files:
            resolve(one, entry)
    model["services"], disabled = select_services(enabled, disabled, wishes.services, wishes.profiles)
    if not wishes.all_resources:
        without_unused(model)
    for warning in advise(model["services"], tree):
        context.warn(warning)
    for one, entry in model["services"].items():
        if one not in enabled:
            problems += resolve_labels(entry, one, context.files, tree)
        if wishes.resolve_environment:
            if one not in from_files:
                resolve(one, entry)
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
        profiles=wishes.profiles,
        warnings=tuple(context.warnings),
        secret_values=secret_values,
        config_values=config_values,
        env_file_values=from_files,
        tree=tree,
        remotes=tuple(context.remotes.fetched.values()),
        remote_variables=variables_read(context.remotes.trees),
    )


_SERVICE_ORDER = {name: index for index, name in enumerate(SERVICE.fields or {})}
_DEPLOY_NAMES = list(((SERVICE.fields or {})["deploy"].fields) or {})


def _deploy_order(key: str) -> tuple[int, str]:
    return (_DEPLOY_NAMES.index(key) if key in _DEPLOY_NAMES else len(_DEPLOY_NAMES), key)


def _ordered(service: dict[str, Any]) -> dict[str, Any]:
    return {key: service[key] for key in sorted(service, key=lambda one: (_SERVICE_ORDER.get(one, 999), one))}


def _take_values(section: Any, key: str) -> dict[str, str]:
    """Take out, in place, what a variable put into secrets or configs; return it by name."""
    return {
        name: entry.pop(key)
        for name, entry in (section or {}).items()
        if isinstance(entry, dict) and key in entry and "environment" in entry
    }


def _active(service: dict[str, Any], profiles: tuple[str, ...]) -> bool:
    wanted = service.get("profiles")
    # a profile without a name is active where none is asked for, as with Docker Compose
    return not wanted or "*" in profiles or any(profile in (profiles or ("",)) for profile in wanted)
