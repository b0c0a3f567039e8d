"""``python -m pycompose.worker.node``: the supervisor of this machine's node.

It imports nothing heavy, and writes to standard error: to STATE/log/node.log when `pycompose` starts it (bounded by
``logfile``), to the journal under systemd (told by ``notify`` when the node is ready). Its children die with it
(PR_SET_PDEATHSIG, prctl(2)); containers' shims are not its children and go on. ``RUN/node.json`` says who runs; a lock
on ``RUN/node.lock`` keeps a second one away.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from types import FrameType

import pycompose
from pycompose.proto import places
from pycompose.worker.node import logfile
from pycompose.worker.node.notify import Notifier
from pycompose.worker.runtime import owning, syscalls

MEMBER, MANAGER, AGENT = "pycompose.manager.member", "pycompose.manager", "pycompose.worker.agent"
PR_SET_PDEATHSIG = 1
#: Exit status (EX_TEMPFAIL, sysexits.h) by which the client knows that it has only to wait.
RUNS_ALREADY = 75
GOOD_RUN, LONGEST_PAUSE, STOP_SECONDS, LOG_SECONDS = 10.0, 30.0, 10.0, 5.0
#: Without its etcd a manager is no use, and of several others wait for it.
LONGEST_PAUSES = {MEMBER: 1.0}
_libc = ctypes.CDLL(None, use_errno=True)


class Child:
    """One child process; started again with growing pauses while it ends soon."""

    def __init__(self, module: str) -> None:
        self.module = module
        self.pause, self.due, self.began = 0.1, 0.0, 0.0
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it; at the first time it is told that the whole node starts (--node-started)."""
        first, self.began = not self.began, time.monotonic()
        self.process = subprocess.Popen(
            [sys.executable, "-m", self.module, *(["--node-started"] if first else [])],
            stdin=subprocess.DEVNULL,
            preexec_fn=lambda: _libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL),
        )

    def look(self) -> None:
        """Start it again when it has ended and its pause is over."""
        if self.process is None:
            if time.monotonic() >= self.due:
                self.start()
            return
        status = self.process.poll()
        if status is None:
            return
        # with 0 it ended to start anew: nothing is wrong, and a node's grace time runs meanwhile
        self.pause = (
            0.1
            if status == 0 or time.monotonic() - self.began > GOOD_RUN
            else min(self.pause * 2, LONGEST_PAUSES.get(self.module, LONGEST_PAUSE))
        )
        say(f"{self.module} ended with {status}; it starts again in {self.pause:.1f} s")
        self.process, self.due = None, time.monotonic() + self.pause


def role_of(state: Path) -> str:
    """Return what this node is in a cluster; "" for a single node."""
    try:
        return str(json.loads((state / "node" / "node.json").read_text()).get("role"))
    except (OSError, ValueError, AttributeError):
        return ""


def forget(state: Path, children: dict[str, Child]) -> None:
    """Remove what a manager of a cluster had, where it is one no longer: keys, certificates and the cluster's state."""
    folder = state / "manager"
    if role_of(state) == "worker" and (folder / "backend.json").exists() and not {MANAGER, MEMBER} & set(children):
        say("this node is a manager no longer; what its manager had is removed")
        shutil.rmtree(folder, ignore_errors=True)


def wanted(state: Path) -> list[str]:
    """Return the modules that this node runs, in the order of their starts; files of the node's own say so.

    A machine that joined as a worker has no manager; a manager of several has an etcd as long as it says so.
    """
    if role_of(state) == "worker":
        return [AGENT]
    return [MEMBER] * (state / "manager" / "member.json").exists() + [MANAGER, AGENT]


def follow(children: dict[str, Child], modules: list[str]) -> None:
    """Start what is wanted and does not run yet, end what is no longer wanted."""
    for module in set(children) - set(modules):
        say(f"{module} is no longer wanted here")
        end([children.pop(module)])
    for module in modules:
        if module not in children:
            children[module] = Child(module)
        children[module].look()


def say(text: str) -> None:
    """Write a line to the log (standard error)."""
    sys.stderr.write(f"{time.strftime('%Y-%m-%dT%H:%M:%S')} node: {text}\n")
    sys.stderr.flush()


def unusable(path: Path, mode: int, variable: str) -> str:
    """Return why nothing can be written in a directory, made when it is missing; "" when something can."""
    try:
        path.mkdir(parents=True, exist_ok=True, mode=mode)
        probe = path / f".probe-{os.getpid()}"
        try:
            probe.write_bytes(bytes(4096))
        finally:
            probe.unlink(missing_ok=True)
    except OSError as error:
        remedy = "free some space there" if error.errno in (errno.ENOSPC, errno.EDQUOT) else "make it writable"
        return f"nothing can be written in {path} ({error.strerror}): {remedy}, or set {variable} to another directory"
    return ""


def problems(state: Path, run: Path) -> list[str]:
    """Return why a node cannot run here, in plain words."""
    found = []
    if not Path("/sys/fs/cgroup").is_dir() or not os.listdir("/sys/fs/cgroup"):
        found.append("no cgroups are mounted at /sys/fs/cgroup; mount them (see cgroups(7))")
    if not overlay_there():
        found.append(f"the kernel has no overlay file system; {as_root()}modprobe overlay")
    for library, package in (("libnftables.so.1", "libnftables1"), ("libseccomp.so.2", "libseccomp2")):
        try:
            ctypes.CDLL(library)
        except OSError:
            found.append(f"{library} is missing; install it: apt-get install {package}")
    places = ((state, 0o711, "PYCOMPOSE_STATE_DIR"), (run, 0o755, "PYCOMPOSE_RUN_DIR"))
    found += [text for place in places if (text := unusable(*place))]
    return found or list(filter(None, [without_overlay(state)]))


def as_root() -> str:
    """Return how a remedy begins that takes the machine's root."""
    return "load it: " if owning.machines_root() else "only root can load it: "


def overlay_there() -> bool:
    """Whether the kernel has the overlay file system; asked for, it loads the module, for an ordinary user too."""
    try:
        os.close(syscalls.fsopen(b"overlay"))
    except OSError:
        return "\toverlay\n" in Path("/proc/filesystems").read_text()
    return True


def without_overlay(state: Path) -> str:
    """Return why no root of a container can lie in a directory, "" when one can (overlayfs.rst, "Upper and Lower").

    A directory on an overlay itself or on NFS cannot hold the upper one; in a user namespace it takes Linux 5.11.
    """
    with tempfile.TemporaryDirectory(prefix=".probe-", dir=state) as place:
        context = syscalls.fsopen(b"overlay")
        try:
            for name in ("lower", "upper", "work"):
                os.mkdir(f"{place}/{name}")
                syscalls.fsconfig(context, f"{name}dir".encode(), f"{place}/{name}".encode())
            if not owning.machines_root():
                syscalls.fsconfig(context, b"userxattr", None)
            syscalls.fscreate(context)
        except OSError as error:
            return (
                f"no overlay file system can be made in {state} ({error.strerror}), for containers: set "
                "PYCOMPOSE_STATE_DIR to a directory of ext4, xfs or btrfs"
                + ("" if owning.machines_root() else "; in a user namespace it takes Linux 5.11 or later")
            )
        finally:
            os.close(context)
    return ""


def end(children: list[Child]) -> None:
    """End child processes, the last one first."""
    running = [child.process for child in children if child.process is not None]
    for process in reversed(running):
        process.terminate()
    for process in running:
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def main() -> int:
    """Supervise until SIGTERM; returns the exit status."""
    state, run = Path(places.state_dir()), Path(places.run_dir())
    if os.geteuid() != 0:
        from pycompose.worker.rootless.launch import launch

        return launch(state, run, say, RUNS_ALREADY)
    wrong = problems(state, run)
    for line in wrong:
        say(line)
    if wrong:
        return 1
    lock = os.open(run / "node.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        say(f"a node runs already with {run}; see {run}/node.json")
        return RUNS_ALREADY
    rootless: dict[str, object] = {}
    if not owning.machines_root():
        from pycompose.worker.rootless import inside, known

        inside.prepare(run)
        around = known.load(run)
        rootless = {"rootless": {"way_out": around.means, "controllers": around.controllers}} if around else {}
    stopping = False

    def stop(_number: int, _frame: FrameType | None) -> None:
        nonlocal stopping
        stopping = True

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, stop)
    notifier = Notifier()
    children: dict[str, Child] = {}
    follow(children, wanted(state))
    record = {"pid": os.getpid(), "state_dir": str(state), "version": pycompose.__version__, "started": time.time()}
    record |= rootless
    (run / "node.json").write_text(json.dumps(record))
    say(f"runs as process {os.getpid()}, state in {state}")
    log, looked = state / "log" / "node.log", 0.0
    while not stopping:
        time.sleep(0.1)
        follow(children, wanted(state))
        forget(state, children)
        notifier.ready(str(run / ("api.sock" if MANAGER in children else "worker.sock")))
        if time.monotonic() - looked > LOG_SECONDS:
            looked = time.monotonic()
            if logfile.is_written_by(log, 2):
                logfile.rotate(log)
    notifier.stopping()
    # The agent's and the manager's last words need the store.
    member = children.pop(MEMBER, None)
    end(list(children.values()))
    end([member] if member else [])
    (run / "node.json").unlink(missing_ok=True)
    say("stopped; containers go on running")
    return 0


if __name__ == "__main__":
    sys.exit(main())
