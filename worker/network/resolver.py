"""Child process that answers DNS for all containers of a node: ``python -m pycompose.worker.network.resolver``.

Per container it opens a UDP and a TCP socket at 127.0.0.11 *in the container's namespace* (a socket stays in the
namespace it was opened in) on ports that the kernel picks; the agent redirects port 53 to them. Lines of JSON on
standard input:

    {"id", "op": "open", "key", "netns", "ports"} -> {"id", "udp", "tcp"}
                                                                      sockets for a namespace, on these ports if free
    {"op": "rename", "key", "to"}                                     of a namespace that was made ahead
    {"op": "close", "key"}
    {"op": "client", "key", "container", "client"}                    whose namespace it is, what it may see
    {"op": "zones", "zones", "gone"}                                  names of networks, changed ones

and to the agent, before a VIP is told to a client for the first time: {"need": [service ids], "container", "token"},
answered by {"op": "ready", "token"}: the client's namespace translates that VIP now.

What no network knows is asked of the machine's name servers, as its resolv.conf(5) names them at that moment.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import signal
import socket
import struct
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import dns.exception
import dns.flags
import dns.message
import dns.rcode
import dns.rdatatype
import dns.rrset

from pycompose.worker.network import etcfiles, netns
from pycompose.worker.network.nft_helper import die_with_parent
from pycompose.worker.network.zone import Client, Decision, Verdict, Zone, client_from_json, decide, zone_from_json

_ADDRESS = "127.0.0.11"
_TTL_S = 0
"""Answers change when tasks move: clients must not keep them."""
_UPSTREAM_TIMEOUT_S = 3.0
_READY_TIMEOUT_S = 2.0
_TCP_IDLE_S = 10.0
_PENDING_LIMIT = 512


class Listener:
    """The two sockets of one container's namespace."""

    def __init__(self, udp: socket.socket, tcp: socket.socket) -> None:
        self.udp = udp
        self.tcp = tcp
        self.server: asyncio.Server | None = None
        self.container = ""
        self.client = Client((), forward=False)
        self.told: set[str] = set()
        self.pending = 0


class Upstream:
    """The machine's name servers; the file is read again when it has changed (another Wi-Fi, a VPN)."""

    def __init__(self, path: Path = Path("/etc/resolv.conf")) -> None:
        self._path = path
        self._seen: tuple[int, int] | None = None
        self._servers: tuple[str, ...] = ()

    def servers(self) -> tuple[str, ...]:
        """Return them; () when there are none."""
        try:
            status = self._path.stat()
            if (status.st_ino, status.st_mtime_ns) != self._seen:
                self._servers = etcfiles.parse_resolv_conf(self._path.read_text(errors="replace"))[0]
                self._seen = (status.st_ino, status.st_mtime_ns)
        except OSError:
            self._servers, self._seen = (), None
        return self._servers


class Resolver:
    """State of the process: zones, clients, upstreams."""

    def __init__(self) -> None:
        self._home = netns.current()
        self._zones: dict[str, Zone] = {}
        self._listeners: dict[str, Listener] = {}
        self._upstream = Upstream()
        self._tokens = itertools.count(1)
        self._ready: dict[int, asyncio.Event] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    async def handle(self, message: dict[str, Any]) -> None:
        """One line from the agent."""
        match message["op"]:
            case "open":
                await self._open(message)
            case "close":
                self._close(message["key"])
            case "rename":
                listener = self._listeners.pop(message["key"], None)
                if listener is not None:
                    self._listeners[message["to"]] = listener
            case "client":
                listener = self._listeners.get(message["key"])
                if listener is not None:
                    listener.container = message["container"]
                    listener.client = client_from_json(message["client"])
            case "zones":
                self._zones.update({key: zone_from_json(zone) for key, zone in message["zones"].items()})
                for key in message["gone"]:
                    self._zones.pop(key, None)
            case "ready":
                waiting = self._ready.get(message["token"])
                if waiting is not None:
                    waiting.set()

    async def _open(self, message: dict[str, Any]) -> None:
        self._close(message["key"])
        try:
            descriptor = netns.open_file(message["netns"])
            try:
                with netns.inside(descriptor, self._home):
                    ports = message.get("ports") or (0, 0)
                    udp = _bound(socket.SOCK_DGRAM, ports[0])
                    tcp = _bound(socket.SOCK_STREAM, ports[1])
            finally:
                os.close(descriptor)
        except Exception as error:  # whatever it is, the agent must hear it
            _say({"id": message["id"], "error": f"{message['netns']}: {error}"})
            return
        listener = Listener(udp, tcp)
        self._listeners[message["key"]] = listener
        asyncio.get_running_loop().add_reader(udp.fileno(), self._datagram, listener)
        listener.server = await asyncio.start_server(lambda r, w: self._stream(listener, r, w), sock=tcp)
        _say({"id": message["id"], "udp": udp.getsockname()[1], "tcp": tcp.getsockname()[1]})

    def _close(self, key: str) -> None:
        listener = self._listeners.pop(key, None)
        if listener is None:
            return
        asyncio.get_running_loop().remove_reader(listener.udp.fileno())
        listener.udp.close()
        if listener.server is not None:
            listener.server.close()

    def _datagram(self, listener: Listener) -> None:
        try:
            data, peer = listener.udp.recvfrom(4096)
        except OSError:
            return
        if listener.pending >= _PENDING_LIMIT:
            return
        listener.pending += 1
        task = asyncio.ensure_future(self._reply(listener, data, peer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _reply(self, listener: Listener, data: bytes, peer: Any) -> None:
        try:
            wire = await self._answer(listener, data, 0)
            if wire is not None:
                with suppress(OSError):
                    listener.udp.sendto(wire, peer)
        finally:
            listener.pending -= 1

    async def _stream(self, listener: Listener, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError, TimeoutError, asyncio.IncompleteReadError):
            while True:
                async with asyncio.timeout(_TCP_IDLE_S):
                    size = struct.unpack("!H", await reader.readexactly(2))[0]
                    data = await reader.readexactly(size)
                wire = await self._answer(listener, data, 65535)
                if wire is None:
                    break
                writer.write(struct.pack("!H", len(wire)) + wire)
                await writer.drain()
        writer.close()

    async def _answer(self, listener: Listener, data: bytes, limit: int) -> bytes | None:
        try:
            query = dns.message.from_wire(data)
        except dns.exception.DNSException:
            return _malformed(data)
        if query.flags & dns.flags.QR:
            return None
        if len(query.question) != 1:
            return _refusal(query, dns.rcode.FORMERR)
        question = query.question[0]
        decision = decide(question.name.to_text(), int(question.rdtype), listener.client, self._zones)
        if decision.verdict is Verdict.UPSTREAM:
            servers = listener.client.servers or self._upstream.servers()
            if servers:
                wire = await _forward(data, servers, tcp=limit > 0)
                return wire or _refusal(query, dns.rcode.SERVFAIL)
        if decision.verdict is not Verdict.ANSWER:
            return _refusal(query, dns.rcode.NXDOMAIN)
        await self._make_ready(listener, decision)
        response = respond(query, decision)
        return response.to_wire(max_size=limit or max(query.payload, 512), prefer_truncation=True)

    async def _make_ready(self, listener: Listener, decision: Decision) -> None:
        needed = [service for service in decision.services if service not in listener.told]
        if not needed:
            return
        token = next(self._tokens)
        event = self._ready[token] = asyncio.Event()
        _say({"need": needed, "container": listener.container, "token": token})
        try:
            async with asyncio.timeout(_READY_TIMEOUT_S):
                await event.wait()
            listener.told.update(needed)
        except TimeoutError:
            pass
        finally:
            del self._ready[token]


def respond(query: dns.message.Message, decision: Decision) -> dns.message.Message:
    """The response to a question that we answer ourselves; pure."""
    response = dns.message.make_response(query, recursion_available=True)
    response.flags |= dns.flags.AA
    question = query.question[0]
    if decision.records:
        kind = dns.rdatatype.to_text(question.rdtype)
        records = [f"{r}." if kind == "PTR" else r for r in decision.records]
        response.answer.append(dns.rrset.from_text_list(question.name, _TTL_S, "IN", kind, records))
    return response


def _refusal(query: dns.message.Message, code: dns.rcode.Rcode) -> bytes:
    response = dns.message.make_response(query, recursion_available=True)
    response.set_rcode(code)
    return response.to_wire()


def _malformed(data: bytes) -> bytes | None:
    """FORMERR with the query's id and opcode (RFC 1035, 4.1.1); None when there is not even a header of a query."""
    if len(data) < 12 or data[2] & 0x80:
        return None
    return data[:2] + bytes([0x80 | data[2] & 0x79, 0x81]) + bytes(8)


async def _forward(data: bytes, servers: Sequence[str], *, tcp: bool) -> bytes | None:
    """Ask the servers in order, as the client asked; None when none answers in time."""
    for server in servers:
        with suppress(OSError, TimeoutError, asyncio.IncompleteReadError, ValueError):
            async with asyncio.timeout(_UPSTREAM_TIMEOUT_S):
                return await (_ask_tcp(data, server) if tcp else _ask_udp(data, server))
    return None


async def _ask_udp(data: bytes, server: str) -> bytes:
    loop = asyncio.get_running_loop()
    family = socket.AF_INET6 if ":" in server else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as asked:
        await loop.sock_connect(asked, (server, 53))
        await loop.sock_sendall(asked, data)
        while True:
            reply = await loop.sock_recv(asked, 65535)
            if reply[:2] == data[:2]:
                return reply


async def _ask_tcp(data: bytes, server: str) -> bytes:
    reader, writer = await asyncio.open_connection(server, 53)
    try:
        writer.write(struct.pack("!H", len(data)) + data)
        return await reader.readexactly(struct.unpack("!H", await reader.readexactly(2))[0])
    finally:
        writer.close()


def _bound(kind: int, port: int) -> socket.socket:
    """A socket on the port, or on another when a program of the container has it."""
    opened = socket.socket(socket.AF_INET, kind | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
    try:
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, kind == socket.SOCK_STREAM)
        try:
            opened.bind((_ADDRESS, port))
        except OSError:
            opened.bind((_ADDRESS, 0))
        if kind == socket.SOCK_STREAM:
            opened.listen(64)
    except OSError:
        opened.close()
        raise
    return opened


def _say(message: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(message) + "\n")
    sys.stdout.flush()


async def serve() -> None:
    """Read lines from the agent until it ends."""
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader(limit=64 * 1024 * 1024)
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    resolver = Resolver()
    async for line in reader:
        await resolver.handle(json.loads(line))


def main() -> None:
    """Process entry; ``argv[1]``: the machine's network namespace, when it is not the current one."""
    die_with_parent()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if len(sys.argv) > 1 and sys.argv[1]:
        netns.enter(netns.open_file(sys.argv[1]))
    asyncio.run(serve())


if __name__ == "__main__":
    main()
