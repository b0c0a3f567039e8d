"""Networks of a node on the real kernel, with a network namespace of the test's own as the machine."""

import asyncio
import ctypes
import os
import socket
import subprocess
import threading
from collections.abc import Awaitable, Callable
from ipaddress import IPv4Address, IPv4Interface, IPv4Network
from pathlib import Path
from typing import Any

from pycompose.worker.network.manager import NodeNetwork
from pycompose.worker.network.model import Attachment, Endpoint, NetworkSpec, NetworkView, PublishedPort, ServiceView

CLONE_NEWNET, CLONE_NEWNS = 0x40000000, 0x00020000
A, B = "a" * 64, "b" * 64


def on_own_machine(story: Callable[[], Awaitable[None]]) -> None:
    """Run a story in a thread that has a machine of its own: network and mount namespace."""
    failures: list[BaseException] = []

    def body() -> None:
        libc = ctypes.CDLL(None, use_errno=True)
        try:
            assert libc.unshare(CLONE_NEWNET) == 0
            subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
            asyncio.run(story())  # type: ignore[arg-type]
        except BaseException as error:
            failures.append(error)

    thread = threading.Thread(target=body)
    thread.start()
    thread.join()
    if failures:
        raise failures[0]


def view(backends: list[str]) -> NetworkView:
    addresses = {A: "10.9.0.2", B: "10.9.0.3"}
    return NetworkView(
        networks=(NetworkSpec("net1", "app_default", IPv4Network("10.9.0.0/24"), IPv4Address("10.9.0.1")),),
        endpoints=tuple(
            Endpoint(each, "net1", IPv4Address(address), (f"app-web-{each[0]}",), "svc", each in backends)
            for each, address in addresses.items()
        ),
        services=(ServiceView("svc", "net1", ("web",), IPv4Address("10.9.0.100")),),
        ports=(PublishedPort("svc", 18080, 80, "net1"),),
    )


SERVER = """
import socket, sys
server = socket.create_server((sys.argv[1], 80))
while True:
    peer, _ = server.accept()
    peer.sendall(sys.argv[1].encode())
    peer.close()
"""


def inside(path: Path, *command: str) -> subprocess.Popen[str]:
    full = ["nsenter", f"--net={path}", *command]
    return subprocess.Popen(full, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def said(path: Path, *command: str) -> str:
    process = inside(path, *command)
    out, error = process.communicate(timeout=20)
    return out.strip() or error.strip()


def output(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def fetch(address: str, port: int) -> str:
    with socket.create_connection((address, port), timeout=5) as link:
        return link.recv(64).decode()


LOOKUP = """
import socket, struct, sys
question = b"".join(bytes([len(p)]) + p.encode() for p in sys.argv[1].split(".")) + b"\\0\\0\\1\\0\\1"
link = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
link.settimeout(5)
link.sendto(b"\\0\\7\\1\\0\\0\\1\\0\\0\\0\\0\\0\\0" + question, ("127.0.0.11", 53))
answer = link.recv(512)
print(socket.inet_ntoa(answer[-4:]) if answer[7] else "none")
"""
CONNECT = "import socket, sys; print(socket.create_connection((sys.argv[1], 80), 5).recv(64).decode())"


async def story(tmp: Path) -> None:
    network = NodeNetwork(tmp, f"t{os.getpid() % 90 + 10}")
    servers: list[subprocess.Popen[Any]] = []
    await network.start()
    try:
        await network.apply(view([A, B]))
        paths = {}
        for each, address in ((A, "10.9.0.2"), (B, "10.9.0.3")):
            paths[each] = await network.attach(each, [Attachment("net1", IPv4Interface(f"{address}/24"))])
            servers.append(inside(paths[each], "python3", "-c", SERVER, address))
        await asyncio.sleep(0.5)
        assert await asyncio.to_thread(said, paths[A], "python3", "-c", LOOKUP, "web") == "10.9.0.100"
        assert await asyncio.to_thread(said, paths[A], "python3", "-c", LOOKUP, "tasks.web") in ("10.9.0.2", "10.9.0.3")
        assert await asyncio.to_thread(said, paths[A], "python3", "-c", LOOKUP, "app-web-b") == "10.9.0.3"
        both = {await asyncio.to_thread(said, paths[A], "python3", "-c", CONNECT, "10.9.0.100") for _ in range(4)}
        assert both == {"10.9.0.2", "10.9.0.3"}
        assert {await asyncio.to_thread(fetch, "127.0.0.1", 18080) for _ in range(4)} == both

        await network.close()
        network = NodeNetwork(tmp, network._instance)
        await network.start({A})
        await network.apply(view([A]))
        assert network.describe().containers == (A,)
        only = {await asyncio.to_thread(said, paths[A], "python3", "-c", CONNECT, "10.9.0.100") for _ in range(3)}
        assert only == {"10.9.0.2"}
    finally:
        for server in servers:
            server.kill()
            server.communicate()
        await network.close(remove_all=True)
    async with asyncio.timeout(10):  # the kernel removes a dropped namespace's links in its own time
        while "pyc" in await asyncio.to_thread(output, "ip", "-o", "link"):
            await asyncio.sleep(0.05)
    assert "pycompose" not in await asyncio.to_thread(output, "nft", "list", "ruleset")
    assert not (tmp / "netns").exists()


def test_names_vips_ports_and_recovery(tmp_path: Path) -> None:
    on_own_machine(lambda: story(tmp_path))
