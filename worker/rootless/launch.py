"""What `python -m pycompose.worker.node` does for an ordinary user: it starts the same again inside of namespaces.

It stays outside to open ports (``doors``) until the node's supervisor ends; when that was asked to, and no container
is left, the namespaces end too.
"""

from __future__ import annotations

import fcntl
import os
import select
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import FrameType

from pycompose.worker.rootless import delegation, doors, known, namespaces, preconditions, way_out
from pycompose.worker.rootless.preconditions import CannotRun

LOCK = "rootless.lock"
#: A launch whose supervisor was killed needs a moment to notice.
LEAVING_SECONDS = 5.0


def launch(state: Path, run: Path, say: Callable[[str], None], runs_already: int) -> int:
    """Run a node for an ordinary user; returns its exit status.

    Args:
        state, run: the node's folders.
        say: writes a line to the log.
        runs_already: the exit status when another node has these folders.
    """
    wrong = [*preconditions.missing(), *filter(None, map(preconditions.directory, (state, run)))]
    try:
        if wrong:
            raise CannotRun("\n".join(wrong))
        uids, gids = preconditions.ranges(os.geteuid())
        delegation.enter(os.environ)
        lock = _alone(run)
        if lock is None:
            say(f"a node runs already with {run}; see {run}/node.json")
            return runs_already
        around = _world(run, uids, gids, delegation.find(run, os.environ))
    except CannotRun as error:
        for line in str(error).splitlines():
            say(line)
        return 1
    status = _serve(state, run, around)
    if status == 0 and not namespaces.inhabitants(around.keeper, _pids(around)):
        _end(run, around)
    return status


def _pids(around: known.Around) -> list[int]:
    return [around.way_out.pid] if around.way_out else []


def _alone(run: Path) -> int | None:
    """Return the lock's descriptor, None: another launch has it."""
    lock = os.open(run / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    deadline = time.monotonic() + LEAVING_SECONDS
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return lock
        except BlockingIOError:
            if time.monotonic() > deadline:
                os.close(lock)
                return None
            time.sleep(0.05)


def _world(run: Path, uids: tuple[int, int], gids: tuple[int, int], delegated: delegation.Delegated) -> known.Around:
    """Find the namespaces of an earlier launch, or make them; the way out is opened again where it was lost."""
    before = known.load(run)
    if before is not None and before.keeper.lives():
        keeper = before.keeper
    else:
        before = None
        _clear(run)
        keeper = namespaces.make(uids, gids)
    try:
        if before is not None and before.way_out is not None and before.way_out.lives():
            found: tuple[known.Process | None, str, list[str]] = before.way_out, before.means, []
        else:
            found = way_out.open_way(keeper, run)
        process, means, warnings = found
        said = tuple(filter(None, (delegated.warning, *warnings)))
        around = known.Around(keeper, process, means, said, delegated.path, delegated.controllers)
        known.save(run, around)
    except BaseException:
        if before is None:
            namespaces.end(keeper)
        raise
    return around


def _serve(state: Path, run: Path, around: known.Around) -> int:
    """Run the supervisor inside, and open ports for its agent, until it ends."""
    listener = doors.listen(run / known.DOORS)
    places = {
        "PYCOMPOSE_STATE_DIR": str(state),
        "PYCOMPOSE_RUN_DIR": str(run),
        "PYCOMPOSE_CGROUP_PARENT": around.cgroup,
    }
    node = (sys.executable, "-m", "pycompose.worker.node")
    command = namespaces.words(around.keeper, "setpriv", "--pdeathsig", "KILL", *node)
    child = subprocess.Popen(command, env={**os.environ, **places}, stdin=subprocess.DEVNULL)

    def stop(number: int, _frame: FrameType | None) -> None:
        child.send_signal(number)

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, stop)
    ended = os.pidfd_open(child.pid)
    while True:
        ready, _, _ = select.select([listener.fileno(), ended], [], [])
        if ended in ready:
            listener.close()
            return child.wait()
        doors.serve_one(listener)


def _end(run: Path, around: known.Around) -> None:
    """Nothing runs any more: the namespaces go, and what belonged to them, as at a reboot."""
    namespaces.end(around.keeper, around.way_out)
    delegation.leave(run)
    _clear(run)


def _clear(run: Path) -> None:
    for path in run.iterdir():
        if path.name == LOCK:
            continue
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)
