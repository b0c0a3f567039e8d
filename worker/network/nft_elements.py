"""Elements of nftables' sets, put in and taken out by netlink messages of our own.

A container that comes or goes changes nothing but a few elements: one datagram (0.04 ms), sent by the thread that makes
the veth, without a round trip to the helper process that owns libnftables.

Source: linux/netfilter/nfnetlink.h, nf_tables.h (NFT_MSG_NEWSETELEM), net/netfilter/nfnetlink.c (batches).
"""

from __future__ import annotations

import errno
import itertools
import os
import socket
import struct
from collections.abc import Sequence
from contextlib import suppress

from pycompose.worker.network.errors import KernelRefused

_NETFILTER, _NFTABLES, _BRIDGE = 12, 10, 7
_BATCH_BEGIN, _BATCH_END, _NEW, _DELETE = 16, 17, 12, 14
_REQUEST, _ACK, _CREATE, _NESTED = 0x1, 0x4, 0x400, 0x8000
_ERROR = 2


def batch(table: str, elements: Sequence[tuple[str, bytes]], *, add: bool) -> tuple[bytes, int]:
    """The datagram that adds or deletes ``elements``, (set, key) each, of the bridge family's ``table``. Pure.

    Returns:
        It, and how many acknowledgements come back (sequence numbers 1, 2, ...).
    """
    data = _message(_BATCH_BEGIN, _REQUEST, 0, struct.pack(">BBH", 0, 0, _NFTABLES))
    kind, flags = (_NEW, _CREATE) if add else (_DELETE, 0)
    by_set = itertools.groupby(sorted(elements), key=lambda element: element[0])
    number = 0
    for number, (name, group) in enumerate(by_set, start=1):
        keys = b"".join(_nest(1, _nest(1, _attribute(1, key))) for _, key in group)
        head = struct.pack(">BBH", _BRIDGE, 0, 0)
        body = head + _attribute(1, table.encode() + b"\0") + _attribute(2, name.encode() + b"\0") + _nest(3, keys)
        data += _message(_NFTABLES << 8 | kind, _REQUEST | _ACK | flags, number, body)
    return data + _message(_BATCH_END, _REQUEST, 0, struct.pack(">BBH", 0, 0, _NFTABLES)), number


def speaker() -> socket.socket:
    """A socket for ``change``, in the namespace that the calling thread is in.

    Keep it: after a transaction that removed something its closing waits for an RCU grace period, 6 ms and more, and
    holds the namespace's transactions up meanwhile (nft_rcv_nl_event in net/netfilter/nf_tables_api.c).
    """
    link = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK, _NETFILTER)
    try:
        link.bind((0, 0))
    except OSError:
        link.close()
        raise
    return link


def change(link: socket.socket, table: str, elements: Sequence[tuple[str, bytes]], *, add: bool) -> None:
    """Add or delete elements in the namespace of ``link``; to delete what is not there is no error.

    Raises:
        KernelRefused: the table or a set is not there, or the kernel refused; nothing was changed then.
    """
    data, expected = batch(table, elements, add=add)
    link.send(data)  # returns when the kernel has done it: all answers are there
    heard: list[int] = []
    with suppress(BlockingIOError):
        while True:
            heard += answers(link.recv(1 << 16))
    if not add and errno.ENOENT in heard:
        return  # the whole batch is void: what was to go is gone already
    status = next(filter(None, heard), 0 if len(heard) >= expected else errno.EPROTO)
    if status:
        failure = OSError(status, os.strerror(status))
        raise KernelRefused(f"nftables refused elements of table {table}: {failure.strerror}") from failure


def answers(data: bytes) -> list[int]:
    """The errno (0: done) of each acknowledgement in a datagram. Pure."""
    found = []
    while len(data) >= 20:
        length, kind = struct.unpack_from("=IH", data)
        if kind == _ERROR:
            found.append(-struct.unpack_from("=i", data, 16)[0])
        data = data[(length + 3) & ~3 :]
    return found


def _message(kind: int, flags: int, sequence: int, body: bytes) -> bytes:
    return struct.pack("=IHHII", 16 + len(body), kind, flags, sequence, 0) + body


def _attribute(kind: int, data: bytes) -> bytes:
    return struct.pack("=HH", 4 + len(data), kind) + data + bytes(-len(data) % 4)


def _nest(kind: int, data: bytes) -> bytes:
    return _attribute(kind | _NESTED, data)
