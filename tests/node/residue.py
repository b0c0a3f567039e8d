"""What a node holds on to: taken before and after, the difference is what was left behind.

`take` lists, as plain strings with a word in front that says what each is:

==============  ==============================================================================
process         of the node and of its containers, by role; zombies of its daemons
mount           lines of mountinfo in the node's mount namespace, and of the tests' own that name its folder
cgroup          directories of the node on every hierarchy
namespace       network namespaces that its processes are in or that its mounts keep
link, rule      in the machine's network namespace and in each that the node keeps
descriptor      open files of each daemon, by kind (sockets, pipes, event descriptors) or by path
file            below the state and run directories, except logs and the store's own files
loop            loop devices with a file of the node's behind them
key             live keys of the store
==============  ==============================================================================

Network namespaces that wait for their containers (``worker/network/pool.py``) are descriptors of the agent, each with
two sockets of the resolver: as many at any time once the pool is full, none while there are no networks.

Threads are counted apart (`threads`): pools grow to their size and stay there, so only growth without end is a leak.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import sqlite3
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from node.whole import Node, container_processes, processes_of, roles

#: Files that come and go, or grow, by themselves, or are made once for all containers.
OWN_BUSINESS = re.compile(r"^(state/log/|state/manager/store\.db|run/containers/\.seccomp/|.*/log\.json\.\d+$)")


def take(node: Node) -> Counter[str]:
    """Everything that the node holds now."""
    found: Counter[str] = Counter()
    for kind in (_processes, _mounts, _cgroups, _namespaces, _network, _descriptors, _files, _loops, _keys):
        found.update(kind(node))
    return found


def left(before: Counter[str], after: Counter[str]) -> list[str]:
    """What is there after and was not before."""
    return sorted((after - before).elements())


def missing(before: Counter[str], after: Counter[str]) -> list[str]:
    """What was there before and is not after."""
    return sorted((before - after).elements())


def threads(node: Node) -> dict[str, int]:
    """Threads of each daemon."""
    found = {}
    for name, pid in node.daemons().items():
        with contextlib.suppress(OSError):
            found[name] = len(os.listdir(f"/proc/{pid}/task"))
    return found


def _processes(node: Node) -> Iterator[str]:
    own = roles(node)
    yield from (f"process {role}" for role in own.values())
    for path in Path("/sys/fs/cgroup").glob(f"pids{node.cgroup}/*/cgroup.procs"):
        with contextlib.suppress(OSError):
            if path.read_text():
                yield f"process in {path.parent.name}"
    for pid in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(OSError):
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            if fields[0] == "Z" and int(fields[1]) in own:
                yield f"process zombie of {own[int(fields[1])]}"


def _mounts(node: Node) -> Iterator[str]:
    for line in Path(f"/proc/{node.machine.pid}/mountinfo").read_text().splitlines():
        fields, kind = line.split()[4:6], line.partition(" - ")[2]
        yield f"mount {fields[0]} {kind}"
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        if str(node.folder) in line:
            yield f"mount in the tests' namespace {line.split()[4]}"


def _cgroups(node: Node) -> Iterator[str]:
    for path in Path("/sys/fs/cgroup").glob(f"*{node.cgroup}"):
        for directory, _, _ in os.walk(path):
            if directory == str(path):
                continue  # made for the first container, removed when the node stops
            yield f"cgroup {directory.removeprefix('/sys/fs/cgroup/')}"


def _namespaces(node: Node) -> Iterator[str]:
    seen = set()
    for pid in [*processes_of(node), *container_processes(node)]:
        with contextlib.suppress(OSError):
            seen.add(os.readlink(f"/proc/{pid}/ns/net"))
    kept = [line.split()[3] for line in _machine_mounts(node) if " nsfs " in line and "net:[" in line]
    yield from (f"namespace {name}" for name in sorted(seen | set(kept)))


def _machine_mounts(node: Node) -> list[str]:
    return Path(f"/proc/{node.machine.pid}/mountinfo").read_text().splitlines()


def _network(node: Node) -> Iterator[str]:
    script = "ip -o link; ip -o route; nft list ruleset; cat /proc/sys/net/ipv4/conf/all/route_localnet"
    kept = [line.split()[4] for line in _machine_mounts(node) if " nsfs " in line and "net:[" in line]
    texts = {"machine": node.run("sh", "-c", script).stdout}
    for path in kept:
        texts[Path(path).name] = node.inside(path, "sh", "-c", script).stdout
    for place, text in texts.items():
        for line in text.splitlines():
            if line.strip():
                yield f"rule or link of {place}: {re.sub(r'^[0-9]+: |qlen [0-9]+', '', line)}"


def _descriptors(node: Node) -> Iterator[str]:
    for name, pid in node.daemons().items():
        with contextlib.suppress(OSError):
            for number in os.listdir(f"/proc/{pid}/fd"):
                with contextlib.suppress(OSError):
                    target = os.readlink(f"/proc/{pid}/fd/{number}")
                    yield f"descriptor of {name}: {re.sub(r'[0-9]+', 'N', target)}"


def _files(node: Node) -> Iterator[str]:
    for top in ("state", "run"):
        for directory, folders, files in os.walk(node.folder / top):
            folders.sort()
            inside = Path(directory).relative_to(node.folder)
            if inside.parts[:3] == ("state", "images", "layers"):
                folders[:] = []  # the images' own files: their directories tell enough
                yield f"file {inside}/"
                continue
            for name in [*files, *(f"{folder}/" for folder in folders)]:
                path = f"{inside}/{name}"
                if not OWN_BUSINESS.match(path):
                    yield f"file {path}"


def _loops(node: Node) -> Iterator[str]:
    for path in Path("/sys/block").glob("loop*/loop/backing_file"):
        with contextlib.suppress(OSError):
            backing = path.read_text().strip()
            if str(node.folder) in backing:
                yield f"loop {backing}"


def _keys(node: Node) -> Iterator[str]:
    path = node.folder / "state" / "manager" / "store.db"
    if not path.exists():
        return
    # the manager holds its store for itself alone: what is read is a copy of its files
    with tempfile.TemporaryDirectory() as folder:
        for name in ("store.db", "store.db-wal"):
            with contextlib.suppress(FileNotFoundError):
                shutil.copy(path.with_name(name), folder)
        with contextlib.closing(sqlite3.connect(f"{folder}/store.db", timeout=60)) as store:
            yield from (f"key {key}" for (key,) in store.execute("SELECT key FROM kv").fetchall())
            yield from ("lease" for _ in store.execute("SELECT id FROM lease").fetchall())
