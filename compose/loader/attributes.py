"""Every attribute of a Compose file: its forms, its canonical form, and its place in the printed model.

This table is the specification as Docker Compose 2.40.3 enforces it. The order of keys is the order in which the
canonical model is printed. `x-` keys are allowed wherever keys are named. To support a new attribute, add it here.
"""

from __future__ import annotations

from pycompose.compose.loader.forms import (
    BOOL,
    LABELS,
    MAYBE_BOOL,
    NAME,
    OPTIONS,
    STRINGS,
    TEXT,
    TEXT_OR_SET,
    TEXTS,
)
from pycompose.compose.loader.kinds import (
    BOOLEAN,
    INTEGER,
    NULL,
    STRING,
    Kind,
    kind,
    list_of,
    map_of,
    struct,
)
from pycompose.compose.loader.service_attributes import SERVICE

_EXTERNAL = struct({"name": TEXT}, BOOLEAN, STRING, canon="bool")
_OPEN_EXTERNAL = _EXTERNAL.with_(open_keys=True)
NETWORK = struct(
    {
        "name": TEXT,
        "driver": TEXT,
        "driver_opts": OPTIONS,
        "ipam": struct(
            {
                "driver": TEXT,
                "config": list_of(
                    struct(
                        {"subnet": TEXT, "gateway": TEXT, "ip_range": TEXT, "aux_addresses": STRINGS}, extensions=False
                    )
                ),
                "options": STRINGS.with_(keep="drop"),
            },
            keep="always",
        ),
        "external": _EXTERNAL,
        "internal": BOOL,
        "attachable": BOOL,
        "labels": LABELS,
        "enable_ipv4": MAYBE_BOOL,
        "enable_ipv6": MAYBE_BOOL,
    },
    NULL,
    keep="zero",
    default={},
)
VOLUME = struct(
    {"name": TEXT, "driver": TEXT, "driver_opts": OPTIONS, "external": _EXTERNAL, "labels": LABELS},
    NULL,
    keep="zero",
    default={},
)
SECRET = struct(
    {
        "name": TEXT,
        "file": TEXT,
        "environment": TEXT,
        "external": _OPEN_EXTERNAL,
        "labels": LABELS,
        "driver": TEXT,
        "driver_opts": OPTIONS.with_(canon="exact_options"),
        "template_driver": TEXT,
    }
)
CONFIG = struct(
    {
        "name": TEXT,
        "file": TEXT,
        "environment": TEXT,
        "content": TEXT,
        "external": _OPEN_EXTERNAL,
        "labels": LABELS,
        "template_driver": TEXT,
    }
)
MODEL = struct(
    {"name": TEXT, "model": TEXT, "context_size": kind(INTEGER, canon="int"), "runtime_flags": TEXTS},
    required=("model",),
)
INCLUDE = list_of(struct({"path": TEXT_OR_SET, "env_file": TEXT_OR_SET, "project_directory": TEXT}, STRING, alone=True))

PROJECT = struct(
    {
        "version": TEXT.with_(keep="drop"),
        "name": TEXT,
        "include": INCLUDE.with_(keep="drop"),
        "services": map_of(SERVICE, key_pattern=NAME, keep="always", default={}),
        "networks": map_of(NETWORK, key_pattern=NAME, open_keys=True),
        "volumes": map_of(VOLUME, key_pattern=NAME),
        "secrets": map_of(SECRET, key_pattern=NAME),
        "configs": map_of(CONFIG, key_pattern=NAME),
        "models": map_of(MODEL, key_pattern=NAME, open_keys=True),
    }
)


def kind_at(path: tuple[str | int, ...]) -> Kind | None:
    """Return the kind of the attribute at `path`, None where keys are free of form."""
    found: Kind | None = PROJECT
    for step in path:
        if found is None:
            return None
        if isinstance(step, int):
            found = found.items
        else:
            found = (found.fields or {}).get(step) if found.fields is not None else found.values
    return found
