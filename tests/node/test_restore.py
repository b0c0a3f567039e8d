"""What goes on while the node's daemons are away, and what comes back after a reboot."""

from __future__ import annotations

import contextlib
import os
import re
import select
import shutil
import signal
import time
from pathlib import Path

from node import probes, residue
from node.whole import CLI, Node, container_processes, roles, until

FILE = """
name: restore
services:
  server:
    image: test/busybox
    command: sh -c 'mkdir -p /tmp/www; echo served > /tmp/www/index.html; exec httpd -f -p 80 -h /tmp/www'
    restart: unless-stopped
    ports: ["18097:80"]
    secrets: [word]
    healthcheck: {test: "wget -qO- http://127.0.0.1/", interval: 300ms, retries: 2}
  printer:
    image: test/busybox
    command: sh -c 'i=$$(cat /count 2>/dev/null || echo 0); while :; do echo line $$i; i=$$((i+1));
      echo $$i > /next; mv /next /count; usleep 10000; done'
    restart: always
    volumes: [data:/data]
  once:
    image: test/busybox
    command: sleep 100000
    stop_signal: SIGKILL
  stopped:
    image: test/busybox
    command: sleep 100000
    restart: unless-stopped
    stop_signal: SIGKILL
volumes: {data: {}}
secrets: {word: {environment: WORD}}
"""
FETCH = ("timeout", "5", "busybox", "wget", "-qO-", "http://127.0.0.1:18097/")


def by_service(node: Node) -> dict[str, dict[str, str]]:
    return {item["Service"]: item for item in node.containers().values()}


def pid_of(node: Node, service: str) -> int:
    identity = by_service(node)[service]["ID"]
    return next((pid for each, pid in node.pids().items() if each.startswith(identity)), 0)


def test_all_goes_on_after_the_daemons_were_killed(node: Node) -> None:
    node.write(FILE)
    node.compose("up", "-d", "--wait")
    pids, client = node.pids(), pid_of(node, "printer")
    vip = probes.ask(client, "server")[1][0]
    following = node.begin(*CLI, "logs", "-f", "--no-log-prefix", "--no-color", "printer")
    try:
        assert select.select([following.stdout], [], [], 60)[0], "the log is not followed"
        time.sleep(1)
        os.kill(node.daemons()["supervisor"], signal.SIGKILL)
        until(lambda: not node.daemons())
        with probes.socket_in(client) as link:  # what needs no daemon works without
            link.connect((vip, 80))
        node.compose("node", "start")
        until(lambda: node.run(*FETCH).stdout == "served\n")
        assert node.pids() == pids
        assert probes.ask(client, "server") == ("NOERROR", [vip])
        with probes.socket_in(client) as link:
            link.connect((vip, 80))

        # the health check goes on, and so does the restart policy
        until(lambda: by_service(node)["server"]["Health"] == "healthy")
        node.exec("server", "rm", "/tmp/www/index.html")
        until(lambda: by_service(node)["server"]["Health"] == "unhealthy")
        os.kill(pid_of(node, "printer"), signal.SIGKILL)
        until(lambda: pid_of(node, "printer") not in (0, client), what=node.log)
        time.sleep(1)
    finally:
        following.send_signal(signal.SIGINT)
        try:
            out, _ = following.communicate(timeout=10)
        finally:
            following.kill()
    numbers = [int(line.split()[1]) for line in out.splitlines() if line.startswith("line ")]
    assert numbers == list(range(len(numbers))), "the followed log has gaps or repetitions"
    assert len(numbers) > 100


def reboot(node: Node) -> None:
    """Nothing of a process, a mount, a cgroup or a link survives, nor the run directory; the state does."""
    processes = [*roles(node), *container_processes(node)]
    for pid in processes:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    until(lambda: not roles(node) and not container_processes(node), 20)
    run = node.folder / "run"
    script = f"grep -o ' {run}[^ ]*' /proc/self/mountinfo | sort -r | xargs -r -n 1 umount -l; nft flush ruleset"
    node.run("sh", "-c", script)
    shutil.rmtree(run)
    for path in Path("/sys/fs/cgroup").glob(f"*{node.cgroup}"):
        for directory, _, _ in os.walk(path, topdown=False):
            os.rmdir(directory)
    until(lambda: "pyct" not in node.run("ip", "-o", "link").stdout)


def test_a_reboot_brings_back_what_has_a_restart_policy(node: Node) -> None:
    empty = residue.take(node)
    node.write(FILE)
    node.compose("up", "-d", "--wait")
    node.compose("stop", "stopped")
    before = {service: item["ID"] for service, item in by_service(node).items()}
    node.exec("printer", "sh", "-c", "echo kept > /data/file; echo layer > /file")
    reboot(node)
    node.compose("node", "start")
    until(lambda: by_service(node)["server"]["State"] == "running", what=node.log)
    until(lambda: by_service(node)["server"]["Health"] == "healthy", what=node.log)
    until(lambda: by_service(node)["printer"]["State"] == "running")
    until(lambda: by_service(node)["once"]["State"] == "exited")
    found = by_service(node)
    assert {service: item["ID"] for service, item in found.items()} == before
    assert found["stopped"]["State"] == "exited"
    assert node.exec("server", "cat", "/run/secrets/word") == "secret word\n"
    assert node.exec("printer", "cat", "/data/file", "/file") == "kept\nlayer\n"
    assert node.run(*FETCH).stdout == "served\n"
    assert probes.ask(pid_of(node, "printer"), "server")[0] == "NOERROR"
    text = node.compose("logs", "--no-log-prefix", "printer")
    numbers = [int(found) for found in re.findall(r"^\w+ (\d+)$", text, re.MULTILINE)]  # a power cut may tear a line
    assert numbers[0] == 0
    assert numbers == sorted(numbers)
    node.compose("start", "once", "stopped")
    until(lambda: {item["State"] for item in by_service(node).values()} == {"running"})
    node.compose("down", "-v")
    until(lambda: not residue.left(empty, residue.take(node)), what=lambda: residue.left(empty, residue.take(node)))


def test_stopping_the_node(node: Node) -> None:
    """Containers go on without it, or are stopped with it; then nothing is left of it in the kernel."""
    node.write(FILE)
    node.compose("up", "-d", "--wait")
    pids = node.pids()
    assert "containers go on running" in node.compose("node", "stop")
    assert not node.daemons()
    assert node.pids() == pids
    assert all(Path(f"/proc/{pid}").exists() for pid in pids.values())
    node.compose("node", "start")
    assert "stopped" in node.compose("node", "stop", "--stop-containers")
    assert not node.pids()
    assert not container_processes(node)
