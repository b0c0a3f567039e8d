"""Ports of a container on this machine's loopback: half-close, many at once, flow control, messages, nothing left."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from node.whole import CLI, IMAGE, Node, until

FILE = f"""
name: ports
services:
  echo:
    image: {IMAGE}
    command:
      - sh
      - -c
      - |
        head -c 1000000 /dev/urandom > /tmp/file
        httpd -p 127.0.0.1:7000 -h /tmp
        nc -l -p 7002 -e cat &
        sleep 1000
    pull_policy: never
  alone:
    image: {IMAGE}
    command: nc -ll -p 7000 -e echo alone
    pull_policy: never
    network_mode: none
"""
#: Sends bytes, half-closes, and compares what comes back.
ECHOED = """
import asyncio, os, sys
async def all():
    reader, writer = await asyncio.open_connection("127.0.0.1", int(sys.argv[1]))
    data = os.urandom(8 << 20)
    async def send():
        writer.write(data)
        await writer.drain()
        writer.write_eof()
    sending = asyncio.create_task(send())
    found = await reader.read(-1)
    await sending
    print(found == data)
asyncio.run(all())
"""
#: Gets one file on many connections at once; prints how many were different, and of what size.
FETCHED = """
import asyncio, sys
async def one():
    reader, writer = await asyncio.open_connection("127.0.0.1", int(sys.argv[1]))
    writer.write(b"GET /file HTTP/1.0\\r\\n\\r\\n")
    found = (await reader.read(-1)).partition(b"\\r\\n\\r\\n")[2]
    writer.close()
    return found
async def all():
    found = await asyncio.gather(*(one() for _ in range(40)))
    print(len(set(found)), len(found[0]))
asyncio.run(all())
"""
#: Connects and prints what comes; "" when the connection is cut.
READ = """
import socket, sys
link = socket.create_connection(("127.0.0.1", int(sys.argv[1])), 30)
try:
    print(link.recv(100).decode().strip())
except ConnectionResetError:
    print("cut")
"""


@contextmanager
def forwarding(node: Node, *words: str) -> Iterator[tuple[subprocess.Popen[str], list[int]]]:
    """A running port-forward, and its ports on this machine."""
    process = node.begin(*CLI, "port-forward", *words)
    assert process.stdout is not None
    try:
        ports = []
        for _ in words[1:]:
            line = process.stdout.readline()
            assert line.startswith("Forwarding from 127.0.0.1:"), line + process.communicate(timeout=10)[1]
            ports.append(int(line.split()[2].rpartition(":")[2]))
        yield process, ports
    finally:
        process.kill()
        process.communicate()


def python(node: Node, script: str, *words: object) -> str:
    done = node.run(sys.executable, "-c", script, *map(str, words))
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def sockets(node: Node, container_id: str, port: int) -> int:
    """Established connections in a container at its port (proc_net_tcp: state 01)."""
    pid = node.pids()[container_id]
    with open(f"/proc/{pid}/net/tcp") as file:
        rows = [line.split() for line in file][1:]
    return sum(row[1].endswith(f":{port:04X}") and row[3] == "01" for row in rows)


def test_ports_of_a_container_lead_here(node: Node) -> None:
    node.write(FILE)
    node.compose("up", "-d")
    container_id = json.loads(node.compose("ps", "--format", "ndjson", "echo").splitlines()[0])["ID"]
    container_id = next(each for each in node.pids() if each.startswith(container_id))
    until(lambda: all(port in node.exec("echo", "netstat", "-ltn") for port in (":7000 ", ":7002 ")))
    with forwarding(node, "echo", ":7000", ":7003", "7002") as (process, (web, nobody, same)):
        assert same == 7002
        assert python(node, ECHOED, same) == "True"
        assert python(node, FETCHED, web) == "1 1000000"
        assert python(node, READ, nobody) in ("", "cut")
        until(lambda: sockets(node, container_id, 7000) == 0)
        # a client that goes without a word, and one that is there when the forward ends
        stays = node.begin(
            sys.executable,
            "-c",
            "import socket,sys,time\n" + READ.replace("link.recv", "print(1, flush=True) or link.recv"),
            str(web),
        )
        assert stays.stdout is not None
        assert stays.stdout.readline() == "1\n"
        until(lambda: sockets(node, container_id, 7000) == 1)
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 130
        until(lambda: sockets(node, container_id, 7000) == 0)
        assert stays.communicate(timeout=20)[0] in ("\n", "cut\n")
        assert process.stderr is not None
        errors = process.stderr.read()
        assert "nothing listens on port 7003 in container ports-echo-1" in errors
        assert "Traceback" not in errors
    with forwarding(node, "alone.1", ":7000") as (_, (port,)):
        assert python(node, READ, port) == "alone"


def test_what_cannot_be_forwarded_is_said(node: Node) -> None:
    node.write(FILE)
    node.compose("up", "-d", "alone")
    for words, message in (
        (("nobody", "80"), 'no service "nobody"'),
        (("alone.7", "80"), "service alone has no container number 7; it has 1"),
        (("alone", "99999"), "99999: want [LOCAL:]REMOTE"),
        (("alone", "x:80"), "x:80: want [LOCAL:]REMOTE"),
        (("alone", ":0"), ":0: want [LOCAL:]REMOTE"),
        (("--index", "2", "alone.1", "80"), "leave one out"),
        (("--address", "192.0.2.1", "alone", ":80"), "cannot listen on 192.0.2.1:0"),
    ):
        done = node.cli("port-forward", *words)
        assert done.returncode in (1, 2), done
        assert message in done.stderr
    assert "Traceback" not in node.log()
