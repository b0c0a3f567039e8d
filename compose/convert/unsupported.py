"""What a good Compose file may say and this version cannot honour: each key is an error or a named warning.

`x-` keys of pycompose are a fixed list; those that come with later versions are errors, and a key that is nearly one
of the list is pointed out. All other `x-` keys are the user's own.
"""

from __future__ import annotations

from difflib import get_close_matches
from typing import Any

from pycompose.compose.convert.problems import Problems
from pycompose.compose.convert.resources import DEVICE_REMEDY
from pycompose.compose.loader import Project

HONOURED = {"x-on-unhealthy", "x-shared-volume", "x-idmap", "x-publish"}
LATER = {
    "x-cron": "scheduled jobs",
    "x-autoscale": "autoscaling",
    "x-update": "canary updates",
    "x-disruption": "disruption budgets",
    "x-exclusive": "exclusive tasks",
    "x-per-slot": "volumes per replica",
    "x-allow-from": "network policy",
    "x-verify": "image signatures",
}
_ERRORS = {
    "models": ("models are not supported", "run the model as a service of its own"),
    "use_api_socket": ("the Docker API is not there", "leave it out"),
    "gpus": ("GPUs cannot be given to containers: this node has none to give", DEVICE_REMEDY),
    "credential_spec": ("credentials of that kind are Windows'", "leave it out"),
    "cpu_count": ("counts the CPUs of Windows containers", "use cpus"),
    "cpu_percent": ("is a limit of Windows containers", "use cpus"),
    "storage_opt": ("the writable layer of a container cannot be limited", "put data on a tmpfs with a size"),
}


def check_service(name: str, service: dict[str, Any], problems: Problems) -> None:
    """Note what of a service cannot be honoured."""
    for key, (message, remedy) in _ERRORS.items():
        if service.get(key):
            problems.error(("services", name, key), message, remedy)
    isolation, runtime = service.get("isolation") or "default", service.get("runtime") or "pycompose"
    if isolation != "default":
        problems.error(("services", name, "isolation"), f'"{isolation}" is a mode of Windows', "leave it out")
    if runtime == "runc":
        problems.warn(
            ("services", name, "runtime"), "runc stands for the runtime of pycompose here, which does the same"
        )
    elif runtime != "pycompose":
        problems.error(("services", name, "runtime"), f'there is no runtime "{runtime}"', "leave it out")
    mode = (service.get("deploy") or {}).get("mode") or "replicated"
    if mode not in ("replicated", "global", "replicated-job"):
        problems.error(
            ("services", name, "deploy", "mode"),
            f'unsupported mode "{mode}"',
            "want replicated, global or replicated-job",
        )
    _extensions(("services", name), service, problems)


def check_project(project: Project, problems: Problems) -> None:
    """Note what of the top level cannot be honoured."""
    _extensions((), project.model, problems)
    for section in ("networks", "volumes"):
        for key, entry in (project.model.get(section) or {}).items():
            _extensions((section, key), entry or {}, problems)
    for key, entry in (project.model.get("volumes") or {}).items():
        if (entry or {}).get("driver") not in (None, "", "local"):
            problems.error(("volumes", key, "driver"), f'no volume driver "{entry["driver"]}"', "the only one is local")
    for section in ("secrets", "configs"):
        for key, entry in (project.model.get(section) or {}).items():
            for word in ("driver", "template_driver"):
                if (entry or {}).get(word):
                    problems.error((section, key, word), "drivers of secrets and configs are not supported", "use file")


def _extensions(path: tuple[str | int, ...], entry: dict[str, Any], problems: Problems) -> None:
    for key, value in entry.items():
        if not key.startswith("x-") or key in HONOURED:
            continue
        if key in LATER:
            # a false value asks for nothing
            if value not in (False, None):
                problems.error((*path, key), f"{LATER[key]} are not there yet", "leave the key out")
            continue
        near = get_close_matches(key, [*HONOURED, *LATER], n=1, cutoff=0.85)
        if near and path:
            problems.warn((*path, key), f'is not one of pycompose\'s keys and has no effect; did you mean "{near[0]}"?')
