"""The systemd unit of this machine's node (systemd.service(5)): its text, and whether it is the one to start."""

from __future__ import annotations

import os
import subprocess
import sys

NAME = "pycompose.service"
PATH = f"/etc/systemd/system/{NAME}"
RUNNING = "/run/systemd/system"
"""There where systemd is the init system (sd_booted(3))."""
UNIT = """\
# written by: pycompose node install
[Unit]
Description=pycompose node
After=network-online.target
Wants=network-online.target

[Service]
Type=notify
ExecStart={python} -m {module}
Environment=PYCOMPOSE_STATE_DIR={state} PYCOMPOSE_RUN_DIR={run}
# containers outlive the daemon and are found again
KillMode=process
Delegate=yes
Restart=on-failure
LimitNOFILE=1048576
TasksMax=infinity

[Install]
WantedBy=multi-user.target
"""


def text(module: str, state: str, run: str) -> str:
    """Return the unit of a node with these directories, started by this Python."""
    return UNIT.format(python=sys.executable, module=module, state=state, run=run)


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
