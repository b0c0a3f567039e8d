"""One container after another by the worker's own classes, and runc's in turn: create, start, exit, remove.

usage: python -m bench.inside_worker STATE RUN ROOT CGROUP COUNT BUNDLE SLEEPER (run by ``cases``)
Prints the milliseconds of each kind as JSON: "network", "plain", "exec", "runc", "runc exec", "command".

Around a container are a fresh overlay over ROOT, the whole OCI configuration that a service's container gets
(capabilities, seccomp, masked paths), its log, and with "network" a namespace with a veth, DNS and rules, from a pool
that is full when the container comes; "plain" has a new, empty network namespace, as runc's default. "exec" is `true`
in a container that runs. runc and "command" (``pycompose-runtime run``) are started as processes, from the same
process as the rest, with BUNDLE; SLEEPER is the bundle of a container to enter.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from ipaddress import IPv4Address, IPv4Interface, IPv4Network
from pathlib import Path

from pycompose.proto.v1 import service_pb2, task_pb2
from pycompose.worker.agent import oci_config
from pycompose.worker.images.snapshots import Snapshots
from pycompose.worker.network.manager import NodeNetwork
from pycompose.worker.network.model import Attachment, NetworkSpec, NetworkView
from pycompose.worker.runtime.client import LogOptions, Rootfs, Runtime
from pycompose.worker.runtime.users import User

WARM_UP = 5
#: Seconds between measurements: what a container leaves to do is done, the pool of namespaces is full.
REST = 0.25
NETWORK = NetworkSpec("bench", "bench", IPv4Network("10.99.0.0/16"), IPv4Address("10.99.0.1"))
TRUE = {"args": ["true"], "cwd": "/", "env": [], "user": {"uid": 0, "gid": 0}}


class Worker:
    """Runtime, network and snapshots below a node's two directories."""

    def __init__(self, state: Path, run: Path, root: Path, cgroup: str) -> None:
        self.state, self.root, self.cgroup, self.kept = state, root, cgroup, run
        self.runtime = Runtime(run / "containers", cgroup)
        self.network = NodeNetwork(run, "c")
        self.snapshots = Snapshots(state)

    async def begin(self, name: str, *command: str, network: bool) -> None:
        """Create and start a container."""
        snapshot = self.snapshots.make(name, (self.root,))
        path = None
        if network:
            path = str(await self.network.attach(name, [Attachment("bench", IPv4Interface("10.99.0.2/16"))]))
        spec = service_pb2.TaskSpec()
        spec.container.command.args.extend(command)
        around = oci_config.Surroundings(path, User(0, 0, (), "/"), name, cgroup_path=f"{self.cgroup}/{name}")
        config = oci_config.compose(task_pb2.Task(id=name), spec, {}, around)
        rootfs = Rootfs(snapshot.lower, snapshot.upper, snapshot.work)
        await self.runtime.create(name, config, rootfs, log=LogOptions(self.state / f"{name}.log"))
        await self.runtime.start(name)

    async def remove(self, name: str, *, network: bool, force: bool = False) -> None:
        """Delete it and what was around it."""
        await self.runtime.delete(name, force=force)
        if network:
            await self.network.detach(name)
        self.snapshots.release(name)
        (self.state / f"{name}.log").unlink()

    async def once(self, name: str, *, network: bool) -> float:
        """Milliseconds that one container takes."""
        begin = time.perf_counter()
        await self.begin(name, "true", network=network)
        status = await self.runtime.wait(name)
        await self.remove(name, network=network)
        assert status.code == 0, status
        return (time.perf_counter() - begin) * 1000

    async def enter(self, name: str) -> float:
        """Milliseconds that `true` takes in a running container."""
        begin = time.perf_counter()
        session = await self.runtime.exec(name, TRUE)
        assert [piece async for piece in session] == []
        assert await session.wait() == 0
        session.close()
        return (time.perf_counter() - begin) * 1000


def process(*words: str) -> float:
    """Milliseconds that a command takes."""
    begin = time.perf_counter()
    subprocess.run(words, check=True, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    return (time.perf_counter() - begin) * 1000


async def measure(worker: Worker, count: int, bundle: str, sleeper: str) -> dict[str, list[float]]:
    """`count` rounds, each kind in turn."""
    command = (str(Path(sys.executable).with_name("pycompose-runtime")), "--root", str(worker.kept / "command"))
    runc = ("runc", "--root", str(worker.kept / "runc"))
    found: dict[str, list[float]] = {}
    async with worker.runtime:
        await worker.network.start()
        await worker.network.apply(NetworkView(networks=(NETWORK,)))
        await worker.begin("sleeper", "sleep", "86400", network=False)
        process(*runc, "run", "-d", "-b", sleeper, "sleeper")
        for number in range(count + WARM_UP):
            await asyncio.sleep(REST)
            took = {"network": await worker.once(f"network{number}", network=True)}
            await asyncio.sleep(REST)
            took["plain"] = await worker.once(f"plain{number}", network=False)
            await asyncio.sleep(REST)
            took["runc"] = process(*runc, "run", "-b", bundle, f"bench{number}")
            took["exec"] = await worker.enter("sleeper")
            took["runc exec"] = process(*runc, "exec", "sleeper", "true")
            took["command"] = process(*command, "run", "-b", bundle, f"bench{number}")
            for kind, value in took.items() if number >= WARM_UP else ():
                found.setdefault(kind, []).append(value)
        process(*runc, "delete", "-f", "sleeper")
        await worker.remove("sleeper", network=False, force=True)
        await worker.network.close(remove_all=True)
    return found


if __name__ == "__main__":
    state_dir, run_dir, image_root, parent, number_of, true_bundle, sleep_bundle = sys.argv[1:]
    used = Worker(Path(state_dir), Path(run_dir), Path(image_root), parent)
    print(json.dumps(asyncio.run(measure(used, int(number_of), true_bundle, sleep_bundle))))
