"""A whole node: `pycompose up` through manager and worker to the kernel, and nothing left after `down`."""

from __future__ import annotations

import os
import signal
import sys

from node import residue
from node.whole import Node, until

FILE = """
services:
  web:
    image: test/busybox
    command: sh -c 'hostname > /tmp/index.html; trap "exit 0" TERM; httpd -p 80 -h /tmp; while :; do sleep 0.1; done'
    deploy: {replicas: 2}
    ports: ["18099:80"]
    networks: [front, back]
    secrets: [word]
    healthcheck: {test: "wget -qO- http://127.0.0.1/", interval: 200ms}
  client:
    image: test/busybox
    command: sh -c 'cat /run/secrets/word; getent hosts web && echo kept >> /data/file; sleep 1000'
    depends_on: {web: {condition: service_healthy}}
    networks: [back]
    secrets: [word]
    volumes: ["data:/data"]
networks: {front: {}, back: {internal: true}}
volumes: {data: {}}
secrets: {word: {environment: WORD}}
"""


def test_up_use_down(node: Node) -> None:
    empty = residue.take(node)
    node.write(FILE)
    node.compose("up", "-d", "--wait")
    before = node.containers()
    assert set(before) == {"node-web-1", "node-web-2", "node-client-1"}
    fetch = "import urllib.request; print(urllib.request.urlopen('http://127.0.0.1:18099/').read().decode().strip())"
    both = {node.run(sys.executable, "-c", fetch).stdout.strip() for _ in range(4)}
    assert len(both) == 2
    until(lambda: "secret word" in node.compose("logs", "client"))
    until(lambda: node.cli("exec", "-T", "client", "cat", "/data/file").stdout == "kept\n")

    node.compose("stop", "client")
    node.compose("start", "client")
    until(lambda: node.compose("exec", "-T", "client", "cat", "/data/file") == "kept\nkept\n")
    assert {name: item["ID"] for name, item in node.containers().items()} == {
        name: item["ID"] for name, item in before.items()
    }
    node.compose("up", "-d", "--scale", "web=3")
    assert len(node.containers()) == 4
    node.compose("down", "-v")
    until(lambda: not residue.left(empty, residue.take(node)), what=lambda: residue.left(empty, residue.take(node)))


def test_a_killed_daemon_finds_its_containers_again(node: Node) -> None:
    node.write(FILE)
    node.compose("up", "-d", "--wait")
    pids = node.pids()
    os.kill(node.daemons()["supervisor"], signal.SIGKILL)
    until(lambda: not node.daemons())
    node.compose("node", "start")
    until(lambda: len(node.containers()) == 3)
    assert node.pids() == pids
    until(lambda: node.cli("exec", "-T", "client", "cat", "/data/file").stdout == "kept\n")
    node.compose("down", "-v")
