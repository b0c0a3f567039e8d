"""The hash of a service's configuration, as Docker Compose 2.40.3 computes it for `config --hash`.

It is the SHA-256 of the service's JSON without what does not concern one container: build, pull policy, scale and
replicas, dependencies, profiles.
"""

from __future__ import annotations

import hashlib

from pycompose.compose.loader.json_text import dump_json
from pycompose.compose.loader.output import json_value
from pycompose.compose.loader.project import Project
from pycompose.compose.loader.service_attributes import SERVICE

_LEFT_OUT = ("build", "pull_policy", "scale", "depends_on", "profiles")


def service_hashes(project: Project) -> dict[str, str]:
    """Return the hash of each enabled service, by name.

    Args:
        project: loaded without resolving `env_file`, as Docker Compose does for this.
    """
    hashes = {}
    for name in sorted(project.services, key=str.encode):
        service = {key: value for key, value in project.services[name].items() if key not in _LEFT_OUT}
        if service.get("deploy"):
            service["deploy"] = {key: value for key, value in service["deploy"].items() if key != "replicas"}
        text = dump_json(json_value(service, SERVICE))
        hashes[name] = hashlib.sha256(text.encode()).hexdigest()
    return hashes
