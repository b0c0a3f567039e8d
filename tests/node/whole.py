"""A whole node for tests: state, sockets, cgroups and a machine (network and mount namespaces) of its own.

`Node` is what a test talks to; `running` is the context manager that starts one and takes all of it away again.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

CLI = (sys.executable, "-m", "pycompose.compose.cli.main")
IMAGE = "test/busybox"
#: Modules of a node's daemons, by what they are called here.
DAEMONS = {
    "supervisor": "pycompose.worker.node",
    "manager": "pycompose.manager",
    "agent": "pycompose.worker.agent",
    "zygote": "pycompose.worker.runtime.zygote",
    "resolver": "pycompose.worker.network.resolver",
    "nft helper": "pycompose.worker.network.nft_helper",
}


@dataclass
class Node:
    """A node in namespaces of its own; `machine` is a process that keeps them."""

    folder: Path
    machine: subprocess.Popen[bytes]
    variables: dict[str, str] = field(default_factory=dict)

    @property
    def cgroup(self) -> str:
        """Where the node makes cgroups, below each hierarchy."""
        return f"/pycompose-test-{self.machine.pid}"

    def environment(self) -> dict[str, str]:
        """What tells programs that they are about this node."""
        return os.environ | {
            "PYCOMPOSE_STATE_DIR": str(self.folder / "state"),
            "PYCOMPOSE_RUN_DIR": str(self.folder / "run"),
            "PYCOMPOSE_CGROUP_PARENT": self.cgroup,
            "PYCOMPOSE_INSTANCE": "t",
            **self.variables,
        }

    def on_machine(self, *words: str) -> list[str]:
        """The command that runs `words` on the node's machine."""
        own = ["nsenter", f"--net=/proc/{self.machine.pid}/ns/net", f"--mount=/proc/{self.machine.pid}/ns/mnt"]
        return [*own, "--wd=" + str(self.folder), *words]

    def run(self, *words: str, timeout: float = 100) -> subprocess.CompletedProcess[str]:
        """Run a program on the node's machine."""
        command = self.on_machine(*words)
        return subprocess.run(command, env=self.environment(), capture_output=True, text=True, timeout=timeout)

    def begin(self, *words: str) -> subprocess.Popen[str]:
        """Start a program on the node's machine; its output is piped."""
        pipe = subprocess.PIPE
        return subprocess.Popen(self.on_machine(*words), env=self.environment(), stdout=pipe, stderr=pipe, text=True)

    def inside(self, namespace: Path | str, *words: str) -> subprocess.CompletedProcess[str]:
        """Run a program of the machine in another network namespace."""
        return self.run("nsenter", f"--net={namespace}", *words)

    def cli(self, *words: str, timeout: float = 100) -> subprocess.CompletedProcess[str]:
        """Run pycompose, whatever comes of it."""
        return self.run(*CLI, *words, timeout=timeout)

    def compose(self, *words: str) -> str:
        """Run pycompose; it must succeed."""
        done = self.cli(*words)
        assert done.returncode == 0, done.stderr + self.log()
        return done.stdout

    def write(self, text: str, name: str = "compose.yaml") -> None:
        """Write a Compose file into the folder where commands run."""
        (self.folder / name).write_text(text)

    def log(self) -> str:
        """The end of the node's log."""
        path = self.folder / "state" / "log" / "node.log"
        return "".join(path.read_text().splitlines(keepends=True)[-15:]) if path.exists() else ""

    def containers(self, *flags: str) -> dict[str, dict[str, Any]]:
        """The project's containers by name; `flags` come before the command, such as -f FILE."""
        lines = self.compose(*flags, "ps", "-a", "--format", "ndjson").splitlines()
        return {item["Name"]: item for item in map(json.loads, lines)}

    def exec(self, service: str, *words: str, index: int = 1) -> str:
        """Run a program in a service's container; it must succeed."""
        return self.compose("exec", "-T", "--index", str(index), service, *words)

    def pids(self) -> dict[str, int]:
        """First processes of the running containers, by container id."""
        return pids_in(self.folder / "run")

    def shims(self) -> dict[str, int]:
        """Process ids of the shims of running containers, by container id."""
        ids = self.pids()
        states = self.folder / "run" / "containers"
        return {each: json.loads((states / each / "state.json").read_text())["shim"] for each in ids}

    def daemons(self) -> dict[str, int]:
        """Process ids of the node's own processes, by name; those that do not run are missing."""
        return {role: pid for pid, role in roles(self).items() if role in DAEMONS or role == "member"}

    def kill(self, name: str) -> None:
        """Kill one of the node's own processes (SIGKILL)."""
        os.kill(self.daemons()[name], signal.SIGKILL)

    def namespace(self, container_id: str) -> Path:
        """The file of a container's network namespace (to be opened on the node's machine)."""
        return self.folder / "run" / "netns" / container_id


#: Processes of a node that are told by their own names.
NAMED = {
    "pycompose-shim": "shim",
    "pycompose-spare": "spare shim",
    "pycompose-first": "spare shim's child",
    "etcd": "member",
}


def pids_in(run: Path) -> dict[str, int]:
    """First processes of the running containers of the node with this run directory, by container id."""
    found = {}
    for path in (run / "containers").glob("[0-9a-f]*/state.json"):
        with contextlib.suppress(OSError, ValueError):
            state = json.loads(path.read_text())
            if state["status"] == "running":
                found[state["id"]] = state["pid"]
    return found


def processes_of(node: Node) -> dict[int, list[str]]:
    """Processes that belong to the node (by its state directory in their environment): pid -> arguments.

    Its containers' processes have another environment and are found by their cgroup.
    """
    mark = f"PYCOMPOSE_STATE_DIR={node.folder / 'state'}".encode()
    found = {}
    for pid in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(OSError):
            if mark in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0"):
                found[int(pid)] = Path(f"/proc/{pid}/cmdline").read_bytes().decode().split("\0")[:-1]
    return found


def roles(node: Node) -> dict[int, str]:
    """What the node's processes are: "agent", "shim", or their command line."""
    found = {}
    for pid, arguments in processes_of(node).items():
        module = arguments[arguments.index("-m") + 1] if "-m" in arguments else ""
        role = next((name for name, each in DAEMONS.items() if each == module), " ".join(arguments[:4]))
        with contextlib.suppress(OSError):  # a shim is a fork of the zygote and shows its arguments
            name = Path(f"/proc/{pid}/comm").read_text().strip()
            found[pid] = NAMED.get(name, role)
    return found


def until(condition: Callable[[], object], seconds: float = 60, what: Callable[[], object] = lambda: "") -> None:
    """Wait for a condition; `what` is shown when it does not come in time."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, what()
        time.sleep(0.05)


def busybox(folder: Path) -> Path:
    """The tar of a root file system with BusyBox, and getent, which asks for names as programs with glibc do.

    (BusyBox is linked statically: names are not its strength.)
    """
    root = folder / "root"
    (root / "bin").mkdir(parents=True)
    for name in ("tmp", "etc", "root"):
        (root / name).mkdir()
    (root / "etc" / "passwd").write_text("root:x:0:0::/root:/bin/sh\nworker:x:1000:1001::/tmp:/bin/sh\n")
    (root / "etc" / "group").write_text("root:x:0:\nworkers:x:1001:\nextra:x:1002:worker\n")
    shutil.copy("/bin/busybox", root / "bin" / "busybox")
    for applet in subprocess.run(["/bin/busybox", "--list"], capture_output=True, text=True).stdout.split():
        if applet != "busybox":
            (root / "bin" / applet).symlink_to("busybox")
    shutil.copy("/usr/bin/getent", root / "bin" / "getent")
    listing = subprocess.run(["ldd", "/usr/bin/getent"], capture_output=True, text=True, check=True).stdout
    for path in (word for word in listing.split() if word.startswith("/")):
        (root / path[1:]).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, root / path[1:])
    subprocess.run(["tar", "-C", str(root), "-cf", str(folder / "root.tar"), "."], check=True)
    return folder / "root.tar"


@contextlib.contextmanager
def machine(folder: Path, variables: Mapping[str, str] | None = None) -> Iterator[Node]:
    """A machine for a node that was not started yet; what a test leaves is taken away."""
    folder.mkdir(exist_ok=True)
    keeper = subprocess.Popen(["unshare", "--net", "--mount", "sh", "-c", "ip link set lo up; exec sleep 3600"])
    until(lambda: Path(f"/proc/{keeper.pid}/comm").read_text().strip() == "sleep")
    node = Node(folder, keeper, dict(variables or {}))
    try:
        yield node
    finally:
        clean(node)


def clean(node: Node) -> None:
    """End all processes of the node and give back what it made."""
    with contextlib.suppress(subprocess.TimeoutExpired):
        node.cli("node", "stop", "--stop-containers", timeout=40)
    for _ in range(5):
        for pid in [*processes_of(node), *container_processes(node)]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.02)
    node.machine.kill()
    node.machine.wait()
    until(lambda: not container_processes(node), 10)
    for path in Path("/sys/fs/cgroup").glob(f"*{node.cgroup}"):
        for directory, _, _ in os.walk(path, topdown=False):
            with contextlib.suppress(OSError):
                os.rmdir(directory)


def container_processes(node: Node) -> list[int]:
    """All processes in cgroups of the node."""
    return [
        int(line)
        for path in Path("/sys/fs/cgroup").glob(f"pids{node.cgroup}/**/cgroup.procs")
        for line in path.read_text().split()
    ]


@contextlib.contextmanager
def running(folder: Path, variables: Mapping[str, str] | None = None) -> Iterator[Node]:
    """A started node that has the image `test/busybox`."""
    with machine(folder, variables) as node:
        node.compose("node", "start")
        node.compose("image", "import", str(busybox(folder)), IMAGE)
        yield node
