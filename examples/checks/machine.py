"""A node for one run of the checks: state in a folder that goes away, network and mounts in namespaces of their own.

So published ports and addresses meet nobody else's, neither a node that runs nor a second run of the checks.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from pyroute2 import IPRoute

MARK = "PYCOMPOSE_EXAMPLES_MACHINE"


def enter(arguments: Sequence[str]) -> None:
    """Start this program again, in namespaces of its own, unless it is there already (unshare(1))."""
    if MARK not in os.environ:
        words = ["unshare", "--net", "--mount", "--propagation=private", sys.executable, *arguments]
        os.execvpe(words[0], words, os.environ | {MARK: "yes"})
    with IPRoute() as machine:
        machine.link("set", index=1, state="up")


@contextlib.contextmanager
def node(tool: Sequence[str]) -> Iterator[Path]:
    """A started node, which this process's environment names; its folder. All of it is taken away."""
    with tempfile.TemporaryDirectory(prefix="pycompose-examples-") as name:
        folder = Path(name)
        os.environ |= {
            "PYCOMPOSE_STATE_DIR": str(folder / "state"),
            "PYCOMPOSE_RUN_DIR": str(folder / "run"),
            "PYCOMPOSE_CGROUP_PARENT": f"/pycompose-examples-{os.getpid()}",
            "PYCOMPOSE_INSTANCE": "ex",
        }
        try:
            subprocess.run([*tool, "node", "start"], check=True, stdout=subprocess.DEVNULL)
            yield folder
        finally:
            subprocess.run([*tool, "node", "stop", "--stop-containers"], stdout=subprocess.DEVNULL)
            for path in Path("/sys/fs/cgroup").glob(f"*{os.environ['PYCOMPOSE_CGROUP_PARENT']}"):
                for directory, _, _ in os.walk(path, topdown=False):
                    with contextlib.suppress(OSError):
                        os.rmdir(directory)
            shutil.rmtree(folder / "state", ignore_errors=True)


def holdings(tool: Sequence[str], folder: Path) -> set[str]:
    """Return all that applications have here: what the command line lists, mounts, cgroups, links, volumes' files."""
    found = set()
    for words in (["ls", "-aq"], ["volume", "ls", "-q"], ["network", "ls", "-q"], ["container", "ls", "-aq"]):
        said = subprocess.run([*tool, *words], capture_output=True, text=True, check=True).stdout
        found |= {f"{words[0]} {line}" for line in said.splitlines()}
    mounts = [line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    found |= {f"mount {path}" for path in mounts if path.startswith(str(folder))}
    for path in Path("/sys/fs/cgroup").glob(f"*{os.environ['PYCOMPOSE_CGROUP_PARENT']}"):
        found |= {f"cgroup {directory}" for directory, _, _ in os.walk(path) if directory != str(path)}
    links = [line.partition(":")[0].strip() for line in Path("/proc/net/dev").read_text().splitlines()[2:]]
    found |= {f"link {name}" for name in links}
    for place in ("state/volumes", "state/containers", "run/containers", "run/netns"):
        with contextlib.suppress(FileNotFoundError):
            found |= {f"{place}/{name}" for name in os.listdir(folder / place) if not name.startswith(".")}
    return found
