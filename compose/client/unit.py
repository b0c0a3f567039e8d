"""The systemd units of this machine's node (systemd.service(5)): their text, and whether they are what to start."""

from __future__ import annotations

import os
import subprocess
import sys

NAME = "pycompose.service"
PATH = f"/etc/systemd/system/{NAME}"
CONTAINERS = "pycompose-containers.service"
"""Holds the containers' cgroups: a part of systemd's tree that is delegated, and stays when the node restarts. The
node's own unit cannot: its cgroup has processes, and so no children with controllers (cgroup-v2.rst, "No Internal
Process Constraint")."""
RUNNING = "/run/systemd/system"
"""There where systemd is the init system (sd_booted(3))."""
UNIT = """\
# written by: pycompose node install
[Unit]
Description=pycompose node
After=network-online.target {containers}
Wants=network-online.target {containers}

[Service]
Type=notify
ExecStart={python} -m {module}
Environment=PYCOMPOSE_STATE_DIR={state} PYCOMPOSE_RUN_DIR={run}
Environment=PYCOMPOSE_CGROUP_PARENT=/system.slice/{containers}/all
# containers outlive the daemon and are found again
KillMode=process
Restart=on-failure
LimitNOFILE=1048576
TasksMax=infinity

[Install]
WantedBy=multi-user.target
"""
CONTAINERS_UNIT = """\
# written by: pycompose node install
[Unit]
Description=containers of the pycompose node

[Service]
Type=forking
# the node makes cgroups below this one, systemd leaves them alone; a process keeps it, in a cgroup of its own
ExecStart=/bin/sh -c 'd=/sys/fs/cgroup$$(sed -n s/^0:://p /proc/self/cgroup)/keeper; mkdir -p $$d 2>/dev/null && \\
    echo $$$$ > $$d/cgroup.procs; sleep infinity &'
Delegate=yes
TasksMax=infinity
# when the machine shuts down: the containers, after the node
TimeoutStopSec=30
"""


def containers_path() -> str:
    """Return where the containers' unit is written: beside the node's."""
    return os.path.join(os.path.dirname(PATH), CONTAINERS)


def text(module: str, state: str, run: str) -> str:
    """Return the unit of a node with these directories, started by this Python."""
    return UNIT.format(python=sys.executable, module=module, state=state, run=run, containers=CONTAINERS)


def installed(run: str) -> bool:
    """Return whether a unit is installed, by a running systemd, for a node with this directory of sockets."""
    try:
        with open(PATH, encoding="utf-8") as file:
            return os.path.isdir(RUNNING) and f"PYCOMPOSE_RUN_DIR={run}\n" in file.read()
    except OSError:
        return False


def control(*words: str) -> str:
    """Run `systemctl`; return why it failed, "" when it did not."""
    try:
        done = subprocess.run(["systemctl", *words], capture_output=True, text=True, check=False)
    except OSError as error:
        return f"systemctl {' '.join(words)}: {error.strerror}"
    return f"systemctl {' '.join(words)}: {done.stderr.strip() or 'failed'}" if done.returncode else ""
