"""The cluster's authority changes under a running cluster: no container and no session ends for it."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from node.whole import CLI, IMAGE, until

from cluster.bed import Bed, Host, laid
from cluster.forming import form, give_image, ready
from pycompose.manager.ca import Authority
from pycompose.proto.tls import Identity

FILE = f"""
name: shop
services:
  web:
    image: {IMAGE}
    command: sh -c 'while :; do hostname; sleep 0.3; done'
    stop_signal: SIGKILL
    pull_policy: never
    network_mode: none
    deploy: {{replicas: 2, placement: {{max_replicas_per_node: 1}}}}
"""


@pytest.fixture
def bed(tmp_path: Path) -> Iterator[Bed]:
    with laid(tmp_path / "bed", ("m1", "w1")) as bed:
        give_image(list(bed.hosts.values()), tmp_path)
        yield bed


def identities(manager: Host, hosts: list[Host]) -> list[Identity]:
    folders = [manager.folder / "state" / "manager" / "tls", *(host.folder / "state" / "node" for host in hosts)]
    return [Identity.load(folder) for folder in folders]


def test_rotation(bed: Bed, tmp_path: Path) -> None:
    m1, w1 = bed.hosts.values()
    hosts = [m1, w1]
    form(m1, [w1])
    m1.write(FILE)
    m1.compose("up", "-d", "--wait")
    pids, before = [host.pids() for host in hosts], identities(m1, hosts)
    assert len({one.authorities for one in before}) == 1
    old = before[0].authorities
    follower = m1.begin(*CLI, "-p", "shop", "logs", "-f", "--no-color", "web")
    sessions = connected(m1)

    m1.compose("cluster", "ca", "rotate")
    after = identities(m1, hosts)
    assert {one.authorities for one in after} == {after[0].authorities}
    assert old not in after[0].authorities
    assert all(one.certificate != two.certificate for one, two in zip(before, after, strict=True))
    assert [host.pids() for host in hosts] == pids
    assert follower.poll() is None, "whoever followed logs still does"
    assert connected(m1) == sessions, m1.log()
    # Hands on the other node's task go over a connection of the new authority, and the node comes back by it, too.
    assert {m1.exec("web", "echo", "hands", index=number) for number in (1, 2)} == {"hands\n"}
    w1.kill("agent")
    until(lambda: "w1" not in ready_names(m1) or w1.cli("node", "status").returncode == 0)
    until(lambda: ready(m1) == 2, what=lambda: m1.log() + w1.log())
    assert "settled" in m1.compose("cluster", "ca")
    follower.kill()
    follower.communicate()

    # A node that is away is waited for; a person's own authority comes when it is back.
    own = Authority.create("somebody", datetime.now(UTC))
    (m1.folder / "own.pem").write_bytes(own.pem)
    (m1.folder / "own.key").write_bytes(own.key_pem)
    w1.compose("node", "stop")
    m1.compose("cluster", "ca", "rotate", "--external", "own.pem", "own.key", "-d")
    until(lambda: m1.compose("cluster", "ca").splitlines()[-1].split() == ["waits", "for", "w1"])
    refused = m1.cli("cluster", "ca", "rotate")
    assert refused.returncode == 1
    assert "is being changed already" in refused.stderr
    w1.compose("node", "start")
    until(lambda: "settled" in m1.compose("cluster", "ca"), what=lambda: m1.compose("cluster", "ca") + w1.log())
    assert {one.authorities for one in identities(m1, hosts)} == {own.pem}
    assert ready(m1) == 2


def connected(host: Host) -> int:
    """How often a node has come to a host's manager."""
    return (host.folder / "state" / "log" / "node.log").read_text().count("is ready: connected")


def ready_names(host: Host) -> list[str]:
    return host.cli("node", "ls", "--filter", "status=ready", "--format", "{{.Hostname}}").stdout.split()
