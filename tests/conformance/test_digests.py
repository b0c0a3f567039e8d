"""`config --resolve-image-digests` and `--lock-image-digests` beside Docker Compose's own, byte for byte."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
from conformance.daemon import UNKNOWN, daemon, digest_of
from conformance.peer import binary, outcome, run_ours, start_peer

from pycompose.compose.cli import digests
from pycompose.compose.cli.settings import Settings
from pycompose.compose.client import ClientError
from pycompose.proto.v1 import image_pb2

DIGEST = "sha256:" + "ab" * 32
FILE = f"""
x-top: {{b: 1, a: 2}}
services:
  plain: {{image: web, environment: {{PRICE: "$$5"}}, x-own: 1}}
  port: {{image: "localhost:5000/team/web:1.2", depends_on: [plain]}}
  held: {{image: "redis:7@{DIGEST}"}}
  named: {{image: "docker.io/library/redis"}}
  index: {{image: "index.docker.io/org/tool:v1", profiles: [extra]}}
  twice: {{image: web}}
  built: {{build: .}}
  both: {{build: ., image: "registry.example/both", volumes: ["data:/d"]}}
volumes: {{data: }}
"""
FLAGS = [
    ["--resolve-image-digests"],
    ["--lock-image-digests"],
    ["--resolve-image-digests", "--lock-image-digests", "port"],
    ["--lock-image-digests", "--no-consistency", "--no-normalize"],
    ["--lock-image-digests", "--no-interpolate"],
    ["--resolve-image-digests", "--no-interpolate", "--no-normalize", "--no-path-resolution"],
    ["--lock-image-digests", "--quiet"],
    ["--lock-image-digests", "--hash", "plain"],
]


def answer(client: Any, request: image_pb2.ResolveImageRequest) -> str | ClientError:
    """Answer as the daemon of the peer does."""
    if UNKNOWN in request.reference:
        return ClientError("the registry has no such tag")
    return digest_of(request.reference)


@pytest.fixture
def peers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """A project's folder, a node that answers as the daemon does, and the environment of both programs."""
    if binary() is None:
        pytest.skip("Docker Compose's binary is not installed")
    monkeypatch.setattr(digests, "_ask", answer)
    monkeypatch.setattr(Settings, "client", lambda self: nullcontext())
    (tmp_path / "compose.yaml").write_text(FILE)
    return {"HOME": str(tmp_path), "PATH": "/usr/bin:/bin", "DOCKER_CONFIG": str(tmp_path)}


@pytest.mark.parametrize("form", ["yaml", "json"])
@pytest.mark.parametrize("flags", FLAGS, ids=" ".join)
def test_both_print_the_same(peers: dict[str, str], tmp_path: Path, flags: list[str], form: str) -> None:
    words = ["config", "--format", form, *flags]
    with daemon(tmp_path) as host:
        theirs = outcome(start_peer(words, str(tmp_path), {**peers, "DOCKER_HOST": host}))
    ours = run_ours(words, str(tmp_path), peers)
    assert theirs.status == 0, theirs.err
    assert (ours.status, ours.out) == (0, theirs.out), ours.err


def test_both_write_the_same_file(peers: dict[str, str], tmp_path: Path) -> None:
    words = ["config", "--lock-image-digests", "-o"]
    with daemon(tmp_path) as host:
        theirs = outcome(start_peer([*words, "theirs"], str(tmp_path), {**peers, "DOCKER_HOST": host}))
    ours = run_ours([*words, "ours"], str(tmp_path), peers)
    assert (ours.status, ours.out) == (theirs.status, theirs.out) == (0, "")
    assert (tmp_path / "ours").read_text() == (tmp_path / "theirs").read_text()
    # what was written is an override file that pins the same project
    again = run_ours(["-f", "compose.yaml", "-f", "ours", "config", "--images"], str(tmp_path), peers)
    assert f"docker.io/library/web:latest@{digest_of('docker.io/library/web:latest')}" in again.out.splitlines()


@pytest.mark.parametrize("image", [UNKNOWN, "Web", "web:a b", "web@sha256:12", "http://web", "f" * 64])
def test_both_refuse(peers: dict[str, str], tmp_path: Path, image: str) -> None:
    (tmp_path / "compose.yaml").write_text(f'services:\n  a: {{image: "{image}"}}\n  b: {{image: "{image}"}}\n')
    words = ["config", "--lock-image-digests", "-o", "out"]
    with daemon(tmp_path) as host:
        theirs = outcome(start_peer(words, str(tmp_path), {**peers, "DOCKER_HOST": host}))
    ours = run_ours(words, str(tmp_path), peers)
    assert (ours.status, theirs.status) == (1, 1)
    assert not (tmp_path / "out").exists()
    # both services, each with its place
    for place in ("compose.yaml:2:7: services.a.image: ", "compose.yaml:3:7: services.b.image: "):
        assert ours.err.count(place) == 1


def test_variables_have_no_values_without_interpolation(peers: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "compose.yaml").write_text('services: {a: {image: "web:${TAG:-1}"}}')
    ours = run_ours(["config", "--lock-image-digests", "--no-interpolate"], str(tmp_path), peers)
    assert ours.status == 1
    assert "leave --no-interpolate out" in ours.err
