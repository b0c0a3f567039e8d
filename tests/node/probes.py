"""Sockets in other network namespaces, and small servers and clients of them: no process is started for a probe."""

from __future__ import annotations

import contextlib
import ctypes
import os
import socket
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TypeVar

import dns.message
import dns.query
import dns.rcode
import dns.rdatatype

T = TypeVar("T")
_libc = ctypes.CDLL(None, use_errno=True)
DNS = "127.0.0.11"


def inside(pid: int, work: Callable[[], T]) -> T:
    """Run `work` in a thread that is in the network namespace of a process."""
    results: list[T] = []
    failures: list[BaseException] = []

    def body() -> None:
        try:
            with open(f"/proc/{pid}/ns/net") as file:
                assert _libc.setns(file.fileno(), 0x40000000) == 0, os.strerror(ctypes.get_errno())
            results.append(work())
        except BaseException as error:
            failures.append(error)

    thread = threading.Thread(target=body)
    thread.start()
    thread.join()
    if failures:
        raise failures[0]
    return results[0]


def socket_in(pid: int, kind: int = socket.SOCK_STREAM, family: int = socket.AF_INET) -> socket.socket:
    """A socket of a process's network namespace, to be used from anywhere."""
    made = inside(pid, lambda: socket.socket(family, kind))
    made.settimeout(5)
    return made


def ask(pid: int, name: str, kind: str = "A", *, tcp: bool = False, timeout: float = 5) -> tuple[str, list[str]]:
    """Ask the embedded DNS as a program in that namespace would: (response code, sorted records)."""

    def query() -> tuple[str, list[str]]:
        question = dns.message.make_query(name, kind)
        found = (dns.query.tcp if tcp else dns.query.udp)(question, DNS, timeout=timeout)
        wanted = dns.rdatatype.from_text(kind)
        records = [each.to_text() for answer in found.answer for each in answer if answer.rdtype == wanted]
        return dns.rcode.to_text(found.rcode()), sorted(records)

    return inside(pid, query)


def fetch(pid: int, address: str, port: int, source: str = "", timeout: float = 3) -> str:
    """What a ``Server`` answers to a connection from that namespace."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket_in(pid, family=family) as link:
        link.settimeout(timeout)
        if source:
            link.bind((source, 0))
        link.connect((address, port))
        return link.recv(200).decode()


def send(pid: int, address: str, port: int, timeout: float = 3) -> str:
    """What a ``Server`` answers to a datagram from that namespace."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket_in(pid, socket.SOCK_DGRAM, family) as link:
        link.settimeout(timeout)
        link.connect((address, port))
        link.send(b"hello")
        return link.recv(200).decode()


def refused(work: Callable[[], object]) -> str:
    """How a connection fails: "refused", "no answer", "unreachable"; fails itself when it succeeds."""
    try:
        got = work()
    except ConnectionRefusedError:
        return "refused"
    except TimeoutError:
        return "no answer"
    except OSError as error:
        return "unreachable" if error.errno in (101, 113) else os.strerror(error.errno or 0)
    raise AssertionError(f"it answered {got!r}")


@dataclass
class Server:
    """Answers each connection and datagram on a port with its name and the peer's address."""

    name: str
    sockets: list[socket.socket] = field(default_factory=list)
    peers: list[str] = field(default_factory=list)
    kept: list[socket.socket] = field(default_factory=list)
    #: Connections are kept open after the answer.
    keep: bool = False

    def listen(self, pid: int, port: int, address: str = "0.0.0.0") -> None:
        """Serve TCP and UDP in a namespace."""
        for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
            made = socket_in(pid, kind, socket.AF_INET6 if ":" in address else socket.AF_INET)
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            made.bind((address, port))
            made.settimeout(None)
            self.sockets.append(made)
            if kind == socket.SOCK_STREAM:
                made.listen(100)
            work = self._connections if kind == socket.SOCK_STREAM else self._datagrams
            threading.Thread(target=work, args=(made,), daemon=True).start()

    def _connections(self, listener: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while True:
                link, peer = listener.accept()
                self.peers.append(peer[0])
                link.sendall(f"{self.name} {peer[0]}".encode())
                if self.keep:
                    self.kept.append(link)
                    threading.Thread(target=self._echo, args=(link,), daemon=True).start()
                else:
                    link.close()

    def _echo(self, link: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := link.recv(100):
                link.sendall(data)

    def _datagrams(self, bound: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while True:
                _, peer = bound.recvfrom(200)
                if peer is None:
                    return  # shut down
                self.peers.append(peer[0])
                bound.sendto(f"{self.name} {peer[0]}".encode(), peer)

    def close(self) -> None:
        """End it."""
        for each in [*self.sockets, *self.kept]:
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()


@contextlib.contextmanager
def servers(pids: dict[str, int], port: int = 80, *, keep: bool = False) -> Iterator[dict[str, Server]]:
    """A server in each of these namespaces, by name."""
    found = {name: Server(name, keep=keep) for name in pids}
    try:
        for name, server in found.items():
            server.listen(pids[name], port)
        yield found
    finally:
        for server in found.values():
            server.close()


class Upstream:
    """A name server for the machine: knows some names, counts questions, answers long ones over TCP only."""

    def __init__(self, pid: int, address: str, names: dict[str, list[str]]) -> None:
        self.names = names
        self.asked: list[tuple[str, str]] = []
        self._sockets = []
        for kind in (socket.SOCK_DGRAM, socket.SOCK_STREAM):
            made = socket_in(pid, kind)
            made.settimeout(None)
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            made.bind((address, 53))
            if kind == socket.SOCK_STREAM:
                made.listen(10)
            self._sockets.append(made)
        threading.Thread(target=self._udp, daemon=True).start()
        threading.Thread(target=self._tcp, daemon=True).start()

    def _answer(self, data: bytes, way: str) -> dns.message.Message:
        query = dns.message.from_wire(data)
        question = query.question[0]
        name = question.name.to_text(omit_final_dot=True)
        self.asked.append((name, way))
        response = dns.message.make_response(query, recursion_available=True)
        records = self.names.get(name)
        if records is None:
            response.set_rcode(dns.rcode.NXDOMAIN)
        elif question.rdtype == dns.rdatatype.A:
            response.answer.append(dns.rrset.from_text_list(question.name, 5, "IN", "A", records))
        return response

    def _udp(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                data, peer = self._sockets[0].recvfrom(2000)
                if not data:
                    return  # shut down
                wire = self._answer(data, "udp").to_wire(max_size=512, prefer_truncation=True)
                self._sockets[0].sendto(wire, peer)

    def _tcp(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                link, _ = self._sockets[1].accept()
                with link, contextlib.suppress(OSError):
                    size = int.from_bytes(link.recv(2, socket.MSG_WAITALL), "big")
                    wire = self._answer(link.recv(size, socket.MSG_WAITALL), "tcp").to_wire()
                    link.sendall(len(wire).to_bytes(2, "big") + wire)

    def close(self) -> None:
        """End it."""
        for each in self._sockets:
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()
