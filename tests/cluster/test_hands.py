"""Hands on tasks of any node through any manager, and what becomes of a dead node's tasks."""

from __future__ import annotations

from pathlib import Path

from node.whole import IMAGE, until

from cluster.bed import laid
from cluster.provision import managers, spread

FILE = f"""
name: spread
services:
  web:
    image: {IMAGE}
    command: sh -c 'while :; do echo tick; sleep 1; done'
    pull_policy: never
    network_mode: none
    deploy:
      replicas: 3
      placement: {{max_replicas_per_node: 2}}
"""


def test_exec_and_logs_reach_every_node_and_a_dead_nodes_tasks_move(tmp_path: Path) -> None:
    with laid(tmp_path / "bed", ("m1", "m2", "m3")) as bed:
        hosts = list(bed.hosts.values())
        managers(bed, hosts)
        for host in hosts:
            host.start()
        first, second, third = hosts
        until(lambda: first.cli("node", "ls").stdout.lower().count("ready") == 3, what=first.log)
        spread(hosts, tmp_path)
        first.write(FILE)
        first.compose("up", "-d")
        until(lambda: all(host.pids() for host in hosts), what=lambda: first.compose("ps", "-a") + first.log())
        second.write(FILE)
        names = {second.exec("web", "hostname", index=number) for number in (1, 2, 3)}
        assert len(names) == 3
        until(lambda: second.cli("logs", "web").stdout.count("tick") >= 3)
        third.power_off()
        until(lambda: sum(len(host.pids()) for host in (first, second)) == 3, 120, what=first.log)
