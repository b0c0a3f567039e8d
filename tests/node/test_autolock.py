"""With autolock no file of a manager opens anything; one that was started waits for a person, and nothing stops."""

from __future__ import annotations

from pathlib import Path

from node.whole import CLI, Node, until

FILE = """
services:
  web: {image: test/busybox, command: sleep 1000, secrets: [word]}
secrets: {word: {environment: WORD}}
"""


#: By what etcd talks to others': what that opens is encrypted.
MEMBERS = ["etcd/tls/key.pem"]


def holding(folder: Path, *words: bytes) -> list[str]:
    """Files below a folder that have one of these bytes in them."""
    files = [path for path in folder.rglob("*") if path.is_file() and not path.is_symlink()]
    return sorted(str(path.relative_to(folder)) for path in files if any(word in path.read_bytes() for word in words))


def unlock(node: Node, key: str) -> tuple[int, str]:
    done = node.run("sh", "-c", 'echo "$1" | { shift; exec "$@"; }', "sh", key, *CLI, "cluster", "unlock")
    return done.returncode, done.stderr


def restarted(node: Node) -> None:
    """Kill the manager; return when the next one answers."""
    node.kill("manager")
    until(lambda: "no node answers" not in node.cli("ps").stderr, what=node.log)


def test_autolock(node: Node) -> None:
    manager = node.folder / "state" / "manager"
    node.write(FILE)
    node.compose("up", "-d", "--wait")
    data_key, pids = (manager / "key").read_bytes(), node.pids()
    node.compose("cluster", "init", "--advertise-addr", "127.0.0.1")
    assert holding(manager, b"PRIVATE KEY") != []
    plain = (data_key, data_key.hex().encode(), b"PRIVATE KEY")
    key = node.compose("cluster", "autolock", "on").strip()
    assert holding(manager, *plain, key.encode()) == MEMBERS
    assert holding(node.folder / "state", *plain[:2]) == []

    restarted(node)
    locked = node.cli("ps")
    assert (locked.returncode, locked.stdout) == (1, "")
    assert locked.stderr.startswith("error: this manager is locked, since it was started anew and autolock is on")
    assert locked.stderr.count("\n") == 1
    assert "this manager is locked" in node.cli("cluster", "status").stderr
    assert node.pids() == pids
    assert unlock(node, "PYCU1-" + "0" * 50) == (
        1,
        "error: this is not the unlock key; who set autolock has it: pycompose cluster unlock-key\n",
    )
    assert unlock(node, key)[0] == 0
    until(lambda: node.cli("exec", "-T", "web", "cat", "/run/secrets/word").stdout == "secret word\n", what=node.log)
    assert node.pids() == pids
    assert node.compose("cluster", "unlock-key", "-q").strip() == key
    # certificates that this machine's memory has lost are made anew
    assert holding(manager, *plain) == MEMBERS

    later = node.compose("cluster", "unlock-key", "--rotate", "-q").strip()
    restarted(node)
    assert unlock(node, key)[0] == 1
    # a reboot takes what is in memory
    for path in (node.folder / "run" / "manager-tls").iterdir():
        path.unlink()
    (node.folder / "run" / "manager-tls").rmdir()
    assert unlock(node, later)[0] == 0
    assert "certificate" in node.compose("cluster", "status")
    already = unlock(node, later)
    assert already == (1, "error: this manager is not locked\n")

    node.compose("cluster", "autolock", "off")
    assert (manager / "key").read_bytes() == data_key
    restarted(node)
    until(lambda: node.cli("ps").returncode == 0, what=node.log)
    assert holding(manager, b"PRIVATE KEY") != []
    assert node.pids() == pids
