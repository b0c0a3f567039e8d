"""Each command on a terminal and off it, as text files: `pytest tests/transcripts --update` writes them anew."""

from __future__ import annotations

import difflib
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from node.whole import Node, running
from transcripts.normal import normal
from transcripts.play import Player
from transcripts.screen import Screen

HERE = Path(__file__).parent
FILES = sorted(HERE.glob("*.txt"))
PLACE = "/mnt"


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    """A node whose machine has a folder with a short path, the same in each run."""
    with running(tmp_path_factory.mktemp("transcripts") / "node") as found:
        assert found.run("mount", "-t", "tmpfs", "none", PLACE).returncode == 0
        yield found


def player(node: Node, name: str) -> Player:
    """A player whose commands run in /mnt/NAME on the node's machine."""
    files = Path(f"/proc/{node.machine.pid}/root{PLACE}/{name}")
    files.mkdir()
    programs = node.folder / "programs"
    programs.mkdir(exist_ok=True)
    link = programs / "docker-compose"
    link.unlink(missing_ok=True)
    link.symlink_to(Path(sys.executable).parent / "pycompose")
    keep = {key: value for key, value in node.environment().items() if key.startswith("PYCOMPOSE_")}
    environment = {
        **keep,
        "PATH": f"{Path(sys.executable).parent}:{programs}:{os.environ['PATH']}",
        "HOME": "/root",
        "LANG": "C.UTF-8",
        "TERM": "xterm",
    }
    own = node.on_machine()
    own[-1] = f"--wdns={PLACE}/{name}"
    replace = [(str(node.folder), "NODE"), (r"/tmp/[^ ]*/python[\d.]*", "PYTHON"), (sys.executable, "PYTHON")]
    return Player(own, files, environment, replace)


@pytest.mark.parametrize("file", FILES, ids=[file.stem for file in FILES])
def test_transcript(node: Node, file: Path, request: pytest.FixtureRequest) -> None:
    text = file.read_text()
    playing = player(node, file.stem)
    try:
        now = playing.play(text)
    finally:
        node.cli("-p", file.stem, "down", "-v", "-t", "0", "--remove-orphans", "-y")
    if request.config.getoption("--update"):
        file.write_text(now)
    diff = difflib.unified_diff(text.splitlines(), now.splitlines(), file.name, "now", lineterm="")
    assert now == text or request.config.getoption("--update"), "\n".join(diff)


def test_the_terminal_of_these_tests() -> None:
    screen = Screen(10, 3)
    screen.feed("0123456789ab\r\nsecond\r\n\x1b[1mthird\x1b[0m\r\n")
    assert screen.text() == ["0123456789", "ab", "second", "third", ""]
    screen.feed("\x1b[2A\r\x1b[Jx\ty\bz")
    assert screen.text() == ["0123456789", "ab", "x       z", "", ""]
    screen.feed("\x1b[3;2HQ\x1b[1;1H\x1b[K")
    assert screen.text() == ["0123456789", "ab", "", "", " Q"]


def test_what_differs_from_run_to_run_is_made_the_same() -> None:
    table = ["ID             CREATED         STATUS", "0123456789ab   2 seconds ago   Up 1 second (healthy)", "  ↳ why"]
    assert normal(table) == [
        "ID             CREATED        STATUS",
        "aaaaaaaaaaaa   a moment ago   Up a moment (healthy)",
        "  ↳ why",
    ]
    assert normal([" ⠙ Container a  Waiting  12.3s", "", "10.128.3.4 (pid 7)"]) == [
        " ~ Container a  Waiting  0.0s",
        "10.128.0.0 (pid N)",
    ]
