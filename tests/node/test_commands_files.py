"""cp, export, commit, events and hooks on a real node."""

from __future__ import annotations

import io
import json
import os
import subprocess
import tarfile
from collections.abc import Iterator

import pytest
from node.whole import CLI, Node, until

FILE = """
name: files
services:
  app:
    image: test/busybox
    command: sh -c 'mkdir -p /srv/www; echo one > /srv/www/index; ln -s www /srv/link; sleep 1000'
    init: true
    volumes: ["data:/data", "./bound:/bound"]
    deploy: {replicas: 2}
  hooked:
    image: test/busybox
    command: sh -c 'trap "exit 0" TERM; while :; do sleep 0.05; done'
    profiles: [hooks]
    volumes: ["data:/data"]
    post_start:
      - command: sh -c 'echo "$$WHO $$(pwd) $$(id -u)" > /dev/shm/started'
        user: worker
        working_dir: /tmp
        environment: [WHO=hook]
        privileged: true
    pre_stop:
      - command: sh -c 'echo stopping > /data/stopped'
  broken:
    image: test/busybox
    command: sleep 1000
    profiles: [broken]
    post_start:
      - command: sh -c 'echo no way; exit 7'
volumes: {data: {}}
"""


@pytest.fixture(scope="module")
def app(shared: Node) -> Iterator[Node]:
    (shared.folder / "bound").mkdir()
    shared.write(FILE)
    shared.compose("up", "-d")
    until(lambda: shared.cli("exec", "-T", "--index", "2", "app", "test", "-L", "/srv/link").returncode == 0)
    yield shared
    shared.compose("down", "-v", "--timeout", "1")


def test_out_of_a_container(app: Node) -> None:
    here = app.folder / "out"
    here.mkdir()
    app.compose("cp", "app:/srv/www/index", "out/renamed")
    assert (here / "renamed").read_text() == "one\n"
    app.compose("cp", "app:/srv/www", "out")
    assert (here / "www" / "index").read_text() == "one\n"
    app.compose("cp", "app:/srv/www/.", "out/inside")
    assert (here / "inside" / "index").read_text() == "one\n"
    app.compose("cp", "app:/srv/link", "out/link")
    assert os.readlink(here / "link") == "www"
    app.compose("cp", "-L", "app:/srv/link", "out/followed")
    assert (here / "followed" / "index").read_text() == "one\n"
    done = subprocess.run(
        app.on_machine("sh", "-c", f"{' '.join(CLI)} cp app:/srv/www -"),
        env=app.environment(),
        capture_output=True,
    )
    with tarfile.open(fileobj=io.BytesIO(done.stdout)) as archive:
        assert archive.getnames() == ["www", "www/index"]
    missing = app.cli("cp", "app:/srv/none", "out")
    assert missing.returncode == 1
    assert "/srv/none: No such file" in missing.stderr
    onto = app.cli("cp", "app:/srv/www", "out/renamed")
    assert (onto.returncode, "cannot copy a folder onto the file" in onto.stderr) == (1, True)


def test_into_containers(app: Node) -> None:
    source = app.folder / "site"
    (source / "deep").mkdir(parents=True)
    (source / "deep" / "page").write_text("page")
    os.chown(source / "deep" / "page", 1000, 1001)
    (source / "tool").write_text("#!/bin/sh\n")
    (source / "tool").chmod(0o750)
    app.compose("cp", "site", "app:/srv")
    for index in (1, 2):
        assert app.exec("app", "cat", "/srv/site/deep/page", index=index) == "page"
    assert app.exec("app", "stat", "-c", "%u %g %a", "/srv/site/tool").split() == ["0", "0", "750"]
    app.compose("cp", "-a", "--index", "1", "site/.", "app:/srv/new")
    assert app.exec("app", "stat", "-c", "%u %g", "/srv/new/deep/page").split() == ["1000", "1001"]
    assert app.cli("exec", "-T", "--index", "2", "app", "test", "-e", "/srv/new").returncode == 1
    app.compose("cp", "--index", "1", "site/tool", "app:/data/tool")
    assert app.exec("app", "ls", "/data", index=2) == "tool\n"
    app.compose("cp", "--index", "1", "site/tool", "app:/bound/tool")
    assert (app.folder / "bound" / "tool").read_text() == "#!/bin/sh\n"
    over = app.cli("cp", "--index", "1", "site/tool", "app:/srv/www/.")
    assert over.returncode == 0, over.stderr
    over = app.cli("cp", "--index", "1", "site", "app:/srv/www/index")
    assert "cannot copy a folder onto the file" in over.stderr
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        entry = tarfile.TarInfo("from/stream")
        entry.size = 2
        archive.addfile(entry, io.BytesIO(b"hi"))
    done = subprocess.run(
        app.on_machine("sh", "-c", f"{' '.join(CLI)} cp --index 1 - app:/srv"),
        env=app.environment(),
        input=stream.getvalue(),
        capture_output=True,
    )
    assert done.returncode == 0, done.stderr
    assert app.exec("app", "cat", "/srv/from/stream") == "hi"


def test_a_link_of_the_container_leads_nowhere(app: Node) -> None:
    secret = app.folder / "secret"
    secret.write_text("of the machine")
    app.exec("app", "ln", "-s", str(app.folder), "/srv/away")
    done = app.cli("cp", "app:/srv/away/secret", "stolen")
    assert done.returncode == 1
    assert not (app.folder / "stolen").exists()
    done = app.cli("cp", "--index", "1", "site/tool", "app:/srv/away/secret")
    assert secret.read_text() == "of the machine"


def test_a_stopped_container_is_copied_too(app: Node) -> None:
    app.compose("stop", "-t", "0")
    app.compose("cp", "--index", "1", "app:/srv/www/index", "stopped")
    assert (app.folder / "stopped").read_text() == "one\n"
    app.compose("cp", "--index", "1", "site/tool", "app:/srv/late")
    app.compose("cp", "--index", "1", "site/tool", "app:/data/late")
    app.compose("start")
    assert app.exec("app", "ls", "/srv/late", "/data/late").split() == ["/data/late", "/srv/late"]


def test_export_and_commit(app: Node) -> None:
    app.exec("app", "sh", "-c", "rm -r /root; mkdir -p /made/here; echo x > /made/here/file")
    app.compose("export", "--index", "1", "-o", "root.tar", "app")
    with tarfile.open(app.folder / "root.tar") as archive:
        names = archive.getnames()
    assert "./made/here/file" in names or "made/here/file" in names
    assert not [name for name in names if name.endswith("data/tool")]
    identity = app.compose(
        *("commit", "--index", "1", "-m", "kept", "-a", "me", "-c", "CMD cat /made/here/file"),
        *("-c", "ENV MORE=yes", "app", "kept:1"),
    ).strip()
    found = json.loads(app.compose("image", "inspect", "kept:1"))[0]
    assert found["Id"] == identity
    assert found["Config"]["Cmd"] == ["/bin/sh", "-c", "cat /made/here/file"]
    assert "MORE=yes" in found["Config"]["Env"]
    assert len(found["RootFS"]["Layers"]) == 2
    app.write("name: kept\nservices: {one: {image: 'kept:1'}}\n", "kept.yaml")
    assert app.compose("-f", "kept.yaml", "run", "--rm", "-T", "one") == "x\n"
    assert app.cli("-f", "kept.yaml", "run", "--rm", "-T", "one", "ls", "/root").returncode == 1
    app.compose("-f", "kept.yaml", "down")


def test_hooks_and_events(app: Node) -> None:
    app.compose("--profile", "hooks", "up", "-d", "hooked")
    assert app.exec("hooked", "cat", "/dev/shm/started") == "hook /tmp 1000\n"
    app.compose("stop", "hooked")
    assert app.exec("app", "cat", "/data/stopped") == "stopping\n"
    lines = app.compose("events", "--json", "--since", "10m", "--until", "0s", "hooked").splitlines()
    found = [event for event in map(json.loads, lines) if not event["action"].startswith("exec_")]
    assert [event["action"] for event in found] == ["create", "start", "kill", "die", "stop"]
    died = found[3]
    assert (died["service"], died["type"], died["attributes"]["exitCode"]) == ("hooked", "container", "0")
    assert died["attributes"]["name"] == "files-hooked-1"
    assert not [key for key in died["attributes"] if key.startswith("com.docker.compose")]


def test_a_failed_post_start_hook_fails_up(app: Node) -> None:
    done = app.cli("--profile", "broken", "up", "-d", "--wait", "broken")
    assert done.returncode == 1
    assert "post_start sh -c echo no way; exit 7: exit status 7: no way" in done.stderr
    app.compose("--profile", "broken", "rm", "-fs", "broken")
