"""The namespaces of a rootless node: made by unshare(1) and newuidmap(1), kept by a sleeping process, entered by
nsenter(1).

The keeper is nobody's child that would be killed with the node's programs: after `kill -9` of all of them, a new
launch finds the namespaces, and with them the containers, their networks and their mounts.
"""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Sequence

from pycompose.worker.rootless import known
from pycompose.worker.rootless.preconditions import CannotRun

#: It answers when it is inside, and sleeps once it is told that its ids are mapped.
KEEPER = "echo; read -r go && exec sleep infinity"


def make(uids: tuple[int, int], gids: tuple[int, int]) -> known.Process:
    """Make the namespaces; returns the process that keeps them.

    Args:
        uids: first id and count of the user's range of user ids, which become 1 and following; the user is 0.
        gids: the same of group ids.

    Raises:
        CannotRun: the kernel or newuidmap(1) refuses; nothing stays.
    """
    keeper = subprocess.Popen(
        ["unshare", "--user", "--mount", "--net", "--propagation", "slave", "sh", "-c", KEEPER],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
        cwd="/",
    )
    assert keeper.stdin is not None
    assert keeper.stdout is not None
    assert keeper.stderr is not None
    try:
        if not keeper.stdout.readline():
            said = keeper.stderr.read().decode("utf-8", "replace").strip()
            raise CannotRun(f"no user namespace can be made: {said}; see sysctl user.max_user_namespaces")
        for tool, own, (first, count) in (("newuidmap", os.geteuid(), uids), ("newgidmap", os.getegid(), gids)):
            mapping = ["0", str(own), "1", "1", str(first), str(count)]
            done = subprocess.run([tool, str(keeper.pid), *mapping], capture_output=True, text=True, check=False)
            if done.returncode:
                said = done.stderr.strip() or f"exit status {done.returncode}"
                raise CannotRun(f"the user's range of ids cannot be mapped: {said}; is {tool} setuid root?")
        keeper.stdin.write(b"go\n")
        keeper.stdin.close()
    except BaseException:
        keeper.kill()
        keeper.wait()
        raise
    finally:
        keeper.stdout.close()
        keeper.stderr.close()
    return known.process(keeper.pid)


def words(keeper: known.Process, *command: str) -> list[str]:
    """Return the command line that runs a command as the namespaces' root."""
    kinds = (("user", "user"), ("mount", "mnt"), ("net", "net"))
    own = [f"--{kind}=/proc/{keeper.pid}/ns/{name}" for kind, name in kinds]
    return ["nsenter", *own, "--setuid=0", "--setgid=0", "--wd=/", "--", *command]


def inhabitants(keeper: known.Process, others: Sequence[int]) -> list[int]:
    """Return the processes in the keeper's user namespace, without it and `others`."""
    found = []
    try:
        own = os.readlink(f"/proc/{keeper.pid}/ns/user")
    except OSError:
        return []
    for name in filter(str.isdigit, os.listdir("/proc")):
        try:
            if os.readlink(f"/proc/{name}/ns/user") == own:
                found.append(int(name))
        except OSError:
            continue
    return [pid for pid in found if pid not in (keeper.pid, *others)]


def end(*processes: known.Process | None) -> None:
    """End processes that still are the ones that they were."""
    for one in processes:
        if one is not None and one.lives():
            os.kill(one.pid, signal.SIGKILL)
