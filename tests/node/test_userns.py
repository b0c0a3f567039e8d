"""``userns_mode: auto`` and ``x-idmap: auto`` on a real node: whose files are whose, inside and outside."""

from __future__ import annotations

import io
import json
import os
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from node.whole import CLI, Node, until

FILE = """
name: apart
services:
  app:
    image: test/busybox
    command: sh -c 'echo page > /index.html; echo to the log > /dev/stdout; exec httpd -f -p 80'
    userns_mode: auto
    init: true
    hostname: box
    volumes:
      - data:/data
      - {type: bind, source: ./plain, target: /plain}
      - {type: bind, source: ./mine, target: /mine, x-idmap: auto}
      - {type: tmpfs, target: /scratch}
      - {type: image, source: test/busybox, target: /image}
    secrets: [{source: word, uid: "7", gid: "8", mode: 0400}]
    configs: [{source: conf, target: /conf, uid: "9"}]
    sysctls: {net.ipv4.ip_forward: 1, net.core.somaxconn: 99, kernel.msgmax: 12345}
    cap_add: [NET_ADMIN, SYS_ADMIN]
    ports: ["127.0.0.1:8471:80"]
    healthcheck: {test: "test $$(id -u) = 0 && wget -qO- http://127.0.0.1", interval: 1s, start_interval: 1s}
  worker:
    image: test/busybox
    command: sleep 1000
    user: worker
    userns_mode: auto
    volumes: ["data:/data", "own:/own"]
    depends_on: {app: {condition: service_healthy}}
  plain:
    image: test/busybox
    command: sleep 1000
    userns_mode: host
    volumes: ["data:/data"]
  beside:
    image: test/busybox
    command: sleep 1000
    userns_mode: auto
    network_mode: service:app
    volumes_from: [app]
secrets: {word: {environment: WORD}}
configs: {conf: {content: "conf\\n"}}
volumes: {data: {}, own: {}}
"""
CALLER = (4242, 4243)


@pytest.fixture(scope="module")
def app(shared: Node) -> Iterator[Node]:
    for name in ("plain", "mine"):
        (shared.folder / name).mkdir()
    (shared.folder / "plain" / "secret").write_text("the machine's\n")
    (shared.folder / "plain" / "secret").chmod(0o600)
    (shared.folder / "mine" / "theirs").touch()
    for path in (shared.folder / "mine", shared.folder / "mine" / "theirs"):
        os.chown(path, *CALLER)
    shared.variables |= {"SUDO_UID": str(CALLER[0]), "SUDO_GID": str(CALLER[1])}
    shared.write(FILE)
    shared.compose("up", "-d", "--wait")
    yield shared
    shared.compose("down", "-v", "--timeout", "1")


def base(node: Node, service: str) -> tuple[int, int]:
    """The machine's ids of a container's root."""
    first = [node.exec(service, "cat", f"/proc/self/{name}_map").split() for name in ("uid", "gid")]
    assert [words[0] for words in first] == ["0", "0"]
    assert [words[2] for words in first] == ["65536", "65536"]
    return int(first[0][1]), int(first[1][1])


def volume(node: Node, name: str) -> Path:
    return node.folder / "state" / "volumes" / f"apart_{name}" / "_data"


def test_each_container_has_a_range(app: Node) -> None:
    ranges = {service: base(app, service) for service in ("app", "worker", "beside")}
    assert ranges["app"] != ranges["worker"]
    assert ranges["app"] == ranges["beside"]  # it shares the network
    assert app.exec("plain", "cat", "/proc/self/uid_map").split() == ["0", "0", "4294967295"]
    short = app.containers()["apart-worker-1"]["ID"]
    pid = next(pid for each, pid in app.pids().items() if each.startswith(short))
    status = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    uid, gid = ranges["worker"]
    assert status["Uid"].split() == [str(uid + 1000)] * 4
    assert status["Gid"].split() == [str(gid + 1001)] * 4


def test_the_network_belongs_to_it(app: Node) -> None:
    """Its root may configure what is its own, sees the published port used, and binds a low one."""
    assert "page" in app.run("busybox", "wget", "-qO-", "http://127.0.0.1:8471").stdout
    look = "cat /proc/sys/net/ipv4/ip_forward /proc/sys/net/core/somaxconn /proc/sys/kernel/msgmax"
    assert app.exec("app", *look.split()).split() == ["1", "99", "12345"]
    app.exec("app", "ip", "link", "set", "lo", "mtu", "1400")
    assert "mtu 1400" in app.exec("beside", "ip", "link", "show", "lo")
    assert "page" in app.exec("beside", "wget", "-qO-", "http://127.0.0.1")
    assert "page" in app.exec("plain", "wget", "-qO-", "http://app")
    app.exec("app", "mount", "-t", "tmpfs", "none", "/tmp")


def test_owners_inside_and_on_the_disk(app: Node) -> None:
    show = ("stat", "-c", "%u %g %a")
    assert app.exec("app", *show, "/bin/busybox").split()[:2] == ["0", "0"]
    assert app.exec("app", *show, "/run/secrets/word").split() == ["7", "8", "400"]
    assert app.exec("app", *show, "/conf").split() == ["9", "0", "444"]
    assert app.exec("app", *show, "/image/bin/busybox").split()[:2] == ["0", "0"]
    assert app.exec("app", "sh", "-c", "echo 127.0.0.9 more >> /etc/hosts && stat -c %u /etc/hosts").strip() == "0"
    assert app.exec("app", *show, "/plain/secret").split()[:2] == ["65534", "65534"]
    refused = app.cli("exec", "-T", "app", "cat", "/plain/secret")
    assert refused.returncode != 0
    assert "Permission denied" in refused.stderr
    app.exec("app", "sh", "-c", "touch /new /scratch/new /mine/new; chown 5:6 /new; mkdir /dir; rm -r /root")
    upper = next((app.folder / "state/images/snapshots").glob(f"{app.containers()['apart-app-1']['ID']}*/upper"))
    assert ((upper / "new").stat().st_uid, (upper / "new").stat().st_gid) == (5, 6)
    mine = (app.folder / "mine" / "new").stat()
    assert (mine.st_uid, mine.st_gid) == CALLER
    assert app.exec("app", *show, "/mine/new", "/mine/theirs").split()[0::3] == ["0", "0"]
    refused = app.cli("exec", "-T", "-u", "5", "app", "touch", "/mine/other")
    assert refused.returncode != 0


def test_a_volume_has_its_own_ids(app: Node) -> None:
    """Shared between ranges and with none, and kept when the containers are made anew."""
    app.exec(
        "app", "sh", "-c", "echo data > /data/file; chown 1000:1001 /data/file; chmod 600 /data/file; touch /data/root"
    )
    assert app.exec("worker", "cat", "/data/file") == "data\n"
    assert app.exec("worker", "stat", "-c", "%u %g", "/data/file", "/data/root").split() == ["1000", "1001", "0", "0"]
    assert app.exec("plain", "stat", "-c", "%u %g", "/data/file").split() == ["1000", "1001"]
    assert app.exec("beside", "stat", "-c", "%u %g", "/data/file").split() == ["1000", "1001"]
    assert (volume(app, "data") / "file").stat().st_uid == 1000
    app.compose("up", "-d", "--wait", "--force-recreate", "worker")
    assert app.exec("worker", "cat", "/data/file") == "data\n"
    app.exec("worker", "sh", "-c", "echo more >> /data/file")


def test_restart_and_a_new_agent_keep_the_range(app: Node) -> None:
    before = base(app, "app")
    app.compose("restart", "--timeout", "1", "app")
    assert base(app, "app") == before
    app.kill("agent")
    until(lambda: app.cli("exec", "-T", "app", "true").returncode == 0)
    assert base(app, "app") == before
    app.compose("restart", "--timeout", "1", "app", "beside")
    assert base(app, "app") == before
    assert base(app, "beside") == before
    until(lambda: app.run("busybox", "wget", "-qO-", "http://127.0.0.1:8471").stdout == "page\n")


def test_logs_cp_export_commit(app: Node) -> None:
    until(lambda: "to the log" in app.compose("logs", "app"))
    for user in ("0", "1000"):
        assert app.compose("exec", "-T", "-u", user, "app", "sh", "-c", "echo again > /dev/stdout") == "again\n"
    (app.folder / "in").write_text("in\n")
    os.chown(app.folder / "in", 77, 88)
    app.compose("cp", "in", "app:/copied")
    assert app.exec("app", "stat", "-c", "%u %g", "/copied").split() == ["0", "0"]
    app.compose("cp", "-a", "in", "app:/kept")
    assert app.exec("app", "stat", "-c", "%u %g", "/kept").split() == ["77", "88"]
    app.exec("app", "sh", "-c", "touch /five; chown 5:6 /five")
    out = subprocess.run(
        app.on_machine("sh", "-c", f"{' '.join(CLI)} cp app:/five -"), env=app.environment(), capture_output=True
    )
    with tarfile.open(fileobj=io.BytesIO(out.stdout)) as archive:
        assert (archive.getmember("five").uid, archive.getmember("five").gid) == (5, 6)
    app.compose("export", "-o", "out.tar", "app")
    with tarfile.open(app.folder / "out.tar") as archive:
        assert archive.getmember("five").uid == 5
        assert archive.getmember("bin/busybox").uid == 0
    app.compose("commit", "app", "test/committed")
    run = app.compose("run", "--rm", "-T", "--no-deps", "--entrypoint", "", "plain", "true")
    assert run == ""
    app.write(
        "services: {again: {image: test/committed, command: 'stat -c %u /five', userns_mode: auto}}", "again.yaml"
    )
    assert app.compose("-p", "again", "-f", "again.yaml", "up").count("5") >= 1
    app.compose("-p", "again", "-f", "again.yaml", "down")


def test_copying_with_a_container_that_does_not_run(app: Node) -> None:
    app.write(
        "services: {still: {image: test/busybox, command: 'true', userns_mode: auto, volumes: ['still:/new/place']}}\n"
        "volumes: {still: {}}",
        "still.yaml",
    )
    flags = ("-p", "still", "-f", "still.yaml")
    app.compose(*flags, "create")
    (app.folder / "in").write_text("in\n")
    app.compose(*flags, "cp", "in", "still:/new/place/file")
    app.compose(*flags, "cp", "in", "still:/file")
    app.compose(*flags, "cp", "still:/new/place/file", "back")
    assert (app.folder / "back").read_text() == "in\n"
    place = app.folder / "state" / "volumes" / "still_still" / "_data" / "file"
    assert place.stat().st_uid == 0
    app.compose(*flags, "start")
    app.compose(*flags, "down", "-v")


def test_ranges_are_given_back(app: Node) -> None:
    def ranges() -> list[dict[str, int]]:
        found = []
        for path in (app.folder / "state/agent/tasks").glob("*/record"):
            known = json.loads(path.read_text().strip().splitlines()[-1])
            found += [known["userns"]] if known["userns"] else []
        return found

    taken = {one["uid"] for one in ranges()}
    app.write("services: {one: {image: test/busybox, command: sleep 1000, userns_mode: auto}}", "one.yaml")
    seen = []
    for _ in range(2):
        app.compose("-p", "one", "-f", "one.yaml", "up", "-d")
        seen.append({one["uid"] for one in ranges()} - taken)
        app.compose("-p", "one", "-f", "one.yaml", "down", "--timeout", "1")
        until(lambda: {one["uid"] for one in ranges()} == taken)
    assert seen[0] == seen[1]
    assert len(seen[0]) == 1
    kept = set(os.listdir(f"/proc/{app.machine.pid}/root{app.folder}/run/userns"))
    assert kept == {one["of"] for one in ranges()}


def test_those_who_share_have_one_namespace(app: Node) -> None:
    app.write(
        "services:\n"
        "  first: {image: test/busybox, command: sleep 1000}\n"
        "  second: {image: test/busybox, command: sleep 1000, userns_mode: auto, network_mode: 'service:first'}\n",
        "two.yaml",
    )
    refused = app.cli("-p", "two", "-f", "two.yaml", "up", "-d")
    assert refused.returncode == 1
    assert "another user namespace" in refused.stderr
    app.compose("-p", "two", "-f", "two.yaml", "down", "--timeout", "1")
