"""An image of one node runs on all: the others get it from one another, and its node sends it about once."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from node.whole import IMAGE, busybox, until

from cluster.bed import Host, laid
from cluster.provision import managers

FILE = f"""
name: spread
services:
  web:
    image: {IMAGE}
    command: sleep 1000
    pull_policy: never
    network_mode: none
    deploy: {{mode: global}}
"""


def with_ballast(folder: Path, mebibytes: int) -> Path:
    """BusyBox with a file that no compression makes smaller."""
    tar = busybox(folder)
    with open(folder / "ballast", "wb") as file:
        for _ in range(mebibytes):
            file.write(os.urandom(1 << 20))
    subprocess.run(["tar", "-C", str(folder), "-rf", str(tar), "./ballast"], check=True)
    return tar


def sent(host: Host) -> int:
    """Bytes that a host has sent to the others."""
    line = next(line for line in host.run("cat", "/proc/net/dev").stdout.splitlines() if "eth0:" in line)
    return int(line.partition(":")[2].split()[8])


def most_memory(host: Host) -> int:
    """The most memory that the host's agent ever had, in bytes (proc_pid_status(5), VmHWM)."""
    status = Path(f"/proc/{host.daemons()['agent']}/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) << 10


def spread(folder: Path, names: tuple[str, ...], mebibytes: int) -> tuple[dict[str, int], dict[str, int]]:
    """Import an image on the last host, and run it everywhere through the first.

    Returns the bytes that each host sent meanwhile, and by how many its agent grew.
    """
    with laid(folder / "bed", names) as bed:
        hosts = list(bed.hosts.values())
        managers(bed, hosts)
        image = with_ballast(folder, mebibytes)
        for host in hosts:
            host.start()
        first, source = hosts[0], hosts[-1]
        until(lambda: first.cli("node", "ls").stdout.lower().count("ready") == len(hosts), what=first.log)
        source.compose("image", "import", str(image), IMAGE)
        first.write(FILE)
        memory = {host.name: most_memory(host) for host in hosts}
        before = {host.name: sent(host) for host in hosts}
        first.compose("up", "-d")
        until(lambda: all(host.pids() for host in hosts), 300, what=lambda: first.compose("ps", "-a") + first.log())
        after = {host.name: sent(host) for host in hosts}
        grown = {host.name: most_memory(host) - memory[host.name] for host in hosts}
        return {name: after[name] - before[name] for name in after}, grown


def test_an_image_of_one_node_runs_on_all(tmp_path: Path) -> None:
    size = 12 << 20
    found, _ = spread(tmp_path, ("m1", "m2", "m3", "m4"), 12)
    assert sum(found.values()) >= 3 * size  # each of the others got it


@pytest.mark.skipif(os.environ.get("PYCOMPOSE_SOAK") != "full", reason="make soak")
@pytest.mark.timeout(900)
def test_soak_100_mb_to_five_nodes_cost_the_source_one_upload(tmp_path: Path) -> None:
    size = 100 << 20
    found, grown = spread(tmp_path, ("m1", "m2", "m3", "m4", "m5", "m6"), 100)
    print("\nsent, in uploads of 100 MiB:", {name: round(count / size, 2) for name, count in found.items()})
    print("agents grew, in MiB:", {name: count >> 20 for name, count in grown.items()})
    assert found["m6"] < 2 * size
    assert max(grown.values()) < size // 2
    assert sum(found.values()) < 6.5 * size
