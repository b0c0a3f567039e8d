"""A backup of a cluster of one brings its projects up on another machine."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from node.whole import CLI, IMAGE, Node, running, until

FILE = """
services:
  web:
    image: test/busybox
    command: sh -c 'cat /run/secrets/word > /tmp/index.html; httpd -f -p 80 -h /tmp'
    deploy: {replicas: 2}
    secrets: [word]
    volumes: ["data:/data"]
    healthcheck: {test: "wget -qO- http://127.0.0.1/", interval: 200ms}
  client:
    image: test/busybox
    command: sleep 1000
    depends_on: {web: {condition: service_healthy}}
  resting:
    image: test/busybox
    command: sleep 1000
  done:
    image: test/busybox
    command: sh -c 'echo ran'
volumes: {data: {}}
secrets: {word: {environment: WORD}}
"""
WORDS = ("--passphrase-file", "passphrase")


def states(node: Node) -> dict[str, str]:
    return {name: item["State"] for name, item in node.containers("-p", "node").items()}


WANTED = {
    "node-web-1": "running",
    "node-web-2": "running",
    "node-client-1": "running",
    "node-resting-1": "exited",
    "node-done-1": "exited",
}


def test_projects_come_up_on_another_machine(node: Node, tmp_path: Path) -> None:
    node.write(FILE)
    node.write("correct horse\n", "passphrase")
    node.compose("up", "-d", "--wait", "web", "client", "resting")
    node.compose("up", "-d", "done")
    node.compose("stop", "resting")
    node.compose("cluster", "init", "--advertise-addr", "127.0.0.1", "--name", "lab")
    until(lambda: states(node) == WANTED, what=lambda: states(node))
    before = node.containers("-p", "node")
    node.compose("cluster", "backup", *WORDS, "backup")
    node.compose("image", "save", "-o", "image.tar", IMAGE)
    file = node.folder / "backup"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert b"secret word" not in file.read_bytes()
    assert not [name for name in os.listdir(node.folder) if name.startswith(".backup")]
    refused = node.cli("cluster", "restore", *WORDS, "--advertise-addr", "127.0.0.1", "backup")
    assert refused.returncode == 1
    assert "this node has projects (node)" in refused.stderr
    with running(tmp_path / "second") as second:
        (second.folder / "backup").write_bytes(file.read_bytes()[:-10])
        second.write("correct horse\n", "passphrase")
        second.write("battery staple\n", "wrong")
        cut = second.cli("cluster", "restore", *WORDS, "--advertise-addr", "127.0.0.1", "backup")
        assert (cut.returncode, cut.stdout) == (1, "")
        assert cut.stderr.startswith("error: backup: the backup was cut off, after ")
        assert cut.stderr.count("\n") == 1
        (second.folder / "backup").write_bytes(file.read_bytes())
        wrong = second.cli("cluster", "restore", "--passphrase-file", "wrong", "backup")
        assert wrong.returncode == 1
        assert "cannot be opened with this passphrase; nothing was changed" in wrong.stderr
        # what was made on the other machine is in no registry
        second.compose("image", "load", "-i", str(node.folder / "image.tar"))
        told = second.cli("cluster", "restore", *WORDS, "--advertise-addr", "127.0.0.1", "backup")
        assert told.returncode == 0, told.stderr
        assert "cluster lab is as it was at " in told.stderr
        until(lambda: states(second) == WANTED, what=lambda: (states(second), second.log()))
        after = second.containers("-p", "node")
        assert {name: item["ID"] for name, item in after.items()} == {name: item["ID"] for name, item in before.items()}
        until(lambda: second.cli("-p", "node", "exec", "-T", "client", "wget", "-qO-", "web").stdout == "secret word\n")
        assert "lab" in second.compose("cluster", "status")
        assert [line.split()[2] for line in second.compose("node", "ls").splitlines()[1:]] == ["Ready"]
        second.compose("-p", "node", "down", "-v")


def test_a_single_node_keeps_a_backup_for_itself(node: Node) -> None:
    """Without keys, through standard output and input; what is newer than the backup goes by force alone."""
    node.write(FILE)
    node.compose("up", "-d", "--wait", "web", "client")
    pids = node.pids()
    made = node.run("sh", "-c", 'exec "$@" > backup', "sh", *CLI, "cluster", "backup", "--without-keys", "-")
    assert made.returncode == 0, made.stderr
    node.compose("up", "-d", "--wait", "resting")
    back = node.run("sh", "-c", 'exec "$@" < backup', "sh", *CLI, "cluster", "restore", "--force", "-")
    assert back.returncode == 0, back.stderr
    until(lambda: set(states(node)) == {"node-web-1", "node-web-2", "node-client-1"}, what=lambda: states(node))
    until(lambda: set(states(node).values()) == {"running"})
    assert node.pids() == pids
    node.compose("down", "-v")
