"""Hosts for tests: each has network, mount and UTS namespaces, directories, a cgroup parent and a host name of its own.

A bridge in a namespace of its own joins them; the machine's network is not touched. Faults are made where the hosts'
links meet: nftables of the bridge drop what a partition or a bad line would. The bed can be kept by a file (`save`,
`load`), so that a person can start it, look around, and end it.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from node.whole import Node, container_processes, processes_of, until

SUBNET = "10.77.0"
NODE = (sys.executable, "-m", "pycompose.worker.node")


@dataclass
class Keeper:
    """A process that keeps namespaces; another run of Python can end it too, by its pid."""

    pid: int

    def kill(self) -> None:
        """End it."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)

    def wait(self) -> None:
        """Wait until it has ended; it may be a child of ours."""
        with contextlib.suppress(ChildProcessError):
            os.waitpid(self.pid, 0)


def keeper(script: str, *namespaces: str) -> Keeper:
    """Begin namespaces; `script` runs in them and must end with becoming `sleep`."""
    words = ["unshare", *(f"--{name}" for name in namespaces), "sh", "-ec", f"{script}\nexec sleep 86400"]
    null = subprocess.DEVNULL
    found = Keeper(subprocess.Popen(words, stdin=null, stdout=null, stderr=null, start_new_session=True).pid)
    until(lambda: Path(f"/proc/{found.pid}/comm").read_text().strip() == "sleep")
    return found


@dataclass
class Host(Node):
    """One machine of the bed."""

    name: str = ""
    address: str = ""

    def on_machine(self, *words: str) -> list[str]:
        """The command that runs `words` on this host."""
        spaces = [f"--{kind}=/proc/{self.machine.pid}/ns/{file}" for kind, file in SPACES]
        return ["nsenter", *spaces, f"--wd={self.folder}", *words]

    def start(self) -> None:
        """Start the node's supervisor, as a service manager would."""
        log = self.folder / "state" / "log"
        log.mkdir(parents=True, exist_ok=True)
        with open(log / "node.log", "ab") as file:
            words = self.on_machine(*NODE)
            subprocess.Popen(words, env=self.environment(), stdin=subprocess.DEVNULL, stdout=file, stderr=file)
        until(lambda: "agent" in self.daemons(), what=self.log)

    def freeze(self, *names: str) -> None:
        """Stop the node's daemons where they are (SIGSTOP)."""
        self._signal(names, signal.SIGSTOP)

    def thaw(self, *names: str) -> None:
        """Let them go on."""
        self._signal(names, signal.SIGCONT)

    def terminate(self, *names: str) -> None:
        """Ask the node's daemons to end (SIGTERM); the supervisor starts them again."""
        self._signal(names, signal.SIGTERM)

    def _signal(self, names: Sequence[str], number: int) -> None:
        for name, pid in self.daemons().items():
            if not names or name in names:
                os.kill(pid, number)

    def power_off(self) -> None:
        """End everything at once, containers too, as a power cut would; directories stay."""
        for _ in range(5):
            for pid in [*processes_of(self), *container_processes(self)]:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            time.sleep(0.02)


SPACES = (("net", "net"), ("mount", "mnt"), ("uts", "uts"))


@dataclass
class Bed:
    """The hosts by name, and the namespace of the bridge between them."""

    folder: Path
    bridge: Keeper
    hosts: dict[str, Host] = field(default_factory=dict)
    #: What else ends with the bed.
    others: list[Keeper] = field(default_factory=list)

    def _in_bridge(self, *words: str, text: str = "") -> None:
        command = ["nsenter", f"--net=/proc/{self.bridge.pid}/ns/net", *words]
        subprocess.run(command, input=text, text=True, check=True, capture_output=True)

    def add(self, name: str) -> Host:
        """Add a host with a link to the bridge."""
        number = len(self.hosts) + 1
        home = self.folder / name
        home.mkdir(parents=True)
        kept = keeper(f"hostname {name}\nip link set lo up", "net", "mount", "uts")
        link = f"h{number}"
        host = Host(home, kept, {"PYCOMPOSE_INSTANCE": f"c{number}"}, name, f"{SUBNET}.{number}")  # type: ignore[arg-type]
        self.hosts[name] = host
        self._in_bridge("ip", "link", "add", link, "type", "veth", "peer", "name", "eth0", "netns", str(kept.pid))
        self._in_bridge("ip", "link", "set", link, "master", "br0", "up")
        for words in (
            ("ip", "address", "add", f"{host.address}/24", "dev", "eth0"),
            ("ip", "link", "set", "eth0", "up"),
            ("ip", "route", "add", "default", "via", f"{SUBNET}.254"),
        ):
            done = host.run(*words)
            assert done.returncode == 0, done.stderr
        return host

    # Faults between hosts.

    def cut(self, first: str, second: str, one_way: bool = False) -> None:
        """Let nothing pass from `first` to `second`, nor back unless `one_way`."""
        ways = [(first, second)] if one_way else [(first, second), (second, first)]
        for source, target in ways:
            self._rule(f"ip saddr {self.hosts[source].address} ip daddr {self.hosts[target].address} drop")

    def isolate(self, name: str) -> None:
        """Cut a host off from all others."""
        for other in self.hosts:
            if other != name:
                self.cut(name, other)

    def lose(self, name: str, percent: int) -> None:
        """Lose some of all packets from and to a host."""
        for direction in ("saddr", "daddr"):
            self._rule(f"ip {direction} {self.hosts[name].address} numgen random mod 100 <= {percent - 1} drop")

    def heal(self) -> None:
        """End all faults of the network."""
        self._in_bridge("nft", "flush chain bridge bed faults")

    def _rule(self, rule: str) -> None:
        self._in_bridge("nft", "-f", "-", text=f"add rule bridge bed faults {rule}\n")

    # A bed that outlives its maker.

    def save(self) -> None:
        """Write down what is needed to find the bed again."""
        hosts = {name: [host.machine.pid, host.address, host.variables] for name, host in self.hosts.items()}
        (self.folder / "bed.json").write_text(json.dumps({"bridge": self.bridge.pid, "hosts": hosts}))

    @classmethod
    def load(cls, folder: Path) -> Bed:
        """Find a bed again. Raises FileNotFoundError."""
        row = json.loads((folder / "bed.json").read_text())
        bed = cls(folder, Keeper(row["bridge"]))
        for name, (pid, address, variables) in row["hosts"].items():
            bed.hosts[name] = Host(folder / name, Keeper(pid), variables, name, address)  # type: ignore[arg-type]
        return bed

    def down(self) -> None:
        """End everything, whatever state it is in."""
        for host in self.hosts.values():
            host.thaw()
            host.power_off()
        for host in self.hosts.values():
            until(lambda host=host: not container_processes(host), 20)  # type: ignore[misc]
            host.machine.kill()
            host.machine.wait()
            for path in Path("/sys/fs/cgroup").glob(f"*{host.cgroup}"):
                for directory, _, _ in os.walk(path, topdown=False):
                    with contextlib.suppress(OSError):
                        os.rmdir(directory)
        for process in (*self.others, self.bridge):
            process.kill()
            process.wait()


FAULTS = """
table bridge bed {
    chain faults { }
    chain forward { type filter hook forward priority 0; policy accept; jump faults; }
}
"""


def begin(folder: Path) -> Bed:
    """Make a bed without hosts."""
    folder.mkdir(parents=True, exist_ok=True)
    script = (
        f"ip link set lo up\nip link add br0 type bridge\nip address add {SUBNET}.254/24 dev br0\nip link set br0 up"
    )
    bed = Bed(folder, keeper(script, "net"))
    bed._in_bridge("nft", "-f", "-", text=FAULTS)
    return bed


@contextlib.contextmanager
def laid(folder: Path, names: Sequence[str]) -> Iterator[Bed]:
    """A bed with hosts, taken away at the end, also when the test failed."""
    bed = begin(folder)
    try:
        for name in names:
            bed.add(name)
        yield bed
    finally:
        bed.down()
