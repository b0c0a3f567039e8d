"""What ``update`` takes: OCI ``linux.resources`` as JSON, or flags."""

from __future__ import annotations

import json
import sys

from pycompose.worker.runtime.command import bundle, schema
from pycompose.worker.runtime.errors import ConfigError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import Namespace
    from typing import Any

#: flag -> (section, key, what the value is)
FLAGS: dict[str, tuple[str, str, type]] = {
    "blkio-weight": ("blockIO", "weight", int),
    "cpu-period": ("cpu", "period", int),
    "cpu-quota": ("cpu", "quota", int),
    "cpu-share": ("cpu", "shares", int),
    "cpu-burst": ("cpu", "burst", int),
    "cpu-idle": ("cpu", "idle", int),
    "cpu-rt-period": ("cpu", "realtimePeriod", int),
    "cpu-rt-runtime": ("cpu", "realtimeRuntime", int),
    "cpuset-cpus": ("cpu", "cpus", str),
    "cpuset-mems": ("cpu", "mems", str),
    "memory": ("memory", "limit", int),
    "memory-reservation": ("memory", "reservation", int),
    "memory-swap": ("memory", "swap", int),
    "pids-limit": ("pids", "limit", int),
}


def wanted(options: Namespace) -> dict[str, Any]:
    """The resources to change.

    Raises:
        ConfigError: the file is not well formed, or nothing is to change.
    """
    found: dict[str, Any] = {}
    if options.resources:
        found = _from_file(options.resources)
    else:
        for flag, (section, key, _) in FLAGS.items():
            value = getattr(options, flag.replace("-", "_"))
            if value is not None:
                found.setdefault(section, {})[key] = value
    if not found:
        raise ConfigError("update: nothing to change; give --resources FILE or limits as flags (update --help)")
    return found


def _from_file(path: str) -> dict[str, Any]:
    if path == "-":
        try:
            found = json.load(sys.stdin)
        except ValueError as error:
            raise ConfigError(f"--resources -: not JSON: {error}") from None
    else:
        found = bundle.read_json(path)
    try:
        schema.check(found, schema.RESOURCES)
    except ConfigError as error:
        raise ConfigError(f"--resources {path}: {error}") from None
    result: dict[str, Any] = found
    return result
