"""What users of the peers ask for, on a real node: dependencies that gate, nothing recreated for nothing, Ctrl-C,
orphans, overrides, reasons of failures, honest exit statuses, bounded logs, providers.
"""

from __future__ import annotations

import json
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from node.whole import CLI, Node, until

LOOP = "trap 'exit 0' TERM; while :; do sleep 0.05; done"
DB = """
  db:
    image: test/busybox
    command: sh -c 'sleep 1; touch /tmp/ready; sleep 1000'
    init: true
    healthcheck: {test: test -f /tmp/ready, interval: 100ms, retries: 100}
"""


@pytest.fixture
def node(shared: Node) -> Iterator[Node]:
    yield shared
    for name in ("p", "q"):
        shared.cli("-p", name, "down", "-v", "-t", "0", "--remove-orphans")


def events(node: Node, *words: str, since: str = "10m") -> list[dict[str, str]]:
    lines = node.compose("-p", "p", "events", "--json", "--since", since, "--until", "0s", *words).splitlines()
    return [json.loads(line) for line in lines]


def begin(node: Node, *words: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        node.on_machine(*CLI, *words),
        env=node.environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_conditions_gate_up_and_run(node: Node) -> None:
    node.write(
        f"name: p\nservices:{DB}"
        "  app: {image: test/busybox, command: sleep 1000, init: true,\n"
        "        depends_on: {db: {condition: service_healthy}}}\n"
    )
    node.compose("up", "-d")
    found = [(event["service"], event["action"]) for event in events(node)]
    assert found.index(("db", "health_status: healthy")) < found.index(("app", "start"))
    node.compose("down", "-t", "0")
    node.compose("run", "--rm", "-T", "app", "true")
    ran = events(node, since="1m")
    healthy = [event for event in ran if event["action"] == "health_status: healthy"]
    assert len(healthy) == 2


@pytest.mark.parametrize("words", [["up", "-d"], ["run", "--rm", "-T", "app", "true"], ["up"]])
def test_what_can_never_be_healthy_is_no_reason_to_wait(node: Node, words: list[str]) -> None:
    node.write(
        "name: p\nservices:\n"
        "  db: {image: test/busybox, command: sh -c 'echo not today; sleep 1000', init: true,\n"
        "       healthcheck: {test: 'echo no disk; exit 1', interval: 100ms, retries: 2}}\n"
        "  app: {image: test/busybox, command: sleep 1000, depends_on: {db: {condition: service_healthy}}}\n"
    )
    done = node.cli(*words)
    assert done.returncode != 0
    text = done.stderr + done.stdout
    assert "app" in text
    assert "db" in text
    assert "unhealthy" in text
    if words[0] == "up":
        assert "no disk" in text
        assert "not today" in text


def test_a_second_up_does_nothing_and_a_change_says_which(node: Node) -> None:
    file = (
        "name: p\nservices:\n  a: {image: test/busybox, command: sleep 1000, init: true, volumes: ['data:/v']}\n"
        "  b: {image: test/busybox, command: sleep 1001, init: true, depends_on: [a]}\nvolumes: {data: {}}\n"
    )
    node.write(file)
    node.compose("up", "-d")
    before = {name: one["ID"] for name, one in node.containers().items()}
    count = len(events(node))
    node.compose("up", "-d")
    assert len(events(node)) == count
    node.write(file.replace("1001", "1002"))
    done = node.cli("up", "-d")
    assert done.returncode == 0, done.stderr
    assert "command" in done.stderr
    after = {name: one["ID"] for name, one in node.containers().items()}
    assert after["p-a-1"] == before["p-a-1"]
    assert after["p-b-1"] != before["p-b-1"]


def test_ctrl_c_asks_once_and_kills_the_second_time(node: Node) -> None:
    node.write(
        "name: p\nservices:\n"
        f'  polite: {{image: test/busybox, command: [sh, -c, "{LOOP}"]}}\n'
        "  deaf: {image: test/busybox, command: sleep 1000}\n"
        "  stubborn: {image: test/busybox, stop_grace_period: 1h,\n"
        "             command: [sh, -c, \"trap 'echo asked' TERM; echo up; while :; do sleep 0.05; done\"]}\n"
    )
    child = begin(node, "up")
    assert child.stdout is not None
    line = ""
    while "up" not in line:
        line = child.stdout.readline()
    until(lambda: len([one for one in node.containers().values() if one["State"] == "running"]) == 3)
    child.send_signal(signal.SIGINT)
    while "asked" not in line:
        line = child.stdout.readline()
    # PID 1 that has no handler is not waited for, one that has is
    until(lambda: [n for n, one in node.containers().items() if one["State"] == "running"] == ["p-stubborn-1"])
    child.send_signal(signal.SIGINT)
    child.communicate(timeout=60)
    assert child.returncode == 130
    assert {one["State"] for one in node.containers().values()} == {"exited"}


def test_orphans_stay_until_asked_for_and_run_leaves_nothing(node: Node) -> None:
    node.write("name: p\nservices: {kept: {image: test/busybox, command: sleep 1000, init: true}}\n", "one.yaml")
    node.write(f"name: p\nservices:{DB}  job: {{image: test/busybox, depends_on: [db]}}\n", "other.yaml")
    node.compose("-f", "one.yaml", "up", "-d")
    done = node.cli("-f", "other.yaml", "run", "--rm", "--with-deps", "-T", "job", "sh", "-c", "exit 7")
    assert done.returncode == 7, done.stderr
    assert done.stderr.count("kept") == 1
    assert list(node.compose("-p", "p", "ps", "-a", "--services").split()) == ["kept"]
    done = node.cli("-f", "other.yaml", "up", "-d", "db")
    assert "orphans in project p, which the files do not know: kept" in done.stderr
    assert set(node.compose("-p", "p", "ps", "--services").split()) == {"db", "kept"}
    node.compose("-f", "other.yaml", "up", "-d", "--remove-orphans", "-y", "db")
    assert set(node.compose("-p", "p", "ps", "--services").split()) == {"db"}


def test_one_shots_count_as_done_and_failures_do_not(node: Node) -> None:
    file = (
        f"name: p\nservices:{DB}"
        "  once: {image: test/busybox, command: sh -c 'sleep 0.3'}\n"
        "  after: {image: test/busybox, command: sleep 1000, init: true,\n"
        "          depends_on: {once: {condition: service_completed_successfully}}}\n"
    )
    node.write(file)
    node.compose("up", "--wait")
    states = {name: one["State"] for name, one in node.containers().items()}
    assert states == {"p-db-1": "running", "p-once-1": "exited", "p-after-1": "running"}
    node.compose("up", "--wait")
    node.compose("down", "-t", "0")
    node.write(file.replace("sleep 0.3", "echo broken disk; exit 9"))
    done = node.cli("up", "--wait")
    assert done.returncode == 1
    assert "broken disk" in done.stderr
    assert "9" in done.stderr
    done = node.cli("up", "--wait", "--wait-timeout", "0", "db", "--force-recreate")
    assert done.returncode == 1
    assert "not ready" in done.stderr


@pytest.mark.parametrize(
    ("flags", "status"),
    [
        (["--abort-on-container-exit"], 3),
        (["--abort-on-container-failure"], 3),
        (["--exit-code-from", "loop"], 0),
        (["--abort-on-container-exit", "--exit-code-from", "slow"], 5),
    ],
)
def test_the_exit_status_of_an_attached_up(node: Node, flags: list[str], status: int) -> None:
    node.write(
        "name: p\nservices:\n"
        f'  loop: {{image: test/busybox, command: [sh, -c, "{LOOP}"]}}\n'
        "  fails: {image: test/busybox, command: sh -c 'sleep 0.5; exit 3'}\n"
        "  slow: {image: test/busybox, command: [sh, -c, \"trap 'exit 5' TERM; while :; do sleep 0.05; done\"]}\n"
    )
    done = node.cli("up", *flags)
    assert done.returncode == status, done.stderr
    assert {one["State"] for one in node.containers().values()} == {"exited"}


def test_health_begins_anew_and_lines_are_plain_without_a_terminal(node: Node) -> None:
    node.write(f"name: p\nservices:{DB}")
    done = node.cli("up", "-d", "--wait")
    assert "\x1b" not in done.stderr
    lines = done.stderr.splitlines()
    assert len(lines) == len(dict.fromkeys(lines))
    node.compose("stop", "-t", "0")
    node.compose("start")
    assert node.containers()["p-db-1"]["Health"] in ("starting", "healthy")
    done = node.cli("--progress", "json", "up", "-d", "--force-recreate")
    assert all(json.loads(line)["id"] is not None for line in done.stderr.splitlines())


def test_logs_stay_within_their_bounds(node: Node) -> None:
    """Thirty-five megabytes of output into a log of three files of ten, and eight into two of one."""
    node.write(
        "name: p\nservices:\n"
        "  much: {image: test/busybox, command: \"sh -c 'yes 0123456789012345678901234567890123456789 |"
        " head -c 35000000; echo; echo last'\"}\n"
        "  small: {image: test/busybox, logging: {options: {max-size: 1m, max-file: '2'}},\n"
        "          command: \"sh -c 'yes 0123456789 | head -c 8000000; echo; echo last'\"}\n"
    )
    node.compose("up", "-d")
    until(lambda: all(one["State"] == "exited" for one in node.containers().values()))
    sizes = {}
    for name, one in node.containers().items():
        identity = node.compose("ps", "-aq", "--no-trunc", one["Service"]).strip()
        folder: Path = node.folder / "state" / "agent" / "tasks" / identity
        sizes[name] = sum(path.stat().st_size for path in folder.glob("log.json*"))
    assert 20_000_000 < sizes["p-much-1"] <= 31_000_000, sizes
    assert 1_000_000 <= sizes["p-small-1"] <= 2_200_000, sizes
    assert node.compose("logs", "--no-log-prefix", "-n", "1", "much") == "last\n"


PROVIDER = """#!/bin/sh
echo "$@" >> "$PROVIDER_LOG"
case "$2" in
  metadata) echo '{"up": {"parameters": [{"name": "size", "required": true}, {"name": "tag"}]}, "down": {}}'; exit;;
esac
case " $* " in *" up "*) ;; *) exit 0;; esac
echo '{"type": "debug", "message": "said to nobody"}'
echo '{"type": "info", "message": "making it"}'
echo "{\\"type\\": \\"setenv\\", \\"message\\": \\"URL=$PROVIDER_URL\\"}"
[ -z "$PROVIDER_FAILS" ] || { echo '{"type": "error", "message": "no money"}'; exit 3; }
"""


def test_a_provider_sets_variables(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    tool, log = node.folder / "tools" / "cloud", node.folder / "provider.log"
    tool.parent.mkdir(exist_ok=True)
    tool.write_text(PROVIDER)
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tool.parent}:/usr/sbin:/usr/bin:/sbin:/bin")
    monkeypatch.setenv("PROVIDER_LOG", str(log))
    monkeypatch.setenv("PROVIDER_URL", "there")
    file = (
        "name: p\nservices:\n"
        "  data: {provider: {type: cloud, options: {size: 3, tag: [a, b], other: true}}}\n"
        "  app: {image: test/busybox, command: sleep 1000, init: true, depends_on: [data]}\n"
    )
    node.write(file)
    done = node.cli("up", "-d")
    assert done.returncode == 0, done.stderr
    assert node.exec("app", "sh", "-c", "echo $DATA_URL") == "there\n"
    assert log.read_text().splitlines() == [
        "compose metadata",
        "compose --project-name=p up --size=3 --tag=a --tag=b data",
    ]
    first = node.containers()["p-app-1"]["ID"]
    assert node.cli("plan").returncode == 0
    node.compose("up", "-d")
    assert node.containers()["p-app-1"]["ID"] == first
    monkeypatch.setenv("PROVIDER_URL", "elsewhere")
    node.compose("up", "-d")
    assert node.exec("app", "sh", "-c", "echo $DATA_URL") == "elsewhere\n"
    node.compose("down", "-t", "0")
    assert log.read_text().splitlines()[-1] == "compose --project-name=p down data"

    monkeypatch.setenv("PROVIDER_FAILS", "1")
    done = node.cli("up", "-d")
    assert done.returncode == 1
    assert "services.data.provider: provider cloud: no money" in done.stderr
    node.write(file.replace("size: 3, ", ""))
    assert "needs the option size" in node.cli("up", "-d").stderr
    node.write(file.replace("cloud", "nowhere"))
    assert "there is no provider nowhere" in node.cli("up", "-d").stderr


def test_run_with_all_its_flags(node: Node) -> None:
    node.write(
        f"name: p\nservices:{DB}"
        "  app:\n    image: test/busybox\n    depends_on: [db]\n    ports: ['18077:80']\n"
        "    environment: {A: file, B: file}\n    volumes: ['data:/data']\nvolumes: {data: {}}\n"
    )
    (node.folder / "vars").write_text("B=from file\n")
    words = ["run", "--rm", "-T", "--no-deps", "-e", "A=flag", "--env-from-file", "vars", "-u", "worker", "-w", "/tmp"]
    words += ["-v", "./:/here:ro", "--cap-add", "NET_ADMIN", "-l", "x=y", "--name", "given", "-p", "18078:80"]
    script = "echo $A,$B,$(id -u),$(pwd); ls /here/compose.yaml; cat"
    done = subprocess.run(
        node.on_machine(*CLI, *words, "app", "sh", "-c", script),
        env=node.environment(),
        input="typed",
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == "flag,from file,1000,/tmp\n/here/compose.yaml\ntyped"
    assert node.containers() == {}
    identity = node.compose("run", "-d", "--no-deps", "--service-ports", "app", "sleep", "1000").strip()
    assert len(identity) == 64
    found = json.loads(node.compose("container", "inspect", identity))[0]
    assert found["NetworkSettings"]["Ports"]["80/tcp"][0]["HostPort"] == "18077"
    assert found["Config"]["Labels"]["com.docker.compose.oneoff"] == "True"
    node.compose("container", "rm", "-f", identity)
    plain = node.compose("run", "-d", "--no-deps", "app", "sleep", "1000").strip()
    assert not json.loads(node.compose("container", "inspect", plain))[0]["NetworkSettings"]["Ports"].get("80/tcp")
    node.compose("container", "rm", "-f", plain)
    node.compose("run", "-d", "--rm", "--no-deps", "app", "sleep", "0.1")
    until(lambda: not node.containers())
    assert node.cli("run", "--rm", "-T", "--no-deps", "--build", "app", "true").returncode == 0


def test_commands_that_look(node: Node) -> None:
    node.write(
        f"name: p\nservices:{DB}"
        "  web: {image: test/busybox, command: httpd -f -p 80, init: true, ports: ['18076:80'], scale: 2}\n".replace(
            "18076:80", "80"
        )
    )
    node.compose("up", "-d", "--wait")
    public = node.compose("port", "--index", "2", "web", "80").strip()
    assert public.startswith("0.0.0.0:")
    assert node.cli("port", "web", "81").returncode == 1
    assert "httpd -f -p 80" in node.compose("top", "web")
    rows = json.loads(node.compose("stats", "--no-stream", "--format", "json"))
    assert {row["Name"] for row in rows} == {"p-db-1", "p-web-1", "p-web-2"}
    assert all(row["MemUsage"].startswith(("0B", "1", "2", "3", "4", "5", "6", "7", "8", "9")) for row in rows)
    assert [row["Name"] for row in json.loads(node.compose("ls", "--format", "json"))] == ["p"]
    node.compose("pause", "db")
    assert node.compose("ps", "--status", "paused", "--services") == "db\n"
    node.compose("unpause", "db")
    assert node.compose("ps", "--status", "paused", "-q") == ""
    node.compose("kill", "-s", "KILL", "web")
    until(lambda: node.compose("ps", "--services") == "db\n")
    waiting = begin(node, "wait", "db", "--down-project")
    time.sleep(0.5)
    node.compose("kill", "db")
    out, err = waiting.communicate(timeout=60)
    assert out.startswith('container "p-db-1" exited with status code 137'), err
    assert waiting.returncode == 137
    until(lambda: node.containers() == {})
