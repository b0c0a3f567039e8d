"""Where a node of this machine keeps its data and its sockets, as its programs and its clients both find them.

Root's node has /var/lib/pycompose and /run/pycompose. An ordinary user's node has the user's own folders, by the XDG
Base Directory Specification: XDG_DATA_HOME/pycompose and XDG_RUNTIME_DIR/pycompose; where no session has made the
latter, /run/user/UID, which systemd-logind makes, or else a folder beside the data, where nobody else can put a
socket. PYCOMPOSE_STATE_DIR and PYCOMPOSE_RUN_DIR come before all of that.
"""

from __future__ import annotations

import os
from collections.abc import Mapping

STATE, RUN = "/var/lib/pycompose", "/run/pycompose"


def state_dir(uid: int | None = None, environment: Mapping[str, str] = os.environ) -> str:
    """Return the folder of the node's data; `uid`: whose node, None: of this process's user."""
    uid = os.geteuid() if uid is None else uid
    if given := environment.get("PYCOMPOSE_STATE_DIR"):
        return given
    if uid == 0:
        return STATE
    home = environment.get("XDG_DATA_HOME") or os.path.join(environment.get("HOME") or _home(uid), ".local/share")
    return os.path.join(home, "pycompose")


def run_dir(uid: int | None = None, environment: Mapping[str, str] = os.environ) -> str:
    """Return the folder of the node's sockets; `uid` as in `state_dir`."""
    uid = os.geteuid() if uid is None else uid
    if given := environment.get("PYCOMPOSE_RUN_DIR"):
        return given
    if uid == 0:
        return RUN
    for place in (environment.get("XDG_RUNTIME_DIR"), f"/run/user/{uid}"):
        if place and os.path.isdir(place):
            return os.path.join(place, "pycompose")
    return os.path.join(state_dir(uid, environment), "run")


def _home(uid: int) -> str:
    import pwd

    try:
        return pwd.getpwuid(uid).pw_dir
    except KeyError:
        return "/"
