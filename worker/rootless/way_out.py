"""The namespaces' way to the network: pasta, or slirp4netns where that is missing.

Neither lets containers reach the machine's own loopback services, and neither publishes ports (``doors`` does). Where
there is no way, as on a machine without a network, the node runs all the same, and says so.

Sources: pasta(1) (passt 2023-03), slirp4netns(1) (1.2).
"""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from pathlib import Path

from pycompose.worker.rootless import known

READY_SECONDS = 10.0
#: Where pasta takes questions for the machine's own name server, if that listens on loopback alone.
DNS = "169.254.1.53"
SLIRP_DNS = "10.0.2.3"
TUN = "/dev/net/tun"


def commands(keeper: int, pid_file: str) -> list[tuple[str, list[str]]]:
    """Return (name, command line) of each program that could do it, best first. Pure."""
    user, net = f"/proc/{keeper}/ns/user", f"/proc/{keeper}/ns/net"
    closed = [word for flag in ("-t", "-u", "-T", "-U") for word in (flag, "none")]
    pasta = ["pasta", "--config-net", "--quiet", "--no-map-gw", "--dns-forward", DNS, *closed, "--pid", pid_file]
    slirp = ["slirp4netns", "--configure", "--mtu=65520", "--disable-host-loopback", "--ready-fd=1"]
    return [
        ("pasta", [*pasta, "--userns", user, "--netns", net]),
        ("slirp4netns", [*slirp, f"--userns-path={user}", "--netns-type=path", net, "tap0"]),
    ]


def open_way(keeper: known.Process, run: Path) -> tuple[known.Process | None, str, list[str]]:
    """Start one of the programs.

    Returns:
        its process, its name, and warnings; (None, "none", ...) where none of them works.
    """
    if not os.access(TUN, os.R_OK | os.W_OK):
        remedy = f"chmod 666 {TUN}" if os.path.exists(TUN) else "modprobe tun"
        return None, "none", [_closed(f"the user cannot open {TUN}; as root: {remedy}")]
    reasons = []
    pid_file = run / "pasta.pid"
    for name, command in commands(keeper.pid, str(pid_file)):
        if not shutil.which(name):
            continue
        pid_file.unlink(missing_ok=True)
        pid, problem = _pasta(command, pid_file) if name == "pasta" else _slirp(command)
        if pid:
            return known.process(pid), name, []
        reasons.append(f"{name}: {problem}")
    return None, "none", [_closed("; ".join(reasons))]


def name_server(means: str) -> str:
    """Return the address at which the program answers for the machine's name server, "" where there is none."""
    return {"pasta": DNS, "slirp4netns": SLIRP_DNS}.get(means, "")


def _closed(why: str) -> str:
    return f"rootless: containers have no way out of this machine, and images cannot be pulled: {why}"


def _pasta(command: list[str], pid_file: Path) -> tuple[int, str]:
    """It goes to the background once everything is set up."""
    done = subprocess.run(command, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if line and "syslog" not in line]
        return 0, lines[-1] if lines else f"exit status {done.returncode}"
    return int(pid_file.read_text()), ""


def _slirp(command: list[str]) -> tuple[int, str]:
    """It writes a byte to the ready descriptor, here its standard output, and stays."""
    child = subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True
    )
    assert child.stdout is not None
    assert child.stderr is not None
    os.set_blocking(child.stdout.fileno(), False)
    deadline = time.monotonic() + READY_SECONDS
    while time.monotonic() < deadline and child.poll() is None:
        if b"1" in (child.stdout.read() or b""):
            return child.pid, ""
        time.sleep(0.02)
    child.kill()
    lines = child.stderr.read().decode("utf-8", "replace").splitlines()
    child.wait()
    return 0, lines[-1] if lines else "it was not ready in time"
