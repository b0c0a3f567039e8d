"""Images on a whole node with a real registry: up, pull, push, login, and what is printed."""

from __future__ import annotations

import base64
import json
import os
import sqlite3
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from node.images import build, entry, skopeo_on, tar, upload
from node.registry import NAME, PASSWORD, DockerRegistry, docker_registry, with_password
from node.whole import CLI, Node, running, until

OPEN, CLOSED = "127.0.0.1:5000", "127.0.0.1:5001"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Node, DockerRegistry]]:
    """A node, a registry for everybody and one with a password on its machine."""
    folder = tmp_path_factory.mktemp("site")
    variables = {"DOCKER_CONFIG": str(folder / "docker"), "PYCOMPOSE_CONFIG_DIR": str(folder / "config")}
    with running(folder / "node", variables) as node:
        on = tuple(node.on_machine())
        closed = with_password(folder / "closed")
        with (
            docker_registry(folder / "open", 5000, prefix=on) as registry,
            docker_registry(folder / "closed", 5001, prefix=on, **closed),
        ):
            yield node, registry


@pytest.fixture
def node(site: tuple[Node, DockerRegistry]) -> Iterator[Node]:
    yield site[0]
    site[0].cli("down", "-t", "0", "--remove-orphans")


def push(node: Node, name: str, mark: str, *options: str) -> None:
    """Put an image into a registry from outside: BusyBox and a file that says `mark`."""
    layers = [(node.folder / "root.tar").read_bytes(), tar([entry("mark", data=mark.encode())])]
    registry, _, path = name.partition("/")
    with skopeo_on(node.on_machine()):
        upload(build(layers, Cmd=["sleep", "1000"]), registry, path, node.folder, *options)


def test_up_pulls_pins_and_tells_what_moved(node: Node) -> None:
    push(node, f"{OPEN}/web:1", "one")
    node.write(
        f"""
services:
  web: {{image: "{OPEN}/web:1", pull_policy: always, stop_grace_period: 0s}}
  old: {{image: "{OPEN}/web:1", command: sleep 1000, pull_policy: missing, stop_grace_period: 0s}}
"""
    )
    done = node.cli("up", "-d")
    assert done.returncode == 0, done.stderr
    assert f" Image {OPEN}/web:1  Pulled\n" in done.stderr
    assert node.exec("web", "cat", "/mark") == "one"
    first = json.loads(node.compose("image", "inspect", f"{OPEN}/web:1"))[0]
    assert first["RepoDigests"][0].startswith(f"{OPEN}/web@sha256:")

    before = node.containers()
    again = node.cli("up", "-d")
    assert "→" not in again.stderr
    assert {item["ID"] for item in node.containers().values()} == {item["ID"] for item in before.values()}

    push(node, f"{OPEN}/web:1", "two")
    moved = node.cli("up", "-d")
    second = json.loads(node.compose("image", "inspect", f"{OPEN}/web:1"))[0]
    assert f"Image {OPEN}/web:1  Pulled {first['Id'][7:19]} → {second['Id'][7:19]}" in moved.stderr
    assert node.exec("web", "cat", "/mark") == "two"

    # a registry that fails is an error where it is asked, and nothing changes; where it is not, nobody notices
    node.write((node.folder / "compose.yaml").read_text().replace(OPEN, "127.0.0.1:5999"))
    node.compose("image", "tag", f"{OPEN}/web:1", "127.0.0.1:5999/web:1")
    refused = node.cli("up", "-d")
    assert refused.returncode == 1
    assert (
        "compose.yaml:3:9: services.web.image: image 127.0.0.1:5999/web:1 cannot be pulled: nothing listens"
        in refused.stderr
    )
    assert "Traceback" not in refused.stderr
    node.compose("up", "-d", "--pull", "missing")
    node.compose("up", "-d", "--pull", "never")


def test_policies_that_ask_now_and_then(node: Node) -> None:
    push(node, f"{OPEN}/age:1", "one")
    node.write(f'services: {{age: {{image: "{OPEN}/age:1", pull_policy: every_2s, stop_grace_period: 0s}}}}')
    node.compose("up", "-d")
    push(node, f"{OPEN}/age:1", "two")
    node.write((node.folder / "compose.yaml").read_text().replace("every_2s", "daily"))
    node.compose("up", "-d")
    assert node.exec("age", "cat", "/mark") == "one"
    node.write((node.folder / "compose.yaml").read_text().replace("daily", "every_1s"))

    def renewed() -> bool:
        node.compose("up", "-d")
        return node.exec("age", "cat", "/mark") == "two"

    until(renewed)
    for policy, words in (("build", "without a build: section"), ("refresh", "does not say how often")):
        node.write(f'services: {{age: {{image: "{OPEN}/age:1", pull_policy: {policy}}}}}')
        refused = node.cli("up", "-d")
        assert refused.returncode == 1
        assert words in refused.stderr
    node.write('services: {age: {image: "absent:1", pull_policy: never}}')
    refused = node.cli("up", "-d")
    assert "services.age.image: image absent:1 is not there, and pull_policy is never" in refused.stderr


def test_pull_and_its_flags(node: Node) -> None:
    push(node, f"{OPEN}/a:1", "a")
    push(node, f"{OPEN}/b:1", "b")
    node.write(
        f"""
services:
  a: {{image: "{OPEN}/a:1", depends_on: [b]}}
  b: {{image: "{OPEN}/b:1"}}
  built: {{image: "{OPEN}/nowhere:1", build: .}}
  never: {{image: "{OPEN}/nowhere:2", pull_policy: never}}
"""
    )
    one = node.cli("pull", "a")
    assert f"Image {OPEN}/a:1  Pulled" in one.stderr
    assert f"{OPEN}/b:1" not in one.stderr
    both = node.cli("pull", "--include-deps", "a")
    assert f"Image {OPEN}/b:1  Pulled" in both.stderr
    everything = node.cli("pull")
    assert everything.returncode == 0
    assert "Service never  Skipped its pull_policy is never" in everything.stderr
    assert f"warning: image {OPEN}/nowhere:1 must be built" in everything.stderr
    assert "nowhere:1" not in node.cli("pull", "--ignore-buildable").stderr
    assert f"Image {OPEN}/a:1  Skipped it is there" in node.cli("pull", "--policy", "missing", "a", "b").stderr
    assert node.cli("pull", "-q", "a").stderr == ""
    node.write(f'services: {{a: {{image: "{OPEN}/a:1"}}, gone: {{image: "{OPEN}/gone:1"}}}}')
    failed = node.cli("pull")
    assert failed.returncode == 1
    assert f"error: image {OPEN}/gone:1 cannot be pulled: {OPEN} has no tag 1 of gone" in failed.stderr
    assert node.cli("pull", "--ignore-pull-failures").returncode == 0


def test_accounts(node: Node) -> None:
    def login(password: str) -> subprocess.CompletedProcess[str]:
        words = [*node.on_machine(), "sh", "-c", 'printf %s "$0" | "$@"', password, *cli_words]
        return subprocess.run(words, env=node.environment(), capture_output=True, text=True)

    cli_words = [*CLI, "login", "-u", NAME, "--password-stdin", CLOSED]
    push(node, f"{CLOSED}/own:1", "own", "--dest-creds", f"{NAME}:{PASSWORD}")
    node.write(f'services: {{own: {{image: "{CLOSED}/own:1", stop_grace_period: 0s}}}}')
    refused = node.cli("up", "-d")
    assert f"{CLOSED} wants a name and a password; run pycompose login {CLOSED}" in refused.stderr
    wrong = login("wrong")
    assert (wrong.returncode, wrong.stderr) == (1, f"error: {CLOSED} refuses this name or password\n")
    config = Path(node.variables["DOCKER_CONFIG"]) / "config.json"
    assert not config.exists()
    done = login(PASSWORD)
    assert done.stdout == "Login Succeeded\n"
    assert stat.S_IMODE(config.stat().st_mode) == 0o600
    node.compose("up", "-d")
    node.compose("image", "tag", f"{CLOSED}/own:1", f"{CLOSED}/pushed:1")
    assert "1: digest: sha256:" in node.compose("image", "push", f"{CLOSED}/pushed:1")
    assert node.compose("logout", CLOSED) == f"Removing login credentials for {CLOSED}\n"
    assert node.cli("image", "push", f"{CLOSED}/pushed:1").returncode == 1

    # a helper keeps it elsewhere; one that fails stops the command, and nothing is tried without a name
    helper = node.folder / "docker-credential-test"
    helper.write_text(f'#!/bin/sh\n[ "$1" = get ] && echo \'{{"Username": "{NAME}", "Secret": "{PASSWORD}"}}\'\n')
    helper.chmod(0o755)
    config.write_text(json.dumps({"credHelpers": {CLOSED: "test"}}))
    node.variables["PATH"] = f"{node.folder}:{os.environ['PATH']}"
    node.compose("image", "pull", f"{CLOSED}/own:1")
    helper.write_text("#!/bin/sh\necho the safe is locked; exit 1\n")
    locked = node.cli("image", "pull", f"{CLOSED}/own:1")
    assert locked.returncode == 1
    assert "docker-credential-test get failed with status 1: the safe is locked" in locked.stderr
    del node.variables["PATH"]

    # the node keeps and tells no password
    secret = PASSWORD.encode()
    for path in (node.folder / "state").rglob("*"):
        if path.is_file() and "layers" not in path.parts:
            assert secret not in path.read_bytes(), path
    for pid in node.daemons().values():
        assert secret not in Path(f"/proc/{pid}/cmdline").read_bytes()


def test_a_program_makes_a_service_of_an_image_that_is_elsewhere(node: Node) -> None:
    push(node, f"{OPEN}/api:1", "api")
    code = """
import sys, grpc
from pycompose.proto.v1 import control_pb2 as api, control_pb2_grpc, service_pb2, task_pb2
with grpc.insecure_channel(f"unix:{sys.argv[1]}/api.sock") as channel:
    control = control_pb2_grpc.ControlServiceStub(channel)
    spec = service_pb2.ServiceSpec(name=sys.argv[3])
    spec.replicated.replicas = 1
    spec.task.container.image = sys.argv[2]
    service = control.CreateService(api.CreateServiceRequest(spec=spec)).service
    ends = (task_pb2.TASK_STATE_RUNNING, task_pb2.TASK_STATE_REJECTED)
    for answer in control.Watch(api.WatchRequest(service_ids=[service.id])):
        for event in answer.events:
            if event.WhichOneof("object") == "task" and event.task.status.state in ends:
                print(event.task.status.state, event.task.status.error)
                control.RemoveService(api.RemoveServiceRequest(service_id=service.id))
                sys.exit()
"""
    run = [node.folder / "run", f"{OPEN}/api:1", "there"]
    done = node.run(sys.executable, "-c", code, *map(str, run))
    assert done.stdout.strip() == "8", done.stderr
    run = [node.folder / "run", f"{OPEN}/api:2", "missing"]
    done = node.run(sys.executable, "-c", code, *map(str, run))
    assert f"{OPEN} has no tag 2 of api" in done.stdout


def test_image_commands(node: Node) -> None:
    node.compose("image", "tag", "test/busybox", "shop/box:1")
    node.compose("image", "tag", "test/busybox", "shop/box:2")
    rows = [line.split()[:2] for line in node.compose("image", "ls", "shop/*").splitlines()]
    assert rows == [["REPOSITORY", "TAG"], ["shop/box", "1"], ["shop/box", "2"]]
    assert node.compose("image", "ls", "shop/box:2", "--format", "{{.Repository}} {{.Tag}}") == "shop/box 2\n"
    (found,) = json.loads(node.compose("image", "ls", "shop/box:2", "--format", "json", "--no-trunc"))
    assert found["ID"].startswith("sha256:")
    assert found["Tag"] == "2"
    assert len(node.compose("image", "ls", "-q", "shop/box").split()) == 1
    assert "imported" in node.compose("image", "history", "shop/box:1")
    archive = node.folder / "box.tar"
    node.compose("image", "save", "-o", str(archive), "shop/box:1", "shop/box:2")
    kept = archive.read_bytes()
    assert node.cli("image", "save", "-o", str(archive), "shop/absent").returncode == 1
    assert archive.read_bytes() == kept
    assert node.compose("image", "rm", "shop/box:1", "shop/box:2") == "Untagged: shop/box:1\nUntagged: shop/box:2\n"
    loaded = node.compose("image", "load", "-i", str(archive))
    assert loaded == "Loaded image: shop/box:1\nLoaded image: shop/box:2\n"
    several = node.cli("image", "rm", found["ID"])
    assert "names in several repositories" in several.stderr
    node.compose("image", "import", "-c", "CMD sleep 1", "-m", "by hand", str(node.folder / "root.tar"), "shop/by:hand")
    assert json.loads(node.compose("image", "inspect", "-f", "{{json .Config.Cmd}}", "shop/by:hand")) == [
        "/bin/sh",
        "-c",
        "sleep 1",
    ]
    node.compose("image", "rm", "shop/box:1", "shop/box:2")
    node.compose("image", "prune", "-af", "--filter", "until=1h")
    assert node.compose("image", "ls", "-q", "shop/by:hand")
    assert "until=soon" in node.cli("image", "prune", "-af", "--filter", "until=soon").stderr
    node.write('services: {box: {image: "shop/by:hand", stop_grace_period: 0s, command: sleep 100}}')
    node.compose("up", "-d")
    assert "used by node-box-1" in node.cli("image", "rm", "shop/by:hand").stderr
    node.compose("down")
    assert "Deleted: sha256:" in node.compose("image", "rm", "shop/by:hand")
    for wrong in ("a b", "x@sha256:1", "http://x/y", "a:b:c", ".."):
        refused = node.cli("image", "pull", wrong)
        assert refused.returncode == 1
        assert "Traceback" not in refused.stderr


def test_an_account_goes_with_a_service_and_is_shown_nowhere(node: Node) -> None:
    image = f"{CLOSED}/with:1"
    push(node, image, "with", "--dest-creds", f"{NAME}:{PASSWORD}")
    config = Path(node.variables["DOCKER_CONFIG"]) / "config.json"
    config.parent.mkdir(exist_ok=True)
    config.write_text("{}")
    create = ("service", "create", "--detach", "--no-resolve-image")
    missing = node.cli(*create, "--with-registry-auth", "--name", "with", image)
    assert missing.returncode == 1
    assert f"there is no account for {CLOSED}; pycompose login {CLOSED}" in missing.stderr
    auth = base64.b64encode(f"{NAME}:{PASSWORD}".encode()).decode()
    config.write_text(json.dumps({"auths": {CLOSED: {"auth": auth}}}))
    try:
        node.compose(*create, "--name", "without", image)
        node.compose(*create, "--with-registry-auth", "--name", "with", image)
    finally:
        config.unlink()
    until(lambda: "unning" in node.compose("service", "ps", "with"), what=lambda: node.compose("service", "ps", "with"))
    printed = [node.compose(*words) for words in (("service", "inspect", "with"), ("service", "ls"))]
    printed += [node.cli("node", "logs").stdout, node.log()]
    task = node.compose("container", "ls", "-q", "--filter", "name=with").split()
    printed += [node.compose("container", "inspect", *task)]
    assert not any(PASSWORD in text or auth in text for text in printed)
    found = node.run("grep", "-rlaF", "-e", PASSWORD, "-e", auth, str(node.folder / "state"), str(node.folder / "run"))
    assert found.stdout == ""
    node.compose("service", "rm", "with", "without")
    until(lambda: "with" not in node.compose("service", "ls"))
    node.compose("node", "stop")
    with sqlite3.connect(node.folder / "state" / "manager" / "store.db") as store:
        assert store.execute("select count(*) from kv where key like '/object/account/%'").fetchone() == (0,)
        assert store.execute("select count(*) from log where key like '/object/account/%'").fetchone() != (0,)
    store.close()
