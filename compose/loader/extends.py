"""`extends`: a service made from another one, of the same file or of another.

The base is completed first (its own `extends`, recursively), then the service is merged over it by the ordinary rules.
A base from another file comes in long form, with its paths resolved against its own folder.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pycompose.compose.loader.errors import LoadError, Problem, nearest
from pycompose.compose.loader.merge import SERVICE_RULES, apply_resets, merge_mappings
from pycompose.compose.loader.tree import MAX_NODES, Map, Mark, Path, Reset, clone, mark_of, size

Base = tuple[Map, tuple[Reset, ...], str]
LoadBase = Callable[[str, str, "Mark | None", Path], Base]
"""Load another file: (path as written, service, place, path in the tree) to (its services, its resets, its name)."""
Chain = tuple[tuple[str, str], ...]


def apply_extends(tree: Map, file: str, resets: tuple[Reset, ...], load_base: LoadBase) -> None:
    """Complete every service of `tree` that extends another, in place.

    Args:
        tree: one file's tree, interpolated.
        file: its name, for cycles.
        resets: the file's `!reset` and `!override` paths.
        load_base: loads another file's services.

    Raises:
        LoadError: a base is missing, or bases form a cycle.
    """
    services = tree.get("services")
    if not isinstance(services, dict):
        return
    problems: list[Problem] = []
    made = [0]
    for name in list(services):
        try:
            services[name] = _complete(name, services, file, resets, load_base, (), made)
        except LoadError as error:
            problems.extend(error.problems)
    if problems:
        raise LoadError(problems)


def _complete(
    name: str,
    services: Any,
    file: str,
    resets: tuple[Reset, ...],
    load_base: LoadBase,
    chain: Chain,
    made: list[int],
) -> Any:
    """Return the service with what it extends under it; `made` counts the values copied so far."""
    service = services[name]
    if not isinstance(service, dict) or "extends" not in service:
        return service
    extends = service["extends"]
    path: Path = ("services", name, "extends")
    mark = mark_of(service, "extends")
    reference = extends.get("service") if isinstance(extends, dict) else extends
    if not isinstance(reference, str):
        raise LoadError(Problem.at(mark, path, "extends needs the name of a service", "write extends: {service: NAME}"))
    other = extends.get("file") if isinstance(extends, dict) else None
    base_services, base_file = services, file
    base_resets: tuple[Reset, ...] = ()
    if isinstance(other, str):
        base_services, base_resets, base_file = load_base(other, reference, mark, path)
    if reference not in base_services:
        message = f'cannot extend: there is no service "{reference}" in {base_file}'
        raise LoadError(Problem.at(mark, path, message, nearest(reference, base_services)))
    here = (file, name)
    if here in chain:
        steps = " -> ".join(f"{one} ({where})" for where, one in (*chain[chain.index(here) :], here))
        raise LoadError(Problem.at(mark, path, f"services extend each other in a circle: {steps}"))
    if len(chain) > 50:
        raise LoadError(Problem.at(mark, path, "more than 50 services extend one another in a chain"))
    base = _complete(reference, base_services, base_file, base_resets, load_base, (*chain, here), made)
    if not isinstance(base, dict):
        return service
    made[0] += size(base)
    if made[0] > MAX_NODES:
        raise LoadError(
            Problem.at(mark, path, f"more than {MAX_NODES:,} values once extended services are written out")
        )
    source = clone(base)
    apply_resets(Map({"services": Map({name: source})}), resets)
    merged = merge_mappings(source, service, ("services", name), SERVICE_RULES)
    merged.pop("extends", None)
    return merged
