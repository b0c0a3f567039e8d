"""A node becomes a cluster, and a client of another machine works with it over mutual TLS."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from node.whole import CLI, Node, running, until

FILE = """
name: far
services:
  web: {image: test/busybox, command: sh -c 'echo ready; while :; do sleep 0.2; done', stop_signal: SIGKILL}
"""


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    """A node that is the manager of a cluster."""
    with running(tmp_path_factory.mktemp("remote") / "node") as found:
        done = found.cli("cluster", "init", "--advertise-addr", "127.0.0.1", "--name", "lab")
        assert done.returncode == 0, done.stderr
        assert "127.0.0.1:7420" in done.stderr
        yield found


class Laptop:
    """A user with settings of their own, who reaches the node by TCP alone."""

    def __init__(self, node: Node, folder: Path) -> None:
        self.node, self.folder = node, folder
        folder.mkdir()

    def cli(self, *words: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
        """Run pycompose there."""
        variables = os.environ | {
            "XDG_CONFIG_HOME": str(self.folder / "settings"),
            "PYCOMPOSE_RUN_DIR": str(self.folder / "no-node-here"),
            "PYCOMPOSE_STATE_DIR": str(self.folder / "no-state-here"),
        }
        command = self.node.on_machine("env", "-C", str(self.folder), *CLI, *words)
        return subprocess.run(command, env=variables, capture_output=True, text=True, timeout=100, input=stdin)

    def compose(self, *words: str, stdin: str = "") -> str:
        """Run pycompose there; it must succeed."""
        done = self.cli(*words, stdin=stdin)
        assert done.returncode == 0, done.stderr + self.node.log()
        return done.stdout


@pytest.fixture(scope="module")
def laptop(node: Node, tmp_path_factory: pytest.TempPathFactory) -> Laptop:
    """It has a context of the cluster."""
    made = Laptop(node, tmp_path_factory.mktemp("laptop") / "home")
    variables = {"XDG_CONFIG_HOME": str(node.folder / "settings")}
    node.variables |= variables
    node.compose("context", "create", "lab", "--from-node")
    node.compose("context", "export", "lab", str(made.folder / "lab.pycontext"))
    made.compose("context", "import", "lab", str(made.folder / "lab.pycontext"))
    made.compose("context", "use", "lab")
    return made


def test_a_project_is_run_from_the_laptop(node: Node, laptop: Laptop) -> None:
    (laptop.folder / "compose.yaml").write_text(FILE)
    laptop.compose("up", "-d", "--wait")
    try:
        listed = json.loads(laptop.compose("ps", "--format", "json"))
        assert [one["Name"] for one in (listed if isinstance(listed, list) else [listed])] == ["far-web-1"]
        assert laptop.compose("exec", "-T", "web", "sh", "-c", "read line; echo got $line", stdin="it\n") == "got it\n"
        assert "ready" in laptop.compose("logs", "web")
        assert "far-web-1" in node.compose("-p", "far", "ps")
    finally:
        laptop.compose("down")


def test_the_manager_started_anew_is_reached_again(node: Node, laptop: Laptop) -> None:
    before = laptop.compose("cluster", "status")
    os.kill(node.daemons()["manager"], 9)
    until(lambda: laptop.cli("cluster", "status").returncode == 0, what=node.log)
    assert laptop.compose("cluster", "status").splitlines()[:2] == before.splitlines()[:2]
    assert before.startswith("cluster      lab (")
    assert "nodes        1 of 1 ready" in before


def test_who_has_no_certificate_of_the_cluster_stays_outside(node: Node, laptop: Laptop, tmp_path: Path) -> None:
    stranger = Laptop(node, tmp_path / "stranger")
    done = stranger.cli("-H", "127.0.0.1:7420", "ps", "-a")
    assert done.returncode == 1
    assert "certificate" in done.stderr
    own = tmp_path / "own"
    own.mkdir()
    subject = ["-subj", "/CN=me/OU=client/O=c"]
    making = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"]
    subprocess.run([*making, *subject, "-keyout", own / "key.pem", "-out", own / "cert.pem"], check=True, stderr=-3)
    authority = laptop.folder / "settings" / "pycompose" / "contexts" / "lab" / "ca.pem"
    files = ["--cert", str(own / "cert.pem"), "--key", str(own / "key.pem"), "--ca", str(authority)]
    stranger.compose("context", "create", "forged", "--endpoint", "127.0.0.1:7420", *files)
    done = stranger.cli("-c", "forged", "ps", "-a")
    assert done.returncode == 1
    assert "Traceback" not in done.stderr


def test_a_cluster_is_made_once_and_its_key_lies_encrypted(node: Node) -> None:
    done = node.cli("cluster", "init", "--advertise-addr", "127.0.0.1")
    assert done.returncode == 1
    assert "manager of cluster lab already" in done.stderr
    stored = b"".join(path.read_bytes() for path in (node.folder / "state" / "manager" / "etcd" / "data").rglob("*.*"))
    assert b"PRIVATE KEY" not in stored
    assert oct((node.folder / "state" / "manager" / "tls" / "key.pem").stat().st_mode & 0o777) == "0o600"
    shown = node.compose("cluster", "status", "--format", "json")
    assert "PRIVATE" not in shown


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--advertise-addr", "0.0.0.0"), "no machine's"),
        (("--advertise-addr", "a b"), "no IP address or host name"),
        (("--advertise-addr", "127.0.0.9", "--listen-addr", "127.0.0.1"), "does not reach itself at 127.0.0.9:7420"),
        (("--advertise-addr", "192.0.2.1"), "does not reach itself at 192.0.2.1:7420"),
        (("--advertise-addr", "nowhere.invalid"), "does not reach itself at nowhere.invalid:7420"),
        (("--advertise-addr", "127.0.0.1", "--listen-addr", "here"), "is no IP address"),
        (("--advertise-addr", "127.0.0.1", "--listen-addr", "192.0.2.1"), "nothing can listen on 192.0.2.1:7420"),
        (("--advertise-addr", "127.0.0.1", "--port", "7999"), "in use"),
    ],
)
def test_what_cannot_be_is_told_and_leaves_a_single_node(
    words: tuple[str, ...], told: str, single: Node, taken: None
) -> None:
    done = single.cli("cluster", "init", *words)
    assert done.returncode == 1
    assert told in done.stderr
    assert "this node is of no cluster" in single.cli("cluster", "status").stderr
    done = single.cli("context", "create", "early", "--from-node")
    assert "this node is of no cluster; pycompose cluster init" in done.stderr


@pytest.fixture(scope="module")
def single(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    """A node that is of no cluster."""
    with running(tmp_path_factory.mktemp("single") / "node") as found:
        found.variables["XDG_CONFIG_HOME"] = str(found.folder / "settings")
        yield found


@pytest.fixture
def taken(single: Node) -> Iterator[None]:
    """Another program listens on port 7999 there."""
    program = "import socket,time; s=socket.create_server(('0.0.0.0',7999)); print(1,flush=True); time.sleep(1000)"
    with single.begin("python3", "-c", program) as other:
        assert other.stdout is not None
        other.stdout.readline()
        yield
        other.kill()
