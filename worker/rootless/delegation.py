"""The part of the tree of cgroups that belongs to an ordinary user's node: systemd's gift, where it gives one.

Version 2 alone lets a user have one (cgroup-v2.rst, "Delegation"). The user's systemd delegates a unit that holds the
containers and outlives the node; a process moves only between cgroups that have a common parent of the user's
("Delegation Containment"), so that the node itself must run below user@UID.service too.

Sources: cgroup-v2.rst, systemd.resource-control(5) "Delegate=", systemd-run(1), user@.service(5).
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pycompose.proto import places
from pycompose.worker.rootless.preconditions import CannotRun, account
from pycompose.worker.runtime import cgroups

#: Set by a launch that started itself again within the user's systemd.
MOVED = "PYCOMPOSE_WITHIN_SYSTEMD"
WANTED = ("cpu", "memory", "pids")
SECONDS = 30.0
#: A process keeps the unit, in a cgroup of its own: one with processes can have no children with controllers.
KEEPER = (
    "d=/sys/fs/cgroup$(sed -n s/^0:://p /proc/self/cgroup)/keeper; "
    "mkdir -p $d && echo 0 > $d/cgroup.procs && { sleep infinity & }"
)


@dataclass(frozen=True)
class Delegated:
    """Attributes: path: below which containers' cgroups are made, as seen from the root of the tree, "" for none;
    controllers: what can be limited there; warning: what cannot, and what helps, "" when nothing is missing."""

    path: str
    controllers: tuple[str, ...]
    warning: str


def unit_of(run: Path) -> str:
    """Return the name of the unit that holds the containers of a node with this folder of sockets."""
    own = "" if str(run) == places.run_dir(environment={}) else "-" + hashlib.sha256(os.fsencode(run)).hexdigest()[:8]
    return f"pycompose-containers{own}.service"


def enter(environment: Mapping[str, str]) -> None:
    """Go on below user@UID.service: this program starts again there; returns where that needs not, or cannot, be."""
    if MOVED in environment or environment.get("PYCOMPOSE_CGROUP_PARENT") or not _systemd() or _within():
        return
    words = ["systemd-run", "--user", "--scope", "--collect", "--quiet", "--"]
    if _ask(*words, "true") is None:
        return
    os.execvpe(words[0], [*words, sys.executable, "-m", "pycompose.worker.node"], _environment() | {MOVED: "1"})


def find(run: Path, environment: Mapping[str, str]) -> Delegated:
    """Return what is delegated to this node; a unit that holds the containers is started where there is none.

    Args:
        run: the node's folder of sockets.
        environment: PYCOMPOSE_CGROUP_PARENT is the user's own wish, for machines where something else delegates.

    Raises:
        CannotRun: the user's wish is not the user's.
    """
    if cgroups.mounted()[0]:
        return _nothing("this machine's cgroups are version 1, of which users can have no part")
    wish = environment.get("PYCOMPOSE_CGROUP_PARENT", "").rstrip("/")
    if wish:
        if not _owned(wish):
            raise CannotRun(f"PYCOMPOSE_CGROUP_PARENT={wish}: there is no cgroup of that name that is yours")
        return _described(wish, wish)
    if not _systemd():
        name = account(os.geteuid())
        return _nothing(f"no systemd of the user's runs, which delegates; as root: loginctl enable-linger {name}")
    unit = unit_of(run)
    path = _path(unit) or _started(unit)
    if not _within() or not path or not _owned(path):
        return _nothing("the user's systemd delegated none; systemctl --user status tells why")
    return _described(path, f"{path}/all")


def leave(run: Path) -> None:
    """No container is left: the unit goes."""
    if _systemd() and _path(unit_of(run)):
        _ask("systemctl", "--user", "stop", unit_of(run))


def _started(unit: str) -> str:
    properties = [f"--property={word}" for word in ("Type=forking", "Delegate=yes", "TasksMax=infinity")]
    words = ["systemd-run", "--user", "--collect", "--quiet", f"--unit={unit}", *properties]
    _ask(*words, "--description=containers of the pycompose node", "--", "/bin/sh", "-c", KEEPER.replace("$", "$$"))
    return _path(unit)


def _described(place: str, parent: str) -> Delegated:
    there = tuple(sorted(cgroups.read(cgroups.mounted()[1] + place, "cgroup.controllers").split()))
    missing = [name for name in WANTED if name not in there]
    warning = f"rootless: systemd delegates no {', '.join(missing)}; {remedy()}" if missing else ""
    return Delegated(parent, there, warning)


def remedy() -> str:
    """Return how root delegates more. Source: user@.service(5)."""
    return "as root: systemctl edit user@.service, [Service] Delegate=cpu cpuset io memory pids"


def _nothing(why: str) -> Delegated:
    return Delegated(
        "",
        (),
        f"rootless: no cgroup is delegated to this node, so limits of memory, processors and processes are refused, "
        f"and pause and stats are not there: {why}",
    )


def _owned(path: str) -> bool:
    """Whether the user may make cgroups below, and move processes there."""
    place = cgroups.mounted()[1] + path
    return all(os.access(each, os.W_OK) for each in (place, f"{place}/cgroup.procs", f"{place}/cgroup.subtree_control"))


def _within() -> bool:
    return f"/user@{os.geteuid()}.service/" in Path("/proc/self/cgroup").read_text()


def _session() -> str:
    return os.environ.get("XDG_RUNTIME_DIR") or f"/run/user/{os.geteuid()}"


def _systemd() -> bool:
    """Whether the user's systemd is there to be asked (systemctl(1) --user connects to this socket)."""
    return os.path.exists(f"{_session()}/systemd/private") and not cgroups.mounted()[0]


def _path(unit: str) -> str:
    """Return the cgroup of a unit that runs, "" when it does not."""
    return (_ask("systemctl", "--user", "show", "--value", "--property=ControlGroup", unit) or "").strip()


def _environment() -> dict[str, str]:
    return {**os.environ, "XDG_RUNTIME_DIR": _session()}


def _ask(*words: str) -> str | None:
    """Run a program of systemd's; returns its output, None when it failed."""
    try:
        done = subprocess.run(
            words, capture_output=True, text=True, check=False, timeout=SECONDS, env=_environment(), cwd="/"
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout if done.returncode == 0 else None
