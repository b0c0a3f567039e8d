"""What a project takes from registries besides images, on a whole node with Debian's docker-registry."""

from __future__ import annotations

import base64
import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from conformance.peer import binary
from node.images import build, entry, sha, skopeo_on, tar, upload
from node.registry import DockerRegistry, docker_registry, with_password
from node.whole import CLI, Node, running

PROJECT = "application/vnd.docker.compose.project"
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


APP = {
    "compose.yaml": f"""# published with its comments
services:
  web:
    image: {OPEN}/team/web:1   # kept
    env_file:
      - path: conf/web.env
        required: true
      - ./gone.env
    volumes: ["./data:/d"]
  ext: {{extends: {{file: lib/base.yaml, service: base}}}}
""",
    "over.yaml": "services: {web: {labels: {over: '1'}}}\n",
    "lib/base.yaml": "services: {base: {extends: {file: deep/low.yaml, service: low}, env_file: base.env}}\n",
    "lib/deep/low.yaml": f"services: {{low: {{image: '{OPEN}/team/web:1', environment: {{LOW: '1'}}}}}}\n",
    "lib/base.env": "BASE=1\n",
    "conf/web.env": "MODE=production\n",
    "gone.env": "",
}


def publish(node: Node, name: str, *flags: str, files: dict[str, str] = APP) -> str:
    """Write a project's files and publish them; returns what is printed."""
    for path, text in files.items():
        (node.folder / path).parent.mkdir(parents=True, exist_ok=True)
        (node.folder / path).write_text(text)
    named = [word for path in files if path in ("compose.yaml", "over.yaml") for word in ("-f", path)]
    return node.compose(*named, "publish", *flags, name)


def services(node: Node, *flags: str) -> dict[str, Any]:
    """Return what a project's services are, loaded in a folder where there is nothing else."""
    empty = node.folder / "empty"
    empty.mkdir(exist_ok=True)
    found = node.compose(*flags, "--project-directory", str(empty), "config", "--format", "json")
    loaded: dict[str, Any] = json.loads(found)["services"]
    return loaded


def peer(node: Node, *words: str) -> subprocess.CompletedProcess[str]:
    """Run Docker Compose's binary."""
    return node.run("env", "--chdir", str(node.folder), "__TEST__INSECURE__REGISTRY__=1", str(binary()), *words)


@pytest.mark.parametrize("version", ["", "1.0", "1.1"])
def test_what_is_published_is_read_back(node: Node, version: str) -> None:
    push(node, "team/web:1", "one")
    said = publish(node, f"{OPEN}/team/app{version}:1", "-y", "--with-env", "--oci-version", version)
    digest = said.strip().partition("@")[2]
    assert said == f"{OPEN}/team/app{version}:1@{digest}\n"
    found = services(node, "-f", f"oci://{OPEN}/team/app{version}:1")
    assert found["web"]["environment"] == {"MODE": "production"}
    assert found["web"]["labels"] == {"over": "1"}
    assert found["ext"]["environment"] == {"BASE": "1", "LOW": "1"}
    folder = Path(found["web"]["volumes"][0]["source"]).parent
    assert folder.parent.name == digest.replace(":", "-")
    text = (folder / "compose.yaml").read_text()
    assert text.startswith("# published with its comments\n")
    assert "# kept" in text
    assert services(node, "-f", f"oci://{OPEN}/team/app{version}@{digest}") == found
    (node.folder / "includes.yaml").write_text(f"include: ['oci://{OPEN}/team/app{version}:1']")
    assert services(node, "-f", "includes.yaml") == found
    raw = node.run("skopeo", "inspect", "--raw", "--tls-verify=false", f"docker://{OPEN}/team/app{version}:1").stdout
    manifest = json.loads(raw)
    assert ("artifactType" in manifest) == (version != "1.0")
    kinds = [one["mediaType"].rpartition(".")[2] for one in manifest["layers"]]
    assert kinds == ["file+yaml"] * 4 + ["envfile"] * 3


def test_docker_compose_reads_what_is_published(node: Node) -> None:
    if binary() is None:
        pytest.skip("Docker Compose's binary is not installed")
    publish(node, f"{OPEN}/team/both:1", "-y", "--with-env")
    ours = services(node, "-f", f"oci://{OPEN}/team/both:1")
    words = ["-f", f"oci://{OPEN}/team/both:1", "--project-directory", str(node.folder / "empty"), "config"]
    done = peer(node, *words, "--format", "json")
    assert done.returncode == 0, done.stderr
    theirs = json.loads(done.stdout)["services"]
    for found in (ours, theirs):
        found["web"]["volumes"][0]["source"] = Path(found["web"]["volumes"][0]["source"]).name
    assert ours == theirs


def test_docker_composes_own_are_read(node: Node) -> None:
    if binary() is None:
        pytest.skip("Docker Compose's binary is not installed")
    files = {"compose.yaml": f"services: {{web: {{image: '{OPEN}/team/web:1', environment: {{A: '1'}}}}}}\n"}
    push(node, "team/web:1", "one")
    node.write(files["compose.yaml"])
    words = ["publish", "-y", "--with-env", f"{OPEN}/team/theirs:1"]
    done = peer(node, *words)
    if done.returncode != 0:
        pytest.skip(f"it needs a daemon for that: {done.stderr}")
    assert services(node, "-f", f"oci://{OPEN}/team/theirs:1")["web"]["environment"] == {"A": "1"}


def test_digests_and_images_go_along(node: Node, site: tuple[Node, DockerRegistry]) -> None:
    one = push(node, "team/web:1", "one")
    files = {"compose.yaml": f"services: {{web: {{image: '{OPEN}/team/web:1'}}}}\n"}
    publish(node, f"{OPEN}/apps/pinned:1", "--resolve-image-digests", "-y", files=files)
    assert services(node, "-f", f"oci://{OPEN}/apps/pinned:1")["web"]["image"] == f"{OPEN}/team/web:1@{one}"
    publish(node, f"{OPEN}/apps/whole:1", "--app", "-y", files=files)
    assert services(node, "-f", f"oci://{OPEN}/apps/whole:1")["web"]["image"] == f"{OPEN}/team/web:1@{one}"
    copied = node.run("skopeo", "inspect", "--raw", "--tls-verify=false", f"docker://{OPEN}/apps/whole@{one}")
    assert sha(copied.stdout.encode()) == one
    indexes = list((site[1].storage / "docker/registry/v2/repositories/apps/whole/_manifests/revisions").rglob("link"))
    assert len(indexes) == 3  # the project, the image, and the index of images


def test_what_is_not_published(node: Node) -> None:
    name = f"{OPEN}/team/refused:1"
    rows = {
        "services: {a: {build: .}}": "services.a.build: it has no image that others could pull",
        "include: [lib/base.yaml]\nservices: {a: {image: x}}": "include: lib/base.yaml is a file of this machine",
        "services: {a: {image: x, environment: {K: v}}}": "services.a.environment: K",
        "services: {a: {image: x, env_file: conf/web.env}}": "services.a.env_file: MODE",
        "services: {a: {image: x, volumes: ['/srv:/s']}}": "services.a.volumes[0]: /srv",
        "services: {a: {image: x, command: 'AKIAABCDEFGHIJKLMNOP'}}": "compose.yaml:1: services: AWS access key",
        "services:\n  a:\n    image: x\n    labels:\n      db_password: hunter22": "yaml:5: db_password: password",
    }
    for text, words in rows.items():
        node.write(text)
        done = node.cli("publish", name)
        assert done.returncode == 1, text
        assert words in done.stderr
        assert "hunter22" not in done.stderr
        assert "Traceback" not in done.stderr
    for wrong in (f"{OPEN}/team/x@sha256:{'1' * 64}", "Team/X"):
        assert node.cli("publish", wrong).returncode == 2
    node.write("services: {a: {image: x}}")
    assert node.cli("publish", "--oci-version", "2.0", name).returncode == 2
    assert "nothing listens" in node.cli("publish", "localhost:5999/team/x:1").stderr
    assert "wants a name and a password" in node.cli("publish", f"{CLOSED}/team/x:1").stderr
    assert node.cli("-f", f"oci://{name}", "config").returncode == 1
    node.compose("--dry-run", "publish", name)
    assert node.cli("-f", f"oci://{name}", "config").returncode == 1


def upload_artifact(node: Node, name: str, layers: list[tuple[str, bytes, dict[str, str]]], **more: Any) -> None:
    """Put any artifact into the open registry, by HTTP."""
    config = b"{}"
    described = [
        {"mediaType": kind, "digest": sha(data), "size": len(data), "annotations": notes}
        for kind, data, notes in layers
    ]
    manifest = {
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "artifactType": PROJECT,
        "config": {"mediaType": "application/vnd.oci.empty.v1+json", "digest": sha(config), "size": 2},
        "layers": described,
        **more,
    }
    blobs = {sha(data): base64.b64encode(data).decode() for data in (config, *(data for _, data, _ in layers))}
    program = """
import base64, json, sys, urllib.request
blobs, manifest, repository, tag = json.load(sys.stdin)
base = f"http://127.0.0.1:5000/v2/{repository}"
def send(method, url, data, kind="application/octet-stream"):
    request = urllib.request.Request(url, data, {"Content-Type": kind}, method=method)
    return urllib.request.urlopen(request)
for digest, data in blobs.items():
    place = send("POST", base + "/blobs/uploads/", b"").headers["Location"]
    send("PUT", f"{place}&digest={digest}", base64.b64decode(data))
send("PUT", f"{base}/manifests/{tag}", json.dumps(manifest).encode(), manifest["mediaType"])
"""
    repository, _, tag = name.partition(":")
    command = node.on_machine("python3", "-c", program)
    text = json.dumps([blobs, manifest, repository, tag])
    subprocess.run(command, input=text, text=True, check=True, timeout=60)


FILE, ENV = "application/vnd.docker.compose.file+yaml", "application/vnd.docker.compose.envfile"
WEB = b"services: {web: {image: x}}"


def test_artifacts_that_are_not_taken(node: Node) -> None:
    main = (FILE, WEB, {"com.docker.compose.file": "compose.yaml"})
    rows: dict[str, tuple[list[tuple[str, bytes, dict[str, str]]], dict[str, Any]]] = {
        "'../../x', which is no name": ([main, (ENV, b"A=1", {"com.docker.compose.envfile": "../../x"})], {}),
        "is no application/vnd.docker.compose.project, but 'text/other'": ([main], {"artifactType": "text/other"}),
        "more than 8 MiB": ([main, (FILE, b"#" * (9 << 20), {})], {}),
        "leads out of oci://": ([(FILE, b"services: {w: {image: x, volumes: ['/etc:/e']}}", {})], {}),
        "services.w.env_file[0]: ": ([(FILE, b"services: {w: {image: x, env_file: ../origin.json}}", {})], {}),
    }
    for number, (words, (layers, more)) in enumerate(rows.items()):
        upload_artifact(node, f"bad/{number}:1", layers, **more)
        done = node.cli("-f", f"oci://{OPEN}/bad/{number}:1", "config")
        assert done.returncode == 1, words
        assert words in done.stderr
        assert "Traceback" not in done.stderr
    image = push(node, "team/web:1", "one")
    done = node.cli("-f", f"oci://{OPEN}/team/web@{image}", "config")
    assert "is no application/vnd.docker.compose.project" in done.stderr


def test_an_artifact_that_moves_and_a_registry_that_is_away(node: Node) -> None:
    name = f"oci://{OPEN}/move/app:1"
    upload_artifact(node, "move/app:1", [(FILE, b"services: {one: {image: x}}", {})])
    assert list(services(node, "-f", name)) == ["one"]
    upload_artifact(node, "move/app:1", [(FILE, b"services: {two: {image: x}}", {})])
    assert list(services(node, "-f", name)) == ["two"]
    off = node.run("env", "COMPOSE_EXPERIMENTAL_OCI_REMOTE=false", *CLI, "-f", name, "config")
    assert "turned off by COMPOSE_EXPERIMENTAL_OCI_REMOTE=false" in off.stderr
    absent = node.cli("-f", f"oci://{OPEN}/move/app:none", "config")
    assert absent.returncode == 1
    assert "has no tag none of move/app" in absent.stderr
