"""Narrowing a project to some services and what they need."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pycompose.compose.loader.errors import LoadError, Problem, nearest

Services = dict[str, Any]
MOST_NAMES = 10


def select_services(
    enabled: Services, disabled: Services, names: Sequence[str] | None, profiles: tuple[str, ...]
) -> tuple[Services, Services]:
    """Return the services named and those they depend on, and all others.

    Naming a service activates its profiles; without names all enabled services stay.

    Raises:
        LoadError: a name is not a service's.
    """
    if not names:
        return enabled, disabled
    everything = {**enabled, **disabled}
    problems = [
        Problem(f"no such service: {name}", remedy=nearest(name, everything) or _known(everything))
        for name in names
        if name not in everything
    ]
    if problems:
        raise LoadError(problems)
    active = set(profiles)
    for name in names:
        if name not in enabled:
            active.update(everything[name].get("profiles") or ())
    usable = {
        name
        for name, service in everything.items()
        if name in enabled or active.intersection(service.get("profiles") or ())
    }
    chosen: set[str] = set()
    pending = list(names)
    while pending:
        name = pending.pop()
        if name in chosen:
            continue
        chosen.add(name)
        for other, dependency in (everything[name].get("depends_on") or {}).items():
            if other in usable:
                pending.append(other)
            elif dependency.get("required"):
                problems.append(Problem(f"no such service: {other}", key=f"services.{name}.depends_on"))
    if problems:
        raise LoadError(problems)
    selected = {name: everything[name] for name in sorted(chosen, key=str.encode)}
    for service in selected.values():
        if service.get("depends_on"):
            service["depends_on"] = {key: one for key, one in service["depends_on"].items() if key in chosen}
            if not service["depends_on"]:
                del service["depends_on"]
    return selected, {name: service for name, service in everything.items() if name not in chosen}


def without_unused(model: dict[str, Any]) -> None:
    """Drop, in place, the top-level resources that no service uses."""
    used: dict[str, set[str]] = {section: set() for section in ("networks", "volumes", "secrets", "configs", "models")}
    for service in model["services"].values():
        used["networks"].update(service.get("networks") or ())
        used["models"].update(service.get("models") or ())
        used["volumes"].update(
            one["source"] for one in service.get("volumes") or () if one.get("type") == "volume" and one.get("source")
        )
        used["configs"].update(one.get("source", "") for one in service.get("configs") or ())
        secrets = [*(service.get("secrets") or ()), *((service.get("build") or {}).get("secrets") or ())]
        used["secrets"].update(one.get("source", "") for one in secrets)
    for section, names in used.items():
        kept = {name: one for name, one in (model.get(section) or {}).items() if name in names}
        if kept:
            model[section] = kept
        else:
            model.pop(section, None)


def _known(services: Services) -> str:
    names = ", ".join(list(services)[:MOST_NAMES]) + (", …" if len(services) > MOST_NAMES else "")
    return f"the file has {names}" if services else "the file has none"
