"""A cluster of the bed's hosts, made as a person makes one: `cluster init` on one, `node join` on the others."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from node.whole import CLI, IMAGE, busybox, until

from cluster.bed import Host


def form(first: Host, others: Sequence[Host] = (), *flags: str) -> None:
    """Make a cluster of a host whose node runs, and let others join it as workers, all at once.

    Args:
        first: its manager.
        others: hosts; their nodes are started by joining.
        flags: further ones of `cluster init`.
    """
    first.compose("cluster", "init", "--advertise-addr", first.address, "--name", "bed", *flags)
    told: list[str] = []
    until(lambda: invited(first, told), 100, what=first.log)  # its etcd may be just starting
    invitation = told[-1]
    joining = [(host, host.begin(*CLI, "node", "join", invitation)) for host in others]
    for host, process in joining:
        _, said = process.communicate(timeout=100)
        assert process.returncode == 0, said + host.log() + first.log()
    until(lambda: ready(first) == len(others) + 1, what=lambda: first.cli("node", "ls").stdout + first.log())


def invited(host: Host, told: list[str]) -> bool:
    """Ask a manager for the workers' token, which is put into `told`; returns whether it answered."""
    done = host.cli("cluster", "token", "worker", "-q")
    told.append(done.stdout.strip())
    return done.returncode == 0


def give_image(hosts: Sequence[Host], folder: Path) -> None:
    """Start single nodes that have the same image `test/busybox`."""
    for host in hosts:
        host.start()
    first, *others = hosts
    first.compose("image", "import", str(busybox(folder)), IMAGE)
    first.compose("image", "save", "-o", str(folder / "saved.tar"), IMAGE)
    for host in others:
        host.compose("image", "load", "-i", str(folder / "saved.tar"))


def ready(host: Host) -> int:
    """How many nodes are ready, as a host's manager says."""
    return host.cli("node", "ls", "--format", "{{.Status}}").stdout.split().count("Ready")
