"""`container run`, `create`, `inspect` and `ls` on a real node: what docker's users type and read."""

from __future__ import annotations

import json
import subprocess

import pytest
from node.whole import CLI, Node, until


def run(node: Node, *words: str, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        node.on_machine(*CLI, "container", *words),
        env=node.environment(),
        input=stdin,
        capture_output=True,
        timeout=100,
    )


def test_run_in_the_foreground(shared: Node) -> None:
    done = run(shared, "run", "--rm", "test/busybox", "sh", "-c", "echo out; echo err >&2; exit 3")
    assert (done.returncode, done.stdout, done.stderr) == (3, b"out\n", b"err\n")
    done = run(shared, "run", "--rm", "-i", "test/busybox", "cat", stdin=b"x" * 100_000)
    assert (done.returncode, len(done.stdout)) == (0, 100_000), done.stderr
    assert run(shared, "run", "--rm", "test/busybox", "nothing").returncode == 127
    assert run(shared, "run", "--rm", "test/busybox", "/etc").returncode == 126
    assert run(shared, "run", "--rm", "--pull", "never", "absent", "true").returncode == 125
    assert run(shared, "run", "--rm", "-v", "x:y:z:w", "test/busybox").returncode == 2
    assert shared.compose("container", "ls", "-aq") == ""
    assert shared.compose("service", "ls", "-q") == ""


def test_what_flags_mean(shared: Node) -> None:
    (shared.folder / "env").write_text("# note\nFROM_FILE=a b\nWORD\n")
    (shared.folder / "host").mkdir()
    words = ["-e", "GIVEN=1", "-e", "WORD", "--env-file", "env", "-w", "/tmp", "-u", "worker", "-h", "myhost"]
    words += ["--add-host", "far:1.2.3.4", "-v", "./host:/host", "-v", "named:/named", "--tmpfs", "/scratch"]
    words += ["--read-only", "--cap-drop", "ALL", "--ulimit", "nofile=100:200", "--shm-size", "1m", "-m", "64m"]
    words += ["--label", "a=b", "--mount", "type=volume,src=other,dst=/other,readonly", "--init", "--name", "Flags"]
    script = 'echo "$GIVEN|$WORD|$FROM_FILE|$PWD|$(id -u)|$(hostname)|$(ulimit -n)"; grep far /etc/hosts; mount'
    done = run(shared, "run", *words, "test/busybox", "sh", "-c", script)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.decode().splitlines()
    assert lines[0] == "1|secret word"
    text = done.stdout.decode()
    assert "|a b|/tmp|1000|myhost|100" in text
    assert "1.2.3.4" in text
    for place in ("/host", "/named", "/scratch", "/other"):
        assert f" on {place} type" in text
    found = json.loads(shared.compose("container", "inspect", "Flags"))[0]
    assert found["Name"] == "/Flags"
    assert found["State"]["Status"] == "exited"
    assert (found["State"]["Running"], found["State"]["ExitCode"]) == (False, 0)
    config, host = found["Config"], found["HostConfig"]
    assert (config["User"], config["WorkingDir"], config["Hostname"]) == ("worker", "/tmp", "myhost")
    assert config["Labels"]["a"] == "b"
    assert "GIVEN=1" in config["Env"]
    assert (host["Memory"], host["ReadonlyRootfs"], host["CapDrop"]) == (64 << 20, True, ["ALL"])
    assert host["Ulimits"] == [{"Name": "nofile", "Hard": 200, "Soft": 100}]
    mounts = {mount["Destination"]: mount for mount in found["Mounts"]}
    assert (mounts["/other"]["Type"], mounts["/other"]["Name"], mounts["/other"]["RW"]) == ("volume", "other", False)
    assert mounts["/host"]["Source"] == str(shared.folder / "host")
    assert found["Path"] == "sh"
    shared.compose("container", "rm", "Flags")
    assert {"named", "other"} <= set(shared.compose("volume", "ls", "-q").split())
    shared.compose("volume", "prune", "-af")


def test_in_the_background(shared: Node) -> None:
    identity = shared.compose(
        *("container", "run", "-d", "--name", "web", "-p", "18080:80", "-l", "team=blue"),
        *("test/busybox", "sh", "-c", "hostname > /tmp/index.html; exec httpd -f -p 80 -h /tmp"),
    ).strip()
    assert len(identity) == 64
    found = json.loads(shared.compose("container", "inspect", "web"))[0]
    assert found["Id"] == identity
    assert found["NetworkSettings"]["Ports"]["80/tcp"] == [{"HostIp": "0.0.0.0", "HostPort": "18080"}]
    address = found["NetworkSettings"]["Networks"]["bridge"]["IPAddress"]
    assert found["NetworkSettings"]["IPAddress"] == address
    assert shared.compose("container", "inspect", "-f", "{{.State.Running}} {{.HostConfig.NetworkMode}}", "web") == (
        "true bridge\n"
    )
    fetch = "import urllib.request as r; print(r.urlopen('http://127.0.0.1:18080/', timeout=5).read().decode())"
    until(lambda: shared.run("python3", "-c", fetch).stdout.strip() == identity[:12])
    other = run(shared, "run", "--rm", "test/busybox", "wget", "-qO-", f"http://{address}/")
    assert other.stdout.decode().strip() == identity[:12]
    assert shared.compose("container", "port", "web", "80") == "0.0.0.0:18080\n"
    shared.compose("container", "exec", "web", "touch", "/made")
    assert "A /made" in shared.compose("container", "diff", "web").splitlines()

    def listed(*words: str) -> list[str]:
        return shared.compose("container", "ls", "--format", "{{.Names}}", *words).split()

    shared.compose("container", "create", "--name", "later", "test/busybox", "true")
    assert listed() == ["web"]
    assert listed("-a") == ["later", "web"]
    for words in (
        ["name=we"],
        ["label=team=blue"],
        ["publish=18080"],
        ["expose=80/tcp"],
        ["network=bridge", "before=later"],
        ["ancestor=test/busybox", "status=running"],
        [f"id={identity[:8]}"],
    ):
        assert listed("-a", *(part for word in words for part in ("--filter", word))) == ["web"], words
    assert listed("-a", "--filter", "since=web") == ["later"]
    assert listed("-a", "--filter", "status=created") == ["later"]
    assert shared.cli("container", "ls", "--filter", "since=nobody").returncode == 1
    assert "(virtual" in shared.compose("container", "ls", "-s")

    assert shared.compose("container", "start", "-a", "later") == ""
    assert listed("-a", "--filter", "exited=0") == ["later"]
    shared.compose("container", "stop", "-t", "0", "web")
    assert json.loads(shared.compose("container", "inspect", "web"))[0]["State"]["Status"] == "exited"
    shared.compose("container", "start", "web")
    assert json.loads(shared.compose("container", "inspect", "web"))[0]["Id"] == identity
    shared.compose("container", "rm", "-f", "web", "later")
    until(lambda: shared.compose("container", "ls", "-aq") == "")


def test_one_that_removes_itself(shared: Node) -> None:
    shared.compose("container", "run", "-d", "--rm", "--name", "gone", "test/busybox", "sleep", "0.2")
    until(lambda: shared.compose("container", "ls", "-aq") == "")
    assert shared.compose("service", "ls", "-q") == ""


def test_two_of_one_name(shared: Node) -> None:
    shared.compose("container", "create", "--name", "one", "test/busybox", "true")
    done = run(shared, "create", "--name", "one", "test/busybox", "true")
    assert done.returncode != 0
    assert b"one" in done.stderr
    assert shared.compose("container", "prune", "-f") == "one\n"


@pytest.mark.parametrize("word", ["rename a b", "update --memory 1m a"])
def test_what_is_refused_says_what_to_do(shared: Node, word: str) -> None:
    done = run(shared, *word.split())
    assert done.returncode == 1
    assert b"container run" in done.stderr


def test_groups_beside_containers(shared: Node) -> None:
    shared.compose("network", "create", "--label", "a=1", "one")
    shared.compose("network", "create", "two")
    assert shared.compose("network", "prune", "-f", "--filter", "label=a") == "one\n"
    assert shared.compose("network", "prune", "-f", "--filter", "until=1h") == ""
    shared.compose("network", "remove", "two")
    shared.compose("volume", "create", "--label", "a=1", "kept")
    assert shared.compose("volume", "prune", "-af", "--filter", "label!=a") == ""
    assert shared.compose("volume", "list", "-q") == "kept\n"
    shared.compose("volume", "rm", "kept")
    shared.write("name: old\nservices: {web: {image: test/busybox, command: sleep 1000, init: true, scale: 2}}\n")
    shared.compose("--compatibility", "up", "-d")
    assert set(shared.containers()) == {"old_web_1", "old_web_2"}
    assert shared.compose("node", "ps", "--format", "{{.Name}}").split() == ["old_web_1", "old_web_2"]
    assert "name: web" in shared.compose("service", "inspect", "--pretty", "old/web")
    shared.write("name: old\nservices: {web: {image: test/busybox, command: sleep 1001, init: true, scale: 2}}\n")
    shared.compose("--compatibility", "up", "-d")
    shared.compose("service", "rollback", "old/web")
    found = json.loads(shared.compose("container", "inspect", "old_web_1"))[0]
    assert found["Config"]["Cmd"] == ["sleep", "1000"]
    shared.compose("down", "-t", "0")
    assert shared.cli("network", "connect", "a", "b").returncode == 1
