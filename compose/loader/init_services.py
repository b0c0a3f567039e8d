"""`pre_start`: a service's init containers, as services of their own that it waits for.

A hook becomes a service that runs once to its end, made from the service's own attributes and what the hook changes of
them; the service depends on its success. So a hook runs when its service is made or changes, after what the service
depends on, one after another, and while one fails the service does not start. Source: the Compose specification,
"pre_start".
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from typing import Any

from pycompose.compose.labels import PRE_START_OF, PRE_START_SEEN
from pycompose.compose.loader.errors import LoadError, Problem
from pycompose.compose.loader.project import Project

#: What an init container does not have of its service.
_LEFT = (
    *("attach", "build", "container_name", "deploy", "develop", "expose", "healthcheck", "hostname", "links"),
    *(
        "mac_address",
        "ports",
        "post_start",
        "pre_start",
        "pre_stop",
        "profiles",
        "restart",
        "scale",
        "stdin_open",
        "tty",
    ),
)
#: What changes nothing about a service's containers.
_BESIDE = ("attach", "depends_on", "deploy", "develop", "ports", "profiles", "scale")
_FIXED = ("aliases", "ipv4_address", "ipv6_address", "link_local_ips", "mac_address")


def with_init_services(project: Project) -> Project:
    """Return the project with a service for each `pre_start` hook.

    Raises:
        LoadError: a hook asks for what is not there, or a name is taken.
    """
    everyone = {**project.services, **project.disabled_services}
    if not any(entry.get("pre_start") for entry in everyone.values()):
        return project
    problems: list[Problem] = []
    services, disabled = (
        _expanded(project, entries, everyone, problems) for entries in (project.services, project.disabled_services)
    )
    if problems:
        raise LoadError(problems)
    return replace(project, model={**project.model, "services": services}, disabled_services=disabled)


def _expanded(
    project: Project, entries: dict[str, Any], everyone: dict[str, Any], problems: list[Problem]
) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, entry in entries.items():
        waits = entry.get("depends_on") or {}
        for index, hook in enumerate(entry.get("pre_start") or ()):
            place = ("services", name, "pre_start", index)
            one = f"{name}-pre-start-{index + 1}"
            if hook.get("per_replica"):
                message = "a hook runs once for its service; once for each replica is not there yet"
                problems.append(project.problem((*place, "per_replica"), message, "leave it out"))
            if entry.get("provider"):
                problems.append(project.problem(place, "a provider has no containers to run this before"))
            if one in everyone:
                problems.append(project.problem(place, f"is run as service {one}, which is there", "rename that one"))
            found[one] = {**_init(project, name, entry, hook), "depends_on": waits}
            done = {"condition": "service_completed_successfully", "required": True}
            waits = {**(entry.get("depends_on") or {}), one: done}
        found[name] = {**entry, "depends_on": waits} if entry.get("pre_start") else entry
    return found


def _init(project: Project, name: str, entry: dict[str, Any], hook: dict[str, Any]) -> dict[str, Any]:
    """Return the service that runs a hook."""
    made = {key: value for key, value in entry.items() if key not in _LEFT}
    made["image"] = entry.get("image") or f"{project.name}-{name}"
    if hook.get("image"):
        made["image"] = hook["image"]
        made["command"] = made["entrypoint"] = None
    made |= {key: hook[key] for key in ("command", "user", "privileged", "working_dir") if hook.get(key) is not None}
    made["environment"] = {**(entry.get("environment") or {}), **(hook.get("environment") or {})}
    made["restart"] = "no"
    made["deploy"] = {"endpoint_mode": "dnsrr"}
    if resources := (entry.get("deploy") or {}).get("resources"):
        made["deploy"]["resources"] = resources
    if entry.get("networks"):
        made["networks"] = {
            network: {key: value for key, value in (settings or {}).items() if key not in _FIXED}
            for network, settings in entry["networks"].items()
        }
    made["labels"] = {**(entry.get("labels") or {}), PRE_START_OF: name, PRE_START_SEEN: _seen(entry)}
    return made


def _seen(entry: dict[str, Any]) -> str:
    """Return a digest of what makes a service's containers anew."""
    template = {key: value for key, value in entry.items() if key not in _BESIDE}
    return hashlib.sha256(json.dumps(template, sort_keys=True, default=str).encode()).hexdigest()[:16]
