"""What only looks: state, list, ps, events, spec, features."""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
import time

from pycompose.worker.runtime import capabilities, labels, mounts, namespaces
from pycompose.worker.runtime.command.containers import Container, Containers
from pycompose.worker.runtime.errors import ConfigError, StepError, WrongState

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

SPEC_VERSION = "1.2.0"


def _line(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def state(found: Container) -> None:
    """Print the OCI state, and what runc adds to it."""
    extra = {key: found.known[key] for key in ("rootfs", "created", "owner")}
    _line(json.dumps(found.oci_state() | extra, indent=2))


def listing(known: Containers, form: str, *, quiet: bool) -> None:
    """Print all containers."""
    found = known.all()
    if quiet:
        for each in found:
            _line(each.id)
        return
    rows = []
    for each in found:
        status = each.status()
        extra = {"rootfs": each.known["rootfs"], "created": each.known["created"], "owner": _user(each.known["owner"])}
        rows.append(each.oci_state(status) | {"pid": 0 if status == "stopped" else each.known["pid"]} | extra)
    if form == "json":
        _line(json.dumps(rows))
        return
    columns = ("id", "pid", "status", "bundle", "created", "owner")
    table = [[column.upper() for column in columns]] + [[str(row[column]) for column in columns] for row in rows]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    for line in table:
        _line("   ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())


def _user(uid: int) -> str:
    import pwd

    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"#{uid}"


def ps(found: Container, form: str, arguments: list[str]) -> None:
    """Print the container's processes: as ps(1) shows them, or their pids as JSON.

    Raises:
        StepError: ps failed, or its output has no PID column.
    """
    pids = sorted(found.cgroup.processes())
    if form == "json":
        _line(json.dumps(pids))
        return
    done = subprocess.run(["ps", *(arguments or ["-ef"])], capture_output=True, text=True, check=False)
    lines = done.stdout.splitlines()
    if done.returncode != 0 or not lines:
        raise StepError(f"ps {' '.join(arguments)}: {done.stderr.strip()}")
    titles = lines[0].split()
    if "PID" not in titles:
        raise StepError(f"ps {' '.join(arguments)}: its output has no PID column")
    column, members = titles.index("PID"), {str(pid) for pid in pids}
    _line(lines[0])
    for line in lines[1:]:
        fields = line.split()
        if len(fields) > column and fields[column] in members:
            _line(line)


def events(found: Container, interval: float, *, once: bool) -> None:
    """Print statistics as JSON lines, each interval (s), and a line whenever a process ran out of memory.

    Raises:
        WrongState: the container does not run.
    """
    if found.status() not in ("created", "running", "paused"):
        raise WrongState(f"container {found.id} is not running")
    if once:
        _event(found, "stats", _stats(found))
        return
    kills = found.cgroup.oom_kills()
    ended = os.pidfd_open(int(found.known["pid"]))
    poll = select.poll()
    poll.register(ended, select.POLLIN)
    due = time.monotonic() + interval
    while not poll.poll(min(250.0, max(0.0, due - time.monotonic()) * 1000)):
        now = found.cgroup.oom_kills()
        for _ in range(now - kills):
            _event(found, "oom", None)
        kills = now
        if time.monotonic() >= due:
            _event(found, "stats", _stats(found))
            due += interval


def _event(found: Container, kind: str, data: dict[str, Any] | None) -> None:
    _line(json.dumps({"type": kind, "id": found.id} | ({"data": data} if data else {})))


def _stats(found: Container) -> dict[str, Any]:
    usage = found.cgroup.usage()
    return {
        "cpu": {"usage": {"total": usage["cpu_ns"]}},
        "memory": {"usage": {"usage": usage["memory_bytes"], "limit": usage["memory_limit"]}},
        "pids": {"current": usage["pids"]},
        "blkio": {"read": usage["read_bytes"], "write": usage["write_bytes"]},
    }


def spec(directory: str, *, rootless: bool = False) -> None:
    """Write a configuration to start from; ``rootless``: one that works for the caller without any rights.

    Raises:
        ConfigError: there is one already.
    """
    from pycompose.worker.runtime import oci

    config = oci.default_config(["sh"])
    config["process"] |= {"terminal": True, "noNewPrivileges": True}
    config["process"]["env"].append("TERM=xterm")
    config["hostname"] = "pycompose"
    if rootless:
        config = oci.for_user(config, os.geteuid(), os.getegid())
    path = os.path.join(directory, "config.json")
    try:
        with open(path, "x") as file:
            json.dump(config, file, indent=4)
            file.write("\n")
    except OSError as error:
        raise ConfigError(f"{path}: {(error.strerror or '').lower()}") from None


def features() -> None:
    """Print what this runtime can do (runtime-spec features.md)."""
    from pycompose.worker.runtime.command import scope

    systemd = os.path.isdir(scope.BOOTED)
    known = {
        "ociVersionMin": "1.0.0",
        "ociVersionMax": SPEC_VERSION,
        "hooks": ["prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"],
        "mountOptions": sorted({"bind", "rbind", *mounts.PROPAGATION, *mounts.ATTRIBUTES, *_recursive()}),
        "linux": {
            "namespaces": sorted(namespaces.FLAGS),
            "capabilities": list(capabilities.NAMES[: capabilities.last_capability() + 1]),
            "cgroup": {"v1": True, "v2": True, "systemd": systemd, "systemdUser": False, "rdma": True},
            "seccomp": _seccomp(),
            "apparmor": {"enabled": labels.apparmor_enabled()},
            "selinux": {"enabled": labels.selinux_enabled()},
            "intelRdt": {"enabled": False},
            "mountExtensions": {"idmap": {"enabled": True}},
            "netDevices": {"enabled": True},
        },
    }
    _line(json.dumps(known, indent=2))


def _recursive() -> list[str]:
    return [f"r{name}" for name in mounts.ATTRIBUTES]


def _seccomp() -> dict[str, Any]:
    from pycompose.worker.runtime import seccomp

    families = [name for names in seccomp.ARCHITECTURES.values() for name in names]
    return {
        "enabled": True,
        "actions": sorted(seccomp.ACTIONS),
        "operators": sorted(seccomp.OPERATORS),
        "archs": sorted(families),
        "knownFlags": sorted(seccomp.FLAGS),
        "supportedFlags": sorted(seccomp.FLAGS),
    }


__all__ = ["events", "features", "listing", "ps", "spec", "state"]
