"""What a project takes from registries besides images, on a whole node with Debian's docker-registry."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from node.images import build, entry, sha, skopeo_on, tar, upload
from node.registry import DockerRegistry, docker_registry, with_password
from node.whole import Node, running

OPEN, CLOSED = "localhost:5000", "127.0.0.1:5001"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Node, DockerRegistry]]:
    """A node; on its machine a registry for everybody, and one with a password."""
    folder = tmp_path_factory.mktemp("remote")
    variables = {"DOCKER_CONFIG": str(folder / "docker"), "PYCOMPOSE_CONFIG_DIR": str(folder / "config")}
    variables["XDG_CACHE_HOME"] = str(folder / "cache")
    with running(folder / "node", variables) as node:
        on = tuple(node.on_machine())
        closed = with_password(folder / "closed")
        with (
            docker_registry(folder / "open", 5000, prefix=on, host="127.0.0.1") as registry,
            docker_registry(folder / "closed", 5001, prefix=on, **closed),
        ):
            yield node, registry


@pytest.fixture
def node(site: tuple[Node, DockerRegistry]) -> Iterator[Node]:
    yield site[0]
    site[0].cli("down", "-t", "0", "--remove-orphans")


def push(node: Node, name: str, mark: str) -> str:
    """Put a small image into the open registry from outside; returns its digest there."""
    with skopeo_on(node.on_machine()):
        upload(build([tar([entry("mark", data=mark.encode())])]), OPEN, name, node.folder)
    raw = node.run("skopeo", "inspect", "--raw", "--tls-verify=false", f"docker://{OPEN}/{name}").stdout
    assert json.loads(raw)["schemaVersion"] == 2
    return sha(raw.encode())


def test_config_pins_images_to_what_the_registry_has(node: Node) -> None:
    one, two = push(node, "team/web:1", "one"), push(node, "team/web:2", "two")
    node.write(f"services:\n  a: {{image: {OPEN}/team/web:1}}\n  b: {{image: {OPEN}/team/web:2, depends_on: [a]}}\n")
    assert node.compose("config", "--lock-image-digests") == (
        f"services:\n  a:\n    image: {OPEN}/team/web:1@{one}\n  b:\n    image: {OPEN}/team/web:2@{two}\n"
    )
    pinned = json.loads(node.compose("config", "--resolve-image-digests", "--format", "json"))
    assert pinned["services"]["b"]["image"] == f"{OPEN}/team/web:2@{two}"
    assert pinned["services"]["b"]["depends_on"]


def test_what_cannot_be_resolved_is_a_line_each(node: Node) -> None:
    push(node, "team/web:1", "one")
    node.write(
        f"""services:
  fine: {{image: "{OPEN}/team/web:1"}}
  tag: {{image: "{OPEN}/team/web:none"}}
  host: {{image: "localhost:5999/web"}}
  account: {{image: "{CLOSED}/web"}}
"""
    )
    done = node.cli("config", "--lock-image-digests", "-o", "lock.yaml")
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert f"compose.yaml:3:9: services.tag.image: {OPEN}/team/web:none cannot be resolved: " in done.stderr
    assert "compose.yaml:4:10: services.host.image: localhost:5999/web cannot be resolved: nothing" in done.stderr
    assert f"services.account.image: {CLOSED}/web cannot be resolved: {CLOSED} wants a name" in done.stderr
    assert "services.fine" not in done.stderr
    assert not (node.folder / "lock.yaml").exists()
