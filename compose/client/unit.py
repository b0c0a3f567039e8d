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


USERS_UNIT = """\
# written by: pycompose node install
[Unit]
Description=pycompose node
# the node starts that one by itself; when the machine shuts down, the node ends first
After={containers}

[Service]
Type=notify
# the node's supervisor, which is ready, is a child of what makes its namespaces
NotifyAccess=all
ExecStart={python} -m {module}
Environment=PYCOMPOSE_STATE_DIR={state} PYCOMPOSE_RUN_DIR={run}
StandardOutput=append:{state}/log/node.log
StandardError=append:{state}/log/node.log
# containers outlive the daemon and are found again
KillMode=process
Restart=on-failure
TasksMax=infinity

[Install]
WantedBy=default.target
"""


def users() -> bool:
    """Return whether the node is an ordinary user's, and so the user's own systemd is asked."""
    return os.geteuid() != 0


def path() -> str:
    """Return where the node's unit is written (systemd.unit(5), "Unit File Load Path")."""
    if not users():
        return PATH
    config = os.environ.get("XDG_CONFIG_HOME") or os.path.expanduser("~/.config")
    return os.path.join(config, "systemd/user", NAME)


def containers_path() -> str:
    """Return where the containers' unit is written: beside the node's. A user's node starts its own without a file."""
    return os.path.join(os.path.dirname(PATH), CONTAINERS)


def text(module: str, state: str, run: str) -> str:
    """Return the unit of a node with these directories, started by this Python."""
    template = USERS_UNIT if users() else UNIT
    return template.format(python=sys.executable, module=module, state=state, run=run, containers=CONTAINERS)


def there() -> bool:
    """Return whether the systemd that would run the node is there."""
    return os.path.exists(os.path.join(_session(), "systemd/private")) if users() else os.path.isdir(RUNNING)


def lingers() -> bool:
    """Return whether the user's systemd starts with the machine (loginctl(1), enable-linger)."""
    import pwd

    try:
        return os.path.exists(f"/var/lib/systemd/linger/{pwd.getpwuid(os.geteuid()).pw_name}")
    except KeyError:
        return False


def installed(run: str) -> bool:
    """Return whether a unit is installed, by a running systemd, for a node with this directory of sockets."""
    try:
        with open(path(), encoding="utf-8") as file:
            return there() and f"PYCOMPOSE_RUN_DIR={run}\n" in file.read()
    except OSError:
        return False


def control(*words: str) -> str:
    """Run `systemctl`; return why it failed, "" when it did not."""
    command = ["systemctl", *(["--user"] if users() else []), *words]
    environment = {**os.environ, "XDG_RUNTIME_DIR": _session()}
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    except OSError as error:
        return f"{' '.join(command)}: {error.strerror}"
    return f"{' '.join(command)}: {done.stderr.strip() or 'failed'}" if done.returncode else ""


def _session() -> str:
    return os.environ.get("XDG_RUNTIME_DIR") or f"/run/user/{os.geteuid()}"
