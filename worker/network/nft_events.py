"""Who changes nftables: the kernel's notifications about rule sets of one network namespace.

Each committed transaction is told to the multicast group NFNLGRP_NFTABLES: a message per changed object, then
NFT_MSG_NEWGEN with the process that did it (linux/netfilter/nf_tables.h, net/netfilter/nf_tables_api.c). Listening
costs nothing while nothing changes, so that a rule set flushed by another program is seen at once.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Callable
from dataclasses import dataclass

_NETLINK_NETFILTER, _NFNLGRP_NFTABLES, _SOL_NETLINK, _ADD_MEMBERSHIP = 12, 7, 270, 1
_NFTABLES, _NEWGEN = 10, 15
_TABLE_NAME, _GEN_PID, _GEN_NAME = 1, 2, 3
"""In all messages about tables, chains, rules and sets, attribute 1 is the table's name."""


@dataclass(frozen=True)
class Change:
    """A transaction: the tables that it touched, and who made it (0 and "" when the kernel does not say)."""

    tables: frozenset[str]
    pid: int = 0
    program: str = ""
    #: Messages were lost: anything may have changed.
    lost: bool = False


class NftEvents:
    """Tells ``hear`` of every transaction in the network namespace of the thread that made this object."""

    def __init__(self, hear: Callable[[Change], None]) -> None:
        self._hear = hear
        self._tables: set[str] = set()
        self._socket = socket.socket(
            socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK, _NETLINK_NETFILTER
        )
        self._socket.bind((0, 0))
        self._socket.setsockopt(_SOL_NETLINK, _ADD_MEMBERSHIP, _NFNLGRP_NFTABLES)
        asyncio.get_running_loop().add_reader(self._socket.fileno(), self._readable)

    def close(self) -> None:
        """Stop listening."""
        asyncio.get_running_loop().remove_reader(self._socket.fileno())
        self._socket.close()

    def _readable(self) -> None:
        for _ in range(64):
            try:
                data = self._socket.recv(1 << 16)
            except BlockingIOError:
                return
            except OSError:  # ENOBUFS: the kernel dropped messages (netlink(7))
                self._tables.clear()
                self._hear(Change(frozenset(), lost=True))
                continue
            for change in read(data, self._tables):
                self._hear(change)


def read(data: bytes, tables: set[str]) -> list[Change]:
    """Take a datagram apart; `tables` collects the names that the unfinished transaction has touched. Pure but for it.

    Returns:
        Transactions that ended in this datagram.
    """
    found = []
    while len(data) >= 20:
        length, kind = struct.unpack_from("=IH", data)
        if length < 16:
            break
        attributes = _attributes(data[20:length])
        if kind >> 8 == _NFTABLES and kind & 0xFF == _NEWGEN:
            pid = struct.unpack("!I", attributes[_GEN_PID])[0] if len(attributes.get(_GEN_PID, b"")) == 4 else 0
            name = attributes.get(_GEN_NAME, b"").rstrip(b"\0").decode("utf-8", "replace")
            found.append(Change(frozenset(tables), pid, name))
            tables.clear()
        elif kind >> 8 == _NFTABLES and _TABLE_NAME in attributes:
            tables.add(attributes[_TABLE_NAME].rstrip(b"\0").decode("utf-8", "replace"))
        data = data[(length + 3) & ~3 :]
    return found


def _attributes(data: bytes) -> dict[int, bytes]:
    found: dict[int, bytes] = {}
    while len(data) >= 4:
        length, kind = struct.unpack_from("=HH", data)
        if length < 4:
            break
        found.setdefault(kind & 0x3FFF, data[4:length])
        data = data[(length + 3) & ~3 :]
    return found
