"""A service's template from flags, read by the Compose file's own rules.

Docker's flags of `run` and `service create` say what a service's attributes say. So they become a service of a file in
memory, which is loaded and converted as any other; what is wrong with one is said with the flag's name.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Mapping
from typing import Any

from pycompose.compose.cli.errors import UsageError
from pycompose.compose.convert import Desired, convert
from pycompose.compose.loader import LoadError, MemoryFiles, load
from pycompose.compose.loader.errors import Problem
from pycompose.proto.v1 import service_pb2

NAME = "of-the-command-line"
_KEY = re.compile(rf"(?:services\.)?{NAME}\.?(?P<path>[\w.-]+)?")


def template(
    entry: Mapping[str, Any],
    flags: Mapping[str, str],
    *,
    volumes: Iterable[str] = (),
    networks: Iterable[str] = (),
    secrets: Iterable[str] = (),
    configs: Iterable[str] = (),
    directory: str | None = None,
) -> tuple[service_pb2.ServiceSpec, Desired]:
    """Return the spec that a service entry gives, outside of any project, and all that it refers to.

    Args:
        entry: attributes as in a file.
        flags: names of flags by attribute ("ports": "--publish"), or by a longer path ("healthcheck.interval").
        volumes, networks, secrets, configs: what exists in the cluster and is meant by these names.
        directory: base of relative paths; default: the current one.

    Raises:
        UsageError: a flag's value cannot be read, or not be honoured.
    """
    base = directory or os.getcwd()
    external = {"external": True}
    model = {
        "name": NAME,
        "services": {NAME: {"image": "none", **entry}},
        "volumes": dict.fromkeys(volumes, external),
        "networks": {name: external for name in networks if name != "default"},
        "secrets": dict.fromkeys(secrets, external),
        "configs": dict.fromkeys(configs, external),
    }
    path = f"{base}/command-line.yaml"
    files = MemoryFiles({path: json.dumps(model)})
    try:
        loaded = load([path], project_directory=base, project_name=NAME, files=files, interpolate=False)
        desired = convert(loaded)
    except LoadError as error:
        raise UsageError("\n".join(dict.fromkeys(_said(one, flags) for one in error.problems))) from None
    spec = desired.services[NAME]
    spec.project = spec.name = ""
    container = spec.task.container
    for labels in (spec.labels, container.labels):
        for key in [key for key in labels if key.startswith(("com.docker.compose.", "pycompose."))]:
            del labels[key]
    if not entry.get("networks"):
        del spec.task.networks[:]
    return spec, desired


def _said(problem: Problem, flags: Mapping[str, str]) -> str:
    """Return a problem with the flag that it is about in place of the attribute."""
    found = _KEY.search(problem.key)
    parts = (found["path"] or "").split(".") if found else []
    paths = [".".join(parts[:length]) for length in range(len(parts), 0, -1)]
    flag = next((flags[path] for path in paths if path in flags), f"--{parts[0]}" if any(parts) else "")
    text = problem.message.replace(f"services.{NAME}.", "").replace(NAME, "the container")
    return f"{flag}: {text}".lstrip(": ") + (f"; {problem.remedy}" if problem.remedy else "")
