"""Keeps the machine's rules as they should be while other programs change theirs.

Our table flushed by another program is written again at once; a fight is held in slower and slower turns. After any
change of others' the forward hook is looked at (``forwarding``): exceptions are added where a program provides for
them, and the rest becomes a warning.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
import time
from collections.abc import Awaitable, Callable

from pycompose.worker.network import forwarding
from pycompose.worker.network.errors import NetworkError
from pycompose.worker.network.helper import Helper
from pycompose.worker.network.nft_events import Change, NftEvents

log = logging.getLogger(__name__)
SETTLE_S, LONGEST_S, PEACE_S, LEGACY_S = 0.2, 30.0, 60.0, 10.0
TOOLS = {"legacy": ("iptables-legacy",), "ip": ("iptables", "iptables-nft"), "inet": ()}


class Guard:
    """Args:
    table: our table's name.
    prefix: of the links whose traffic is to be forwarded.
    nft: reads and writes; what it does itself is no news.
    rewrite: writes our table again.
    needed: whether anything is forwarded at all.
    changed: told when ``warnings`` changed.
    """

    def __init__(
        self,
        table: str,
        prefix: str,
        nft: Helper,
        rewrite: Callable[[], Awaitable[None]],
        needed: Callable[[], bool],
        changed: Callable[[], None] = lambda: None,
    ) -> None:
        self._table, self._prefix, self._nft = table, prefix, nft
        self._rewrite, self._needed, self._changed = rewrite, needed, changed
        self._wake = asyncio.Event()
        self._touched = ""
        #: A table that is made and removed at once, only to hear which process the kernel says that we are.
        self._mark = f"{table}-{secrets.token_hex(4)}"
        self._known_as = 0
        self._events: NftEvents | None = None
        self._task: asyncio.Task[None] | None = None
        self._excepted: set[str] = set()
        self.warnings: tuple[str, ...] = ()

    @property
    def excepted(self) -> bool:
        """Whether exceptions of ours stand in another program's rules."""
        return bool(self._excepted)

    def start(self) -> None:
        """Begin to watch."""
        self._events = NftEvents(self._hear)
        self._task = asyncio.create_task(self._watch())
        self.look_soon()

    def look_soon(self) -> None:
        """Look at the forward hook again: there is something new to forward."""
        self._wake.set()

    async def stop(self, *, remove_all: bool) -> None:
        """Watch no longer; with `remove_all` take our exceptions away."""
        if self._events is not None:
            self._events.close()
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
        if remove_all:
            await asyncio.to_thread(self._remove_exceptions)

    def _hear(self, change: Change) -> None:
        if self._mark in change.tables:
            self._known_as = change.pid
            return
        if change.pid and change.pid in (self._known_as, self._nft.pid):
            return
        if change.lost or self._table in change.tables:
            self._touched = f"{change.program or 'another program'} (pid {change.pid})"
        self._wake.set()

    async def _introduce(self) -> None:
        """Learn the number of our helper in the kernel's words: another one than its own in a pid namespace."""
        script = f"add table ip {self._mark}\ndelete table ip {self._mark}\n"
        with contextlib.suppress(NetworkError):
            await self._nft.ask({"netns": "/proc/self/ns/net", "script": script})

    async def _watch(self) -> None:
        pause, last = SETTLE_S, 0.0
        await self._introduce()
        while True:
            # iptables-legacy's rules are no events of nftables: they are looked for now and then
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._wake.wait(), LEGACY_S)
            if not self._wake.is_set() and not forwarding.has_legacy_rules():
                continue
            await asyncio.sleep(pause if self._touched else SETTLE_S)
            self._wake.clear()
            try:
                if self._touched:
                    now = time.monotonic()
                    pause = min(2 * pause, LONGEST_S) if now - last < PEACE_S else SETTLE_S
                    last, who, self._touched = now, self._touched, ""
                    log.warning("%s changed the table %s; it is written again", who, self._table)
                    await self._introduce()  # a new helper has a new number
                    await self._rewrite()
                await self._look()
            except (NetworkError, OSError) as error:
                log.error("the machine's rules could not be looked after: %s", error)
                await asyncio.sleep(1.0)
                self._wake.set()

    async def _look(self) -> None:
        found: list[forwarding.Dropping] = []
        if self._needed():
            answer = await self._nft.ask({"netns": "/proc/self/ns/net", "script": "list chains", "json": True})
            found = forwarding.dropping(answer["output"], self._table)
            if forwarding.has_legacy_rules():
                listing = await asyncio.to_thread(forwarding.run, "iptables-legacy", ["-S"])
                found += forwarding.legacy_dropping(listing or "")
        warnings = [
            forwarding.warning(each, self._prefix)
            for each in found
            if not (each.exceptions and await asyncio.to_thread(self._except, each))
        ]
        if tuple(warnings) != self.warnings:
            self.warnings = tuple(warnings)
            for text in warnings:
                log.warning("%s", text)
            self._changed()

    def _except(self, found: forwarding.Dropping) -> bool:
        """Add what is missing in DOCKER-USER; returns whether it stands there."""
        for tool in TOOLS[found.family]:
            rules = forwarding.run(tool, ["-S", forwarding.CHAIN])
            if rules is None:
                continue
            commands = forwarding.exception_commands(rules, self._prefix)
            if all(forwarding.run(tool, command) is not None for command in commands):
                self._excepted.add(tool)
                return True
        return False

    def _remove_exceptions(self) -> None:
        for tool in self._excepted:
            rules = forwarding.run(tool, ["-S", forwarding.CHAIN]) or ""
            for command in forwarding.removal_commands(rules, self._prefix):
                forwarding.run(tool, command)
        self._excepted.clear()
