"""Where in the files a field of the API came from, so that a refusal by the manager can point there."""

from __future__ import annotations

import re

_FIELDS = (
    (r"endpoint\.ports\[(\d+)\]", "ports"),
    (r"task\.container\.(?:command|entrypoint|image|labels|ulimits|user|working_dir|hostname|sysctls)", ""),
    (r"task\.container\.mounts\[(\d+)\]", "volumes"),
    (r"task\.container\.secrets\[(\d+)\]", "secrets"),
    (r"task\.container\.configs\[(\d+)\]", "configs"),
    (r"task\.container\.healthcheck", "healthcheck"),
    (r"task\.container\.env", "environment"),
    (r"task\.container\.resources", "deploy"),
    (r"task\.networks", "networks"),
    (r"task\.container_name", "container_name"),
    (r"task\.placement", "deploy"),
    (r"dependencies", "depends_on"),
)


def attribute(service: str, field: str) -> tuple[str | int, ...]:
    """Return the path in the model of a ServiceSpec's field ("spec.endpoint.ports[0].published_port")."""
    for pattern, key in _FIELDS:
        match = re.search(pattern, field)
        if match is None:
            continue
        key = key or field.rsplit("container.", 1)[1].split(".")[0].split("[")[0]
        index = (int(match[1]),) if match.groups() else ()
        return ("services", service, key, *index)
    return ("services", service)
