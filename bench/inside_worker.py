"""One container after another by the worker's own classes: create, start, exit, remove (run by ``cases``).

usage: python -m bench.inside_worker STATE RUN ROOT CGROUP COUNT
Prints {"network": [ms, ...], "plain": [ms, ...]} as JSON.

Around a container are a fresh overlay over ROOT, the whole OCI configuration that a service's container gets
(capabilities, seccomp, masked paths), its log, and with "network" a namespace with a veth, DNS and rules; "plain" has
a new, empty network namespace, as runc's default.
"""

from __future__ import annotations

import asyncio
import json
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
NETWORK = NetworkSpec("bench", "bench", IPv4Network("10.99.0.0/16"), IPv4Address("10.99.0.1"))


class Worker:
    """Runtime, network and snapshots below a node's two directories."""

    def __init__(self, state: Path, run: Path, root: Path, cgroup: str) -> None:
        self.state, self.root, self.cgroup = state, root, cgroup
        self.runtime = Runtime(run / "containers", cgroup)
        self.network = NodeNetwork(run, "c")
        self.snapshots = Snapshots(state)
        self.spec = service_pb2.TaskSpec()
        self.spec.container.command.args.append("true")

    async def once(self, name: str, *, network: bool) -> float:
        """Milliseconds that one container takes."""
        begin = time.perf_counter()
        snapshot = self.snapshots.make(name, (self.root,))
        path = None
        if network:
            path = str(await self.network.attach(name, [Attachment("bench", IPv4Interface("10.99.0.2/16"))]))
        around = oci_config.Surroundings(path, User(0, 0, (), "/"), name, cgroup_path=f"{self.cgroup}/{name}")
        config = oci_config.compose(task_pb2.Task(id=name), self.spec, {}, around)
        log = self.state / f"{name}.log"
        rootfs = Rootfs(snapshot.lower, snapshot.upper, snapshot.work)
        await self.runtime.create(name, config, rootfs, log=LogOptions(log))
        await self.runtime.start(name)
        status = await self.runtime.wait(name)
        await self.runtime.delete(name)
        if network:
            await self.network.detach(name)
        self.snapshots.release(name)
        log.unlink()
        assert status.code == 0, status
        return (time.perf_counter() - begin) * 1000


async def measure(worker: Worker, count: int) -> dict[str, list[float]]:
    """Run `count` containers of each kind."""
    async with worker.runtime:
        await worker.network.start()
        await worker.network.apply(NetworkView(networks=(NETWORK,)))
        found = {}
        for kind in ("network", "plain"):
            times = [await worker.once(f"{kind}{n}", network=kind == "network") for n in range(count + WARM_UP)]
            found[kind] = times[WARM_UP:]
        await worker.network.close(remove_all=True)
    return found


if __name__ == "__main__":
    state_dir, run_dir, image_root, parent, number = sys.argv[1:]
    used = Worker(Path(state_dir), Path(run_dir), Path(image_root), parent)
    print(json.dumps(asyncio.run(measure(used, int(number)))))
