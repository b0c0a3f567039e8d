"""Network namespaces made ahead of their containers, with what all have in common: loopback, DNS sockets, rules.

What is left to do when a container comes is its veth. A member is held by its descriptor alone: when the node stops or
is killed it is gone, with nothing to clean up. Members are made one after another, up to a fixed number, once nobody
has come for a moment (who was just attached is about to start), and only while there are networks; a full pool costs
nothing but memory.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass

from pycompose.worker.network.errors import NetworkError

log = logging.getLogger(__name__)
SIZE = 8
RETRY_S = 5.0
QUIET_S = 0.05


@dataclass(frozen=True)
class Prepared:
    """A namespace that waits: ``key`` is the resolver's name of its sockets, ``rules`` what nftables has there."""

    descriptor: int
    key: str
    dns_ports: tuple[int, int]
    rules: str


class Pool:
    """Args:
    make: makes a member.
    discard: told of one that is not needed any more, when its descriptor is closed.
    size: how many wait at most.
    """

    def __init__(
        self, make: Callable[[], Awaitable[Prepared]], discard: Callable[[Prepared], None], size: int = SIZE
    ) -> None:
        self._make, self._discard, self._size = make, discard, size
        self._members: list[Prepared] = []
        self._wanted = False
        self._generation = 0
        self._busy = self._uses = self._quiet_at = 0
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def __len__(self) -> int:
        return len(self._members)

    def start(self) -> None:
        """Begin to fill it, as far as it is wanted."""
        self._task = asyncio.create_task(self._fill(), name="fill the pool of network namespaces")

    async def stop(self) -> None:
        """Let all members go and make no more."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        self.drain()

    def want(self, wanted: bool) -> None:
        """Whether there is anything that containers could be attached to."""
        self._wanted = wanted
        if not wanted:
            self.drain()
        self._wake.set()

    def drain(self) -> None:
        """Let all members go, also the one that is being made."""
        self._generation += 1
        gone, self._members = self._members, []
        for member in gone:
            self._release(member)
        self._wake.set()

    def _release(self, member: Prepared) -> None:
        os.close(member.descriptor)
        self._discard(member)

    def take(self) -> Prepared | None:
        """A member, which is the caller's to close; None when none is ready."""
        self._wake.set()
        return self._members.pop(0) if self._members else None

    @contextlib.contextmanager
    def in_use(self) -> Iterator[None]:
        """Somebody is being attached: members are made a moment afterwards."""
        self._busy += 1
        try:
            yield
        finally:
            self._busy -= 1
            self._uses += 1
            self._wake.set()

    async def _fill(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            await self._quiet()
            while self._wanted and len(self._members) < self._size and not self._busy:
                generation = self._generation
                try:
                    member = await self._make()
                except (NetworkError, OSError) as error:
                    log.warning("no network namespace can be prepared: %s", error)
                    await asyncio.sleep(RETRY_S)
                    continue
                if generation != self._generation:
                    self._release(member)
                else:
                    self._members.append(member)

    async def _quiet(self) -> None:
        """Return when nobody has come for a moment."""
        while self._quiet_at != self._uses:
            self._quiet_at = self._uses
            await asyncio.sleep(QUIET_S)
