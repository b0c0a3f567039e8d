"""What is measured. A case runs ours and the peer's in turn, round by round, and gives rows."""

from __future__ import annotations

import json
import shutil
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench import cluster, proc
from bench.daemons import IMAGE, Docker, Node
from bench.report import Row
from bench.services import DEAF, SLEEP, Ours, Swarm

GRACE = 10
FILE = "services:\n" + "".join(
    f"  s{number}:\n    image: {IMAGE}\n    command: [sh, -c, 'trap \"exit 0\" TERM; sleep 86400 & wait']\n"
    for number in range(1, 6)
)


@dataclass
class Place:
    """Where cases run. `quick`: fewer rounds, no large counts."""

    node: Node
    docker: Docker
    folder: Path
    quick: bool

    def rounds(self, number: int) -> int:
        """How often something is repeated."""
        return max(2, number // 4) if self.quick else number


def seconds(work: Callable[[], object]) -> float:
    """Wall time of a call."""
    begin = time.perf_counter()
    work()
    return time.perf_counter() - begin


def up_and_down(place: Place) -> list[Row]:
    """`up -d` of five services, and `down`: the command lines as a person calls them."""
    up = Row("up -d, 5 services", "s", 0.4, peer="Docker Compose")
    down = Row("down, 5 services", "s", 0.3, peer="Docker Compose")
    home = place.folder / "five"
    home.mkdir()
    (home / "compose.yaml").write_text(FILE)
    for _ in range(place.rounds(8)):
        up.ours.append(seconds(lambda: place.node.pycompose("up", "-d", cwd=home)))
        down.ours.append(seconds(lambda: place.node.pycompose("down", cwd=home)))
        up.theirs.append(seconds(lambda: place.docker.compose("up", "-d", cwd=home)))
        down.theirs.append(seconds(lambda: place.docker.compose("down", cwd=home)))
    return [up, down]


def replicas(place: Place) -> list[Row]:
    """A service until its replicas run, and until 100 that do not handle SIGTERM are gone."""
    rows = []
    ours, theirs = Ours(place.node), Swarm(place.docker)
    for count, budget in ((10, 0.5), (50, 1.5), (100, 3.0)):
        row = Row(f"service create, {count} replicas running", "s", budget, peer="Swarm")
        gone = Row(f"remove {count} replicas, PID 1 without a handler", "s", 1.0, peer="Swarm")
        _repeat(row, gone, ours, theirs, count, SLEEP, place.rounds(5), peers=1 if count > 10 else 3, quick=place.quick)
        rows += [row] if count < 100 else [row, gone]
    deaf = Row("remove 100 replicas, PID 1 ignores SIGTERM, grace 10 s", "s", GRACE + 1.0, peer="Swarm")
    if not place.quick:
        _repeat(Row("", "s"), deaf, ours, theirs, 100, DEAF, 2, peers=1, quick=False)
    ours.close()
    return [*rows, deaf]


def _repeat(
    create: Row,
    remove: Row,
    ours: Ours,
    theirs: Swarm,
    count: int,
    command: Sequence[str],
    rounds: int,
    *,
    peers: int,
    quick: bool,
) -> None:
    for number in range(rounds):
        took, service = ours.create(count, command, GRACE)
        create.ours.append(took)
        remove.ours.append(ours.remove(service))
        if number < peers and not (quick and count > 10):
            took, service = theirs.create(count, command, GRACE)
            create.theirs.append(took)
            remove.theirs.append(theirs.remove(service))


def one_container(place: Place) -> list[Row]:
    """One container that runs `true`: create, start, exit, remove."""
    api = Row("one container through the API", "ms", peer="docker run --rm")
    ours = Ours(place.node)
    for _ in range(place.rounds(20)):
        api.ours.append(ours.job() * 1000)
        api.theirs.append(1000 * seconds(lambda: place.docker.docker("run", "--rm", IMAGE, "true")))
    ours.close()
    found = _inside(place, place.rounds(60))
    network = Row("one container inside the worker, network from the pool", "ms", 10, peer="docker run --rm")
    network.ours, network.theirs = found["network"], api.theirs
    plain = Row("one container inside the worker, no network", "ms", None, 0.5, "runc run")
    command = Row("pycompose-runtime run, as a process", "ms", None, 3, "runc run")
    enter = Row("exec of true inside the worker", "ms", 8, peer="runc exec")
    plain.ours, command.ours, enter.ours = found["plain"], found["command"], found["exec"]
    plain.theirs, command.theirs, enter.theirs = found["runc"], found["runc"], found["runc exec"]
    docker = Row("exec of true by the command line", "ms", peer="docker exec")
    _entered(place, docker)
    return [api, network, plain, command, enter, docker]


def _inside(place: Place, count: int) -> dict[str, list[float]]:
    """What ``inside_worker`` measures, on the node's machine."""
    machine = place.node.machine
    bundles = [str(_bundle(place, name, words)) for name, words in (("true", ["true"]), ("sleep", ["sleep", "86400"]))]
    script = (sys.executable, "-m", "bench.inside_worker")
    folders = (str(place.folder / "worker"), str(place.node.run_dir / "worker"), str(place.folder / "root"))
    text = machine.run(*script, *folders, f"/{machine.cgroup}", str(count), *bundles, cwd=Path.cwd())
    found: dict[str, list[float]] = json.loads(text)
    return found


def _entered(place: Place, row: Row) -> None:
    """`exec` by the command lines, in a container of each."""
    home = place.folder / "entered"
    home.mkdir()
    (home / "compose.yaml").write_text(f"services:\n  s:\n    image: {IMAGE}\n    command: sleep 86400\n")
    place.node.pycompose("up", "-d", cwd=home)
    place.docker.docker("run", "-d", "--name", "entered", IMAGE, "sleep", "86400")
    for _ in range(place.rounds(20)):
        row.ours.append(1000 * seconds(lambda: place.node.pycompose("exec", "-T", "s", "true", cwd=home)))
        row.theirs.append(1000 * seconds(lambda: place.docker.docker("exec", "entered", "true")))
    place.docker.docker("rm", "-f", "entered")
    place.node.pycompose("down", "-t", "0", cwd=home)


def _bundle(place: Place, name: str, words: list[str]) -> Path:
    """An OCI bundle: the same root, the configuration of `runc spec`."""
    bundle = place.folder / f"bundle-{name}"
    bundle.mkdir()
    shutil.copytree(place.folder / "root", bundle / "rootfs", symlinks=True)
    place.node.machine.run("runc", "spec", cwd=bundle)
    config = json.loads((bundle / "config.json").read_text())
    config["process"]["args"], config["process"]["terminal"] = words, False
    config["linux"]["cgroupsPath"] = f"/{place.node.machine.cgroup}/{bundle.name}"
    (bundle / "config.json").write_text(json.dumps(config))
    return bundle


def shims(place: Place) -> list[Row]:
    """Memory that an idle container costs beside its own program."""
    ours, theirs = Ours(place.node), Swarm(place.docker)
    row = Row("memory of a shim, 10 containers", "MB", 3, peer="containerd-shim at 10")
    _, service = ours.create(10)
    row.ours = [_each("pycompose-shim", place.node.pid)]
    ours.remove(service)
    _, service = theirs.create(10)
    row.theirs = [_each("containerd-shim", place.docker.pid)]
    theirs.remove(service)
    ours.close()
    return [row]


def many(place: Place) -> list[Row]:
    """500 containers in one network of one node: until all are healthy; then, without health checks, what idling costs.

    dockerd is not asked for so many: one at a time takes it minutes.
    """
    ours = Ours(place.node)
    healthy = Row("500 containers of a service, all healthy", "s", 15)
    took, service = ours.healthy(500)
    healthy.ours = [took]
    ours.remove(service)
    memory = Row("memory of a shim, 500 containers", "MB", 3)
    cpu = Row("idle CPU of a node with 500 containers", "%", 1)
    gone = Row("remove 500 containers, PID 1 without a handler", "s")
    _, service = ours.create(500)
    memory.ours = [_each("pycompose-shim", place.node.pid)]
    time.sleep(5)
    pids = [*proc.tree(place.node.pid), *proc.named("pycompose-shim", place.node.pid)]
    before, begin = proc.cpu(pids), time.perf_counter()
    time.sleep(10 if place.quick else 30)
    cpu.ours = [(proc.cpu(pids) - before) / (time.perf_counter() - begin) * 100]
    gone.ours = [ours.remove(service)]
    ours.close()
    return [healthy, memory, cpu, gone]


def _each(comm: str, beside: int) -> float:
    pids = proc.named(comm, beside)
    return sum(map(proc.pss, pids)) / len(pids)


def idle(place: Place) -> list[Row]:
    """The daemons at rest."""
    memory = Row("idle node daemon, memory (PSS)", "MB", 120, peer="dockerd + containerd")
    cpu = Row("idle node daemon, CPU", "%", 1, peer="dockerd + containerd")
    span = 5 if place.quick else 30
    time.sleep(2)
    mine, other = proc.tree(place.node.pid), proc.tree(place.docker.pid)
    before, begin = (proc.cpu(mine), proc.cpu(other)), time.perf_counter()
    time.sleep(span)
    passed = time.perf_counter() - begin
    cpu.ours, cpu.theirs = [(proc.cpu(mine) - before[0]) / passed * 100], [(proc.cpu(other) - before[1]) / passed * 100]
    memory.ours, memory.theirs = [sum(map(proc.pss, mine))], [sum(map(proc.pss, other))]
    return [memory, cpu]


def listing(place: Place) -> list[Row]:
    """`ps` with five containers, on a warm node."""
    row = Row("ps", "ms", 150, peer="docker ps")
    home = place.folder / "five"
    place.node.pycompose("up", "-d", cwd=home)
    place.docker.compose("up", "-d", cwd=home)
    for _ in range(place.rounds(20)):
        row.ours.append(1000 * seconds(lambda: place.node.pycompose("ps", cwd=home)))
        row.theirs.append(1000 * seconds(lambda: place.docker.docker("ps")))
    place.node.pycompose("down", cwd=home)
    place.docker.compose("down", cwd=home)
    return [row]


def managers(place: Place) -> list[Row]:
    """Managers without nodes: writes, failover, tasks to simulated workers."""
    return cluster.rows(place.docker, place.folder, place.quick)


CASES: dict[str, Callable[[Place], list[Row]]] = {
    "idle": idle,
    "updown": up_and_down,
    "ps": listing,
    "container": one_container,
    "memory": shims,
    "many": many,
    "replicas": replicas,
    "managers": managers,
}
