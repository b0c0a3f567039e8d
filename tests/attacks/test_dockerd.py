"""The same command in a container of a node and of Debian's dockerd: where the daemon decides, and not its runtime.

In full alone: what a node does is tested by other cases too, this is for the comparison.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from attacks.conftest import DOCKERD, FULL, OURS
from node.whole import IMAGE, busybox, machine, running, until

pytestmark = pytest.mark.skipif(not FULL, reason="for the comparison, in full alone")


@dataclass(frozen=True)
class Case:
    """`wanted` must match the output followed by the exit status; `keys` are a service's, `flags` docker run's."""

    row: str
    text: str
    command: str
    wanted: str
    keys: str = "{}"
    flags: str = ""
    twin: bool = False

    def __str__(self) -> str:
        return self.row


LIST = "ls -l /proc/self/fd | grep -c -e '->'"
CASES = [
    Case("A03", "a working directory by a descriptor of the runtime's", "cat ../../../../../../etc/shadow",
         r"^(?!.*root:)", '{"working_dir": "/proc/self/fd/8"}', "--workdir /proc/self/fd/8"),
    Case("A04", "descriptors in a container", LIST, r"^[34]\n0$"),
    Case("A07", "a tmpfs below /proc", "echo begun", r"^(?!.*begun)", '{"tmpfs": ["/proc/sys/kernel"]}',
         "--tmpfs /proc/sys/kernel"),
    Case("A10", "a sysctl of the machine's", "echo begun", r"^(?!.*begun)",
         '{"sysctls": {"kernel.core_pattern": "x"}}', "--sysctl kernel.core_pattern=x"),
    Case("A12", "control groups mounted or written to", "mkdir /tmp/c; mount -t cgroup -o rdma c /tmp/c 2>/dev/null && "
         "echo MOUNTED; find /sys/fs/cgroup -name release_agent -writable; "
         "for f in /sys/fs/cgroup/*/tasks; do echo 0 > $f; done 2>/dev/null && echo WRITTEN; true", r"^\n?0$"),
    Case("A13", "the capabilities of a service that says nothing", "grep -E 'Cap(Eff|Inh|Amb)' /proc/self/status",
         r"CapInh:\s0{16}\nCapEff:\s00000000a80425fb\nCapAmb:\s0{16}"),
    Case("A14", "what is masked: interrupts, keys, power meters",
         "cat /proc/interrupts /proc/keys | wc -c; ls /sys/devices/virtual/powercap 2>/dev/null | wc -l", r"^0\n0\n0$"),
    Case("A15", "no-new-privileges", "grep NoNewPrivs /proc/self/status", r"NoNewPrivs:\s1\n0",
         '{"security_opt": ["no-new-privileges:true"]}', "--security-opt no-new-privileges"),
    Case("A16", "a disk that the container makes a node for", "mknod /tmp/d b 254 0; head -c 1 /tmp/d 2>&1 >/dev/null",
         r"not permitted"),
    Case("A17", "namespaces of one's own", "unshare -Ur true 2>&1; unshare -m true 2>&1", r"(not permitted[^$]*){2}"),
    Case("I01", "a limit of processes where none is given", "cat /sys/fs/cgroup/pids/pids.max /sys/fs/cgroup/pids.max "
         "2>/dev/null | grep -c max", r"^0\n"),
    Case("I02", "more memory than the limit", "tail /dev/zero", r"137$", '{"mem_limit": "24m", "memswap_limit": "24m"}',
         "--memory 24m --memory-swap 24m"),
    Case("A13", "a capability that is asked for", "grep CapEff /proc/self/status", r"00000000aa0425fb",
         '{"cap_add": ["SYS_TIME"]}', "--cap-add SYS_TIME", twin=True),
    Case("I01", "a limit of processes that is given", "cat /sys/fs/cgroup/pids/pids.max || cat /sys/fs/cgroup/pids.max",
         r"^40\n0$", '{"pids_limit": 40}', "--pids-limit 40", twin=True),
]  # fmt: skip
Engine = Callable[[Case], str]


@contextmanager
def node(folder: Path) -> Iterator[Engine]:
    """A node of ours; each case is a service that runs once."""
    folder.mkdir()
    with running(folder / "node") as found:

        def run(case: Case) -> str:
            keys = json.loads(case.keys) | {"image": IMAGE, "command": ["sh", "-c", case.command.replace("$", "$$")]}
            found.write(json.dumps({"name": "compared", "services": {"case": keys}}), "case.yaml")
            done = found.cli("-f", "case.yaml", "run", "--rm", "-T", "case")
            return f"{done.stdout}{done.returncode}"

        yield run


@contextmanager
def dockerd(folder: Path) -> Iterator[Engine]:
    """Debian's dockerd with its own machine, as `make bench` has it."""
    if not shutil.which(DOCKERD):
        pytest.skip("dockerd is not installed")
    with machine(folder) as found:
        host = f"unix://{folder}/docker.sock"
        places = ("--data-root", f"{folder}/data", "--exec-root", f"{folder}/exec", "--pidfile", f"{folder}/pid")
        with open(folder / "log", "wb") as log:
            command = found.on_machine(DOCKERD, *places, "--host", host, "--cgroup-parent", found.cgroup)
            daemon = subprocess.Popen(command, stdout=log, stderr=log)

        def docker(*words: str) -> subprocess.CompletedProcess[str]:
            return found.run("docker", "--host", host, *words)

        def run(case: Case) -> str:
            done = docker("run", "--rm", *case.flags.split(), IMAGE, "sh", "-c", case.command)
            return f"{done.stdout}{done.returncode}"

        try:
            until(lambda: docker("version").returncode == 0, 60, lambda: (folder / "log").read_text())
            assert docker("import", str(busybox(folder)), IMAGE).returncode == 0
            yield run
        finally:
            daemon.terminate()
            daemon.wait(60)


@pytest.fixture(scope="module", params=[OURS, DOCKERD])
def engine(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    folder = tmp_path_factory.mktemp("compared") / request.param
    with (dockerd if request.param == DOCKERD else node)(folder) as found:
        yield found


def marked(case: Case) -> Any:
    mark = pytest.mark.twin(case.row) if case.twin else pytest.mark.attack(case.row)
    return pytest.param(case, marks=mark, id=f"{case.row}{'-twin' if case.twin else ''}")


@pytest.mark.parametrize("case", map(marked, CASES))
def test_a_container_of_each(engine: Engine, case: Case) -> None:
    """One command in a container of a node, and of dockerd."""
    assert re.search(case.wanted, engine(case), re.DOTALL if "(?!" in case.wanted else 0), engine(case)
