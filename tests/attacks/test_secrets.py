"""Secrets, passwords of registries and join tokens, looked for wherever a node shows or writes something (G01, G03)."""

from __future__ import annotations

import base64
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from attacks.test_project import state
from node.whole import CLI, Node, container_processes, running, until

CANARY = "CANARY-5e7c1a"
VALUE = "VALUE-90d2bb"
PASSWORD = "PASSWORD-77af03"
FILE = f"""
name: keeping
x-idle: &idle {{image: test/busybox, command: sleep 100000, stop_signal: SIGKILL}}
services:
  keeper:
    <<: *idle
    secrets: [{{source: word, uid: "1000", mode: 0400}}]
    environment: [VALUE={VALUE}]
  other: {{<<: *idle}}
secrets: {{word: {{environment: WORD}}}}
"""


@pytest.fixture(scope="module")
def box(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    with running(tmp_path_factory.mktemp("secrets") / "node", {"WORD": CANARY}) as node:
        node.write(FILE)
        node.compose("up", "-d")
        yield node


def shown(box: Node) -> list[str]:
    """What each command that shows something prints."""
    identity = state(box, "keeper")["ID"]
    commands = [
        ("ps", "-a", "--format", "json"), ("config",), ("config", "--format", "json"), ("plan",), ("images",),
        ("container", "inspect", identity), ("secrets", "ls"), ("secrets", "inspect", "keeping_word"),
        ("logs",), ("node", "status", "--format", "json"), ("events", "--since", "1h", "--until", "0s"), ("ls", "-a"),
        ("top",), ("explain", identity), ("node", "ls"), ("cluster", "status", "--format", "json"),
    ]  # fmt: skip
    found = []
    for words in commands:
        done = box.cli(*words)
        assert "Traceback" not in done.stderr
        found.append(done.stdout + done.stderr)
    return found


def written(box: Node) -> list[bytes]:
    """The node's files and logs, and what the machine shows of its processes."""
    raw = [path.read_bytes() for path in (box.folder / "state").rglob("*") if path.is_file() and not path.is_symlink()]
    for pid in [*box.daemons().values(), *box.shims().values(), *container_processes(box)]:
        for name in ("environ", "cmdline"):
            try:
                raw.append(Path(f"/proc/{pid}/{name}").read_bytes())
            except OSError:
                continue
    # the daemons were started by a command line that has WORD in its environment: that is the test's own
    return [data.replace(b"WORD=" + CANARY.encode(), b"") for data in raw]


def seen(canary: str, texts: list[str], raw: list[bytes]) -> list[str]:
    """Where a canary is, as it is or in base64."""
    forms = [canary, base64.b64encode(canary.encode()).decode().rstrip("=")]
    found = [text for text in texts if any(form in text for form in forms)]
    return found + [repr(data[:200]) for data in raw if any(form.encode() in data for form in forms)]


@pytest.mark.attack("G01")
def test_a_secret_is_shown_and_written_nowhere(box: Node) -> None:
    """Every list, the events, the log at work and of a failing start, files, environments and command lines."""
    box.write(FILE.replace("name: keeping", "name: failing").replace("sleep 100000", "/no/such"), "failing.yaml")
    failed = box.cli("-f", "failing.yaml", "up", "-d", "keeper")
    assert failed.returncode != 0
    box.cli("-f", "failing.yaml", "down", "-v")
    texts = shown(box)
    assert sum(VALUE in text for text in texts) >= 2  # the twin: an environment is shown, as by Docker Compose
    assert not seen(CANARY, [failed.stdout + failed.stderr, *texts], written(box))


#: A registry that takes any password, has no image, and says back all that it was sent.
REGISTRY = """
import http.server
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        said = self.headers.get("Authorization", "")
        self.send_response(401 if not said else 200 if self.path == "/v2/" else 500)
        if not said:
            self.send_header("WWW-Authenticate", 'Basic realm="r"')
        text = ('{"errors": [{"code": "' + said + '", "message": "' + said + '"}]}').encode()
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)
    do_HEAD = do_GET
    def log_message(self, *words):
        pass
http.server.ThreadingHTTPServer(("127.0.0.1", 5099), Handler).serve_forever()
"""


@pytest.mark.attack("G01")
def test_a_registrys_password_is_shown_and_written_nowhere(box: Node) -> None:
    """A registry sends an account's password back in its errors: no message, log or file of the node has it."""
    registry = box.begin("python3", "-c", REGISTRY)
    box.write(PASSWORD, "password")
    box.write("name: p\nservices: {p: {image: '127.0.0.1:5099/a/b:1'}}", "private.yaml")
    login = f"{' '.join(CLI)} login -u joe --password-stdin 127.0.0.1:5099 < password"
    try:
        until(lambda: box.run("sh", "-c", f"DOCKER_CONFIG=account {login}").returncode == 0)
        texts = [
            (lambda done: done.stdout + done.stderr)(
                box.run("env", "DOCKER_CONFIG=account", *CLI, "-f", "private.yaml", *words)
            )
            for words in (("pull",), ("up", "-d"), ("--progress", "json", "pull"))
        ]
    finally:
        registry.kill()
        registry.communicate()
    assert PASSWORD_64 in (box.folder / "account/config.json").read_text()  # its twin: that is where it is kept
    assert "500" in texts[0]
    assert not seen(PASSWORD, [*texts, *shown(box)], written(box))
    assert not seen(f"joe:{PASSWORD}", texts, written(box))
    box.cli("-f", "private.yaml", "down")


PASSWORD_64 = base64.b64encode(f"joe:{PASSWORD}".encode()).decode()


@pytest.mark.attack("G01")
def test_a_join_token_is_shown_and_written_nowhere(box: Node) -> None:
    """After `cluster init`: the token is printed by `cluster token` alone, and what is stored is no token."""
    box.compose("cluster", "init", "--advertise-addr", "127.0.0.1")
    for role in ("worker", "manager"):
        printed = box.compose("cluster", "token", "--quiet", role).strip()
        secret = printed.partition("@")[0].rsplit("-", 1)[-1]
        assert len(secret) > 12
        refused = box.cli("node", "join", printed)
        assert refused.returncode != 0  # this node is a manager already
        assert not seen(secret, [refused.stdout + refused.stderr.replace(printed, ""), *shown(box)], written(box))


@pytest.mark.twin("G01", "G03")
def test_a_secret_is_there_to_be_read(box: Node) -> None:
    """By its own container, with its owner and mode; by no other."""
    assert box.exec("keeper", "cat", "/run/secrets/word") == CANARY
    assert box.exec("keeper", "stat", "-c", "%u %g %a", "/run/secrets/word").split() == ["1000", "0", "400"]
    assert box.cli("exec", "-T", "other", "ls", "/run/secrets").returncode != 0


@pytest.mark.attack("G03")
def test_a_secret_lies_in_memory_and_goes(box: Node) -> None:
    """On a file system that is never swapped, in no commit and export, read-only, and gone with its task."""
    kinds = [line for line in box.exec("keeper", "cat", "/proc/mounts").splitlines() if " /run/secrets/word " in line]
    assert len(kinds) == 1
    assert " ro," in kinds[0]
    assert "noswap" in kinds[0] or " ramfs " in kinds[0]
    assert box.cli("exec", "-T", "keeper", "sh", "-c", "echo x > /run/secrets/word").returncode != 0
    box.compose("export", "-o", "out.tar", "keeper")
    box.compose("commit", "keeper", "committed:1")
    box.compose("image", "save", "-o", "saved.tar", "committed:1")
    for name in ("out.tar", "saved.tar"):
        assert CANARY.encode() not in (box.folder / name).read_bytes()
    home = box.folder / "run" / "secrets"
    assert CANARY in box.run("grep", "-rhs", CANARY, str(home)).stdout
    shim = next(pid for each, pid in box.shims().items() if each.startswith(state(box, "keeper")["ID"]))
    os.kill(shim, signal.SIGKILL)
    until(lambda: state(box, "keeper")["State"] == "exited")
    box.compose("rm", "-sf", "keeper")
    until(lambda: not box.run("grep", "-rls", CANARY, str(home)).stdout)
