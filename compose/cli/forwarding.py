"""`port-forward`: ports of this machine's loopback that lead to ports of a container, on whatever node it is.

Each connection is a call of its own, which ends with it. The container is looked up at each connection, so that one
that was replaced meanwhile is found.
"""

from __future__ import annotations

import contextlib
import selectors
import socket
import struct
import sys
import threading
from collections.abc import Iterator, Sequence

import click

from pycompose.compose.cli.errors import CliError, UsageError
from pycompose.compose.cli.flags import command
from pycompose.compose.cli.settings import settings
from pycompose.compose.client import Client, ClientError
from pycompose.compose.client.state import task_of
from pycompose.proto.v1 import access_pb2

PIECE = 64 << 10
WAITING = 128


@command("port-forward")
@click.option("--address", "addresses", multiple=True, metavar="ADDRESS", help="Listen there (default 127.0.0.1).")
@click.option("--index", type=int, default=0, metavar="N", help="Container number N of the service.")
@click.argument("service", metavar="SERVICE[.N]")
@click.argument("ports", metavar="[LOCAL:]REMOTE...", nargs=-1, required=True)
def port_forward(addresses: tuple[str, ...], index: int, service: str, ports: tuple[str, ...]) -> None:
    """Forward ports of this machine to a container.

    It goes on until Ctrl-C. Without LOCAL the port is the same here; with an empty one (:80) any that is free.

    \b
    pycompose port-forward db 5432           localhost:5432 is db's
    pycompose port-forward web.2 8080:80     the second container of web
    """
    chosen = settings()
    service, index = named(service, index)
    wanted = [port_pair(text) for text in ports]
    with chosen.client(start=False) as client:
        name = chosen.name()
        task = task_of(client, name, service, index)
        if chosen.dry_run:
            return chosen.would(
                [f"forward port {local or 'any'} to {remote} of {task.name}" for local, remote in wanted]
            )
        with contextlib.ExitStack() as stack:
            doors = [
                (stack.enter_context(_listening(address, local)), remote)
                for local, remote in wanted
                for address in addresses or ("127.0.0.1",)
            ]
            for door, remote in doors:
                print(f"Forwarding from {_shown(door)} -> {remote}", flush=True)
            _serve(client, (name, service, index), doors)
    return None


def named(word: str, index: int) -> tuple[str, int]:
    """Read SERVICE or SERVICE.N. Raises UsageError: N is said twice."""
    service, dot, number = word.rpartition(".")
    if not dot or not number.isdigit() or not service:
        return word, index
    if index and index != int(number):
        raise UsageError(f"{word} says container {number}, and --index {index} another; leave one out")
    return service, int(number)


def port_pair(text: str) -> tuple[int, int]:
    """Read [LOCAL:]REMOTE; a LOCAL that is empty or 0 means any free port. Raises UsageError."""
    local, colon, remote = text.rpartition(":")
    pair = (local or "0") if colon else remote, remote
    if not all(one.isascii() and one.isdigit() and int(one) < 1 << 16 for one in pair) or int(remote) == 0:
        raise UsageError(f"{text}: want [LOCAL:]REMOTE with ports of 1 to 65535, such as 8080:80")
    return int(pair[0]), int(remote)


def _listening(address: str, port: int) -> socket.socket:
    """Return a listening socket. Raises CliError."""
    try:
        family = socket.getaddrinfo(address, port, type=socket.SOCK_STREAM)[0][0]
        return socket.create_server((address, port), family=family, backlog=WAITING)
    except OSError as error:
        raise CliError(
            f"cannot listen on {address}:{port}: {error.strerror}; choose another local port, such as :REMOTE for any"
        ) from None


def _shown(door: socket.socket) -> str:
    host, port = door.getsockname()[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _serve(client: Client, what: tuple[str, str, int], doors: Sequence[tuple[socket.socket, int]]) -> None:
    """Accept connections until an interrupt."""
    with selectors.DefaultSelector() as selector:
        for door, remote in doors:
            selector.register(door, selectors.EVENT_READ, remote)
        while True:
            for key, _ in selector.select():
                with contextlib.suppress(OSError):
                    link = key.fileobj.accept()[0]  # type: ignore[union-attr]
                    threading.Thread(target=_forward, args=(client, what, link, key.data), daemon=True).start()


def _forward(client: Client, what: tuple[str, str, int], link: socket.socket, port: int) -> None:
    """Carry one connection; whatever goes wrong with it is one line, and the others go on."""
    with link:
        try:
            task = task_of(client, *what)
            start = access_pb2.PortForwardStart(task_id=task.id, port=port)
            answers = client.access.PortForward(_outgoing(start, link))
            for answer in answers:
                kind = answer.WhichOneof("message")
                if kind == "data":
                    link.sendall(answer.data)
                elif kind == "closed":
                    link.shutdown(socket.SHUT_WR)
        except ClientError as error:
            sys.stderr.write(f"error: {error}\n")
            _reset(link)
        except OSError:
            answers.cancel()  # our side of the connection has gone
        finally:
            with contextlib.suppress(OSError):
                link.shutdown(socket.SHUT_RD)  # whoever still reads keeps a socket open that is closed


def _outgoing(start: access_pb2.PortForwardStart, link: socket.socket) -> Iterator[access_pb2.PortForwardRequest]:
    """Yield what the connection sends, as it is taken; when it is cut, the call is what ends next."""
    yield access_pb2.PortForwardRequest(start=start)
    while True:
        try:
            data = link.recv(PIECE)
        except OSError:
            return
        if not data:
            yield access_pb2.PortForwardRequest(closed=access_pb2.StreamClosed())
            return
        yield access_pb2.PortForwardRequest(data=data)


def _reset(link: socket.socket) -> None:
    """Let the other end see a connection that was cut (SO_LINGER of socket(7) with 0 s)."""
    with contextlib.suppress(OSError):
        link.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
