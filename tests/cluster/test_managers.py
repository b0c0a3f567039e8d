"""Managers come and go: by a manager's token, promoted and demoted; one that is killed is not missed."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from node.whole import CLI, IMAGE, until

from cluster.bed import Bed, Host, laid
from cluster.forming import form, give_image, ready

FILE = f"""
name: kept
services:
  web:
    image: {IMAGE}
    command: sleep 1000
    stop_signal: SIGKILL
    pull_policy: never
    network_mode: none
    deploy: {{replicas: 3, placement: {{max_replicas_per_node: 1}}}}
"""


@pytest.fixture
def bed(tmp_path: Path) -> Iterator[Bed]:
    """Three hosts whose nodes have the image; no cluster."""
    with laid(tmp_path / "bed", ("m1", "m2", "m3")) as bed:
        give_image(list(bed.hosts.values()), tmp_path)
        yield bed


def standing(host: Host) -> dict[str, str]:
    """What each node is among the managers, as a host's manager says."""
    done = host.cli("node", "ls", "--format", "json")
    rows = json.loads(done.stdout) if done.returncode == 0 else []
    return {row["Hostname"]: row["ManagerStatus"] for row in rows}


def of_three(host: Host) -> bool:
    return sorted(standing(host).values()) == ["Leader", "Reachable", "Reachable"]


def members(host: Host) -> list[str]:
    """Host names of the members as a manager wrote them down."""
    path = host.folder / "state" / "manager" / "members.json"
    return sorted(row["label"] for row in json.loads(path.read_text()))


def every_log(bed: Bed) -> str:
    return "\n".join(f"--- {host.name} {standing(host)}\n{host.log()}" for host in bed.hosts.values())


@pytest.mark.timeout(900)
def test_the_life_of_managers(bed: Bed) -> None:
    m1, m2, m3 = bed.hosts.values()
    form(m1, [m3])
    joined = m2.begin(*CLI, "node", "join", m1.compose("cluster", "token", "manager", "-q").strip())
    assert joined.communicate(timeout=100)[0].startswith("this node is a manager of cluster bed"), every_log(bed)
    until(lambda: ready(m1) == 3, what=lambda: every_log(bed))
    m1.write(FILE)
    m1.compose("up", "-d")
    until(lambda: all(host.pids() for host in (m1, m2, m3)), what=lambda: every_log(bed))
    until(lambda: standing(m2).get("m2") == "Reachable", what=lambda: every_log(bed))
    m1.compose("node", "promote", "m3")
    until(lambda: of_three(m3) and of_three(m1), what=lambda: every_log(bed))
    until(lambda: members(m3) == ["m1", "m2", "m3"], what=lambda: every_log(bed))

    # the first one is switched off: the others go on, by themselves
    m1.freeze("manager", "member")
    until(lambda: "Leader" in (standing(m2).get("m2"), standing(m2).get("m3")), what=lambda: every_log(bed))
    m2.compose("node", "label", "m2", "still=writes")
    m1.thaw("manager", "member")
    until(lambda: of_three(m1), what=lambda: every_log(bed))

    # two of three gone: the third says so, and nothing stops; back again, all works
    for host in (m2, m3):
        host.freeze("manager", "member")
    words = "the cluster has lost its majority: 1 of 3 managers answer (m1; not m2, m3); nothing that runs is stopped"
    until(lambda: words in m1.cli("node", "ls").stderr, what=lambda: every_log(bed))
    assert all(host.pids() for host in (m1, m2, m3))
    for host in (m2, m3):
        host.thaw("manager", "member")
    until(lambda: of_three(m1), what=lambda: every_log(bed))

    for name in ("manager", "member"):
        os.kill(m2.daemons()[name], signal.SIGKILL)
    until(lambda: of_three(m2), what=lambda: every_log(bed))

    # one that breaks the majority stays, and so does the last one
    m2.freeze("manager", "member")
    until(lambda: standing(m1).get("m2") == "Unreachable", what=lambda: every_log(bed))
    refused = "without m3 the cluster would have 2 managers, of which 1 answer (not m2)"
    until(lambda: refused in m1.cli("node", "demote", "m3").stderr, what=lambda: every_log(bed))
    m2.thaw("manager", "member")
    until(lambda: of_three(m1), what=lambda: every_log(bed))
    m1.compose("node", "demote", "m2")
    until(lambda: not (m2.folder / "state" / "manager").exists(), what=lambda: every_log(bed))
    assert json.loads((m2.folder / "state" / "node" / "node.json").read_text())["role"] == "worker"
    assert "member" not in m2.daemons()
    m1.compose("node", "demote", "m3")
    until(lambda: standing(m1) == {"m1": "Leader", "m2": "", "m3": ""}, what=lambda: every_log(bed))
    done = m1.cli("node", "demote", "m1")
    assert done.returncode == 1
    assert "m1 is the only manager" in done.stderr
    m1.compose("node", "promote", "m2")
    until(lambda: standing(m1).get("m2") == "Reachable", what=lambda: every_log(bed))
    until(lambda: ready(m1) == 3 and all(host.pids() for host in (m1, m2, m3)), what=lambda: every_log(bed))
