"""Hands on tasks of any node through any manager, and what becomes of a dead node's tasks."""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest
from node.whole import CLI, IMAGE, until

from cluster import lasting
from cluster.bed import Host, laid
from cluster.load import Load
from cluster.provision import managers, spread

WORD, SETTING = "only-where-it-is-needed-7c1e", "set-where-it-is-needed-51ab"
FILE = f"""
name: spread
services:
  web:
    image: {IMAGE}
    command: sh -c 'nc -ll -p 80 -e hostname & while :; do echo tick; sleep 1; done'
    pull_policy: never
    network_mode: none
    deploy:
      replicas: 3
      placement: {{max_replicas_per_node: 2}}
  keeper:
    image: {IMAGE}
    command: sleep 1000
    pull_policy: never
    network_mode: none
    secrets: [word]
    configs: [setting]
    deploy:
      placement: {{constraints: [node.hostname == m1]}}
secrets:
  word: {{file: ./word}}
configs:
  setting: {{content: "{SETTING}"}}
"""
#: A program that is nobody's but the test's.
SLEEPS = "sleep 77"


@pytest.mark.timeout(7200)
def test_hands_reach_every_node_and_a_dead_hosts_tasks_move_soak(tmp_path: Path) -> None:
    with laid(tmp_path / "bed", ("m1", "m2", "m3")) as bed:
        hosts = list(bed.hosts.values())
        managers(bed, hosts)
        for host in hosts:
            host.start()
        first, second, third = hosts
        until(lambda: first.cli("node", "ls").stdout.lower().count("ready") == 3, what=first.log)
        spread(hosts, tmp_path)
        first.write(FILE)
        first.write(WORD, "word")
        first.compose("up", "-d")
        until(lambda: all(host.pids() for host in hosts), what=lambda: first.compose("ps", "-a") + first.log())
        second.write(FILE)
        second.write("other", "word")
        third.write("other", "word")
        names = {second.exec("web", "hostname", index=number) for number in (1, 2, 3)}
        assert len(names) == 3
        until(lambda: second.cli("logs", "web").stdout.count("tick") >= 3)
        hands_through(second)
        nothing_stays_behind(second, first)
        assert first.exec("keeper", "cat", "/run/secrets/word", "/setting") == WORD + SETTING
        a_secret_is_only_where_it_is_needed(first, (second, third))
        with Load({host.name: host.folder / "run" / "api.sock" for host in hosts}) as load:
            load.watch()
            lasting.a_pause_a_bad_line_and_busy_cores_are_no_death(bed, load, hosts)
            lasting.restarts_touch_no_container(load, hosts)
            lasting.dead_hosts_tasks_move(load, hosts)


def hands_through(host: Host) -> None:
    """Every kind of hand on each task, whatever node it is on, through one manager."""
    host.write("to and fro", "note")
    for number in ("1", "2", "3"):
        at = ("--index", number)
        done = host.cli("exec", "-T", *at, "web", "sh", "-c", "echo out; echo err >&2; exit 7")
        assert (done.returncode, done.stdout, done.stderr) == (7, "out\n", "err\n")
        piped = f"printf 'half closed' | {' '.join(CLI)} exec -T --index {number} web sh -c 'wc -c; echo later'"
        assert host.run("sh", "-c", piped).stdout.split() == ["11", "later"]
        sized = f"stty rows 33 columns 121; {' '.join(CLI)} exec --index {number} web stty size"
        assert "33 121" in host.run("script", "-qec", sized, "/dev/null").stdout
        host.compose("cp", *at, "note", "web:/tmp/note")
        host.compose("cp", *at, "web:/tmp/note", f"back{number}")
        assert (host.folder / f"back{number}").read_text() == "to and fro"
        own = host.exec("web", "hostname", index=int(number))
        forward = host.begin(*CLI, "port-forward", f"web.{number}", ":80")
        try:
            assert forward.stdout is not None
            port = forward.stdout.readline().split()[2].rpartition(":")[2]
            assert host.run("/bin/busybox", "nc", "127.0.0.1", port).stdout == own
        finally:
            forward.kill()
            forward.communicate()
    assert host.compose("top", "web").count("sleep") >= 3
    assert host.compose("stats", "--no-stream").count("spread-web-") == 3
    lines = host.compose("logs", "-t", "--no-color", "--no-log-prefix", "web").splitlines()
    times = [line.split()[0] for line in lines]
    assert len(times) >= 3
    assert times == sorted(times)


def nothing_stays_behind(host: Host, other: Host) -> None:
    """A cut of the client, or of the manager that it talks to, ends what it ran, on whatever node."""

    def running() -> int:
        return sum(SLEEPS in other.exec("web", "ps", index=number) for number in (1, 2, 3))

    def begun() -> list[subprocess.Popen[str]]:
        words = [*CLI, "exec", "-T", "--index"]
        clients = [host.begin(*words, number, "web", *SLEEPS.split()) for number in "123"]
        until(lambda: running() == 3)
        return clients

    clients = begun()
    for client in clients:
        client.kill()
        client.communicate()
    until(lambda: running() == 0)
    clients = begun()
    host.kill("manager")
    until(lambda: running() == 0)
    for client in clients:
        client.communicate(timeout=60)
        assert client.returncode != 0
    until(lambda: host.cli("node", "ls").returncode == 0, what=host.log)


def a_secret_is_only_where_it_is_needed(there: Host, others: Sequence[Host]) -> None:
    """Neither on another node, nor on any disk, nor in what is printed."""
    # the machine's own view shows disks, and not the tmpfs that a node mounts in its namespace
    states = [str(host.folder / "state") for host in (there, *others)]
    assert subprocess.run(["grep", "-rlaF", WORD, *states], capture_output=True, text=True).stdout == ""
    assert len(there.run("grep", "-rlaF", WORD, str(there.folder / "run" / "secrets")).stdout.split()) == 1
    # managers keep configs as they are; a worker has them in memory, and only where they are needed
    agents = [str(host.folder / "state" / "agent") for host in (there, *others)]
    assert subprocess.run(["grep", "-rlaF", SETTING, *agents], capture_output=True, text=True).stdout == ""
    for host in others:
        assert host.run("grep", "-rlaF", WORD, str(host.folder)).stdout == ""
        agent = Path(f"/proc/{host.daemons()['agent']}")
        memory = memory_of(agent)
        assert WORD.encode() not in memory
        assert SETTING.encode() not in memory
    assert WORD.encode() in memory_of(Path(f"/proc/{there.daemons()['agent']}"))  # the search does find
    task = there.compose("ps", "-q", "keeper").strip()
    for words in (("config",), ("secrets", "inspect", "spread_word"), ("container", "inspect", task)):
        done = there.cli(*words)
        assert done.returncode == 0, done.stderr
        assert WORD not in done.stdout + done.stderr


def memory_of(process: Path) -> bytes:
    """All that a process may write in its memory (proc_pid_maps(5), proc_pid_mem(5))."""
    found = []
    with open(process / "mem", "rb", buffering=0) as memory:
        for line in (process / "maps").read_text().splitlines():
            span, rights = line.split()[:2]
            if rights.startswith("rw"):
                begin, end = (int(word, 16) for word in span.split("-"))
                with contextlib.suppress(OSError, OverflowError):
                    memory.seek(begin)
                    found.append(memory.read(end - begin))
    return b"".join(found)
