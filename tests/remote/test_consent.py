"""What is shown and asked before services of remote files start; on a terminal, and off it."""

from __future__ import annotations

import os
import pty
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from remote.serving import Site, serving

from pycompose.compose.cli.consent import demands
from pycompose.compose.loader import Fetched, MemoryFiles, load

pytestmark = pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")
NOBODY = "127.0.0.1:1"
"""A node's address where nothing listens; unlike for a socket, none is started there."""
PLAIN = 'services: {web: {image: "x:${TAG:-1}", environment: [API_TOKEN, MODE]}}\n'
BOLD = """services:
  web:
    image: x
    privileged: true
    pid: host
    cap_add: [NET_ADMIN]
    devices: [/dev/fuse]
    security_opt: ["seccomp:unconfined", "no-new-privileges:true"]
"""


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    """A server of repositories."""
    with serving(tmp_path / "site") as found:
        yield found


def up(here: Path, *words: str, answer: str | None = None, **more: str) -> tuple[int, str]:
    """Run `up -d` where no node can be started: on a terminal that answers, or off it; return status and output.

    What begins after the question ends with a message about the node.
    """
    command = [sys.executable, "-m", "pycompose.compose.cli.main", "-H", NOBODY, *words]
    environment = {**os.environ, "HOME": str(here), "XDG_CACHE_HOME": str(here / "cache"), "COLUMNS": "200", **more}
    environment |= {"PYCOMPOSE_STATE_DIR": str(here / "state"), "PYCOMPOSE_RUN_DIR": str(here / "run")}
    here.mkdir(exist_ok=True)
    if answer is None:
        done = subprocess.run(
            command, cwd=here, env=environment, capture_output=True, text=True, stdin=subprocess.DEVNULL
        )
        return done.returncode, done.stdout + done.stderr
    ours, theirs = pty.openpty()
    with subprocess.Popen(command, cwd=here, env=environment, stdin=theirs, stdout=theirs, stderr=theirs) as process:
        os.close(theirs)
        os.write(ours, answer.encode() + b"\n")
        said = b""
        while True:
            try:
                piece = os.read(ours, 1 << 16)
            except OSError:
                break
            if not piece:
                break
            said += piece
        status = process.wait(timeout=60)
    os.close(ours)
    return status, said.decode().replace("\r\n", "\n")


def node_is_next(said: str) -> bool:
    """Return whether the command went on to look for a node."""
    return f"cannot reach {NOBODY}" in said


def test_a_terminal_is_asked_once_for_the_same(site: Site, tmp_path: Path) -> None:
    here = tmp_path / "here"
    commit = site.commit("app", {"compose.yaml": PLAIN})
    url = f"{site.url}/app.git"
    words = ["-f", url, "up", "-d"]
    status, said = up(here, *words, answer="n", API_TOKEN="hunter22", MODE="fast")
    assert status == 1
    assert f"This project has files from elsewhere:\n  {url}#{commit}\n" in said
    assert "nothing was done" in said
    assert "hunter22" not in said
    rows = [line.split() for line in said.splitlines()]
    assert ["API_TOKEN", "***", "the", "environment"] in rows
    assert ["MODE", "fast", "the", "environment"] in rows
    assert ["TAG", "1", "default", "in", "the", "file"] in rows
    assert not node_is_next(said)
    _, said = up(here, *words, answer="y")
    assert "Run it?" in said
    assert node_is_next(said)
    _, said = up(here, *words, answer="")
    assert "Run it?" not in said
    assert node_is_next(said)
    site.commit("app", {"compose.yaml": PLAIN + "# new\n"})
    status, said = up(here, *words, answer="")
    assert "Run it?" in said
    assert status == 1


def test_scripts_are_asked_only_for_what_is_special(site: Site, tmp_path: Path) -> None:
    here = tmp_path / "here"
    site.commit("app", {"compose.yaml": PLAIN})
    site.commit("bold", {"compose.yaml": BOLD})
    _, said = up(here, "-f", f"{site.url}/app.git", "up", "-d")
    assert node_is_next(said)
    for words in (["up", "-d"], ["create"], ["run", "web"]):
        status, said = up(here, "-f", f"{site.url}/bold.git", *words)
        assert status == 1
        assert not node_is_next(said)
        assert "They ask for more than a container of their own:" in said
        for line in (
            "compose.yaml:4:5: services.web.privileged: all of the machine",
            "compose.yaml:5:5: services.web.pid: the machine's own",
            "compose.yaml:6:15: services.web.cap_add: NET_ADMIN",
            "compose.yaml:7:15: services.web.devices: /dev/fuse",
            "compose.yaml:8:20: services.web.security_opt: seccomp:unconfined",
        ):
            assert line in said
        assert "there is no terminal to ask on whether that is wanted; --trust-remote says so" in said
    for words in (["up", "-d", "-y"], ["create", "--yes"]):
        assert node_is_next(up(here, "-f", f"{site.url}/bold.git", *words)[1])
    assert node_is_next(up(here, "--trust-remote", "-f", f"{site.url}/bold.git", "run", "web")[1])


def test_only_what_remote_files_write_counts() -> None:
    root = "/cache/1/files"

    def fetch(written: str) -> Fetched:
        return Fetched(written, f"{written}#1", root, f"{root}/compose.yaml")

    local = """include: [{path: [https://h.example/a.git, over.yaml]}]
services:
  own: {image: x, privileged: true, cap_add: [SYS_ADMIN]}
  ext: {extends: {file: https://h.example/a.git, service: base}, cap_add: [SYS_TIME]}
"""
    files = {
        "/p/compose.yaml": local,
        "/p/over.yaml": "services: {web: {privileged: true, cap_add: [SYS_PTRACE]}}",
        f"{root}/compose.yaml": (
            "services: {web: {image: x, cap_add: [NET_ADMIN]}, base: {image: x, cap_add: [NET_RAW], pid: host}}"
        ),
    }
    project = load(["/p/compose.yaml"], environment={}, files=MemoryFiles(files), fetch=fetch)
    told = [line.partition(": ")[2] for line in demands(project)]
    assert sorted(told) == [
        "services.base.cap_add: NET_RAW",
        "services.base.pid: the machine's own",
        "services.ext.cap_add: NET_RAW",
        "services.ext.pid: the machine's own",
        "services.web.cap_add: NET_ADMIN",
    ]
