"""Who changes a project now: one client at a time, in the order in which they asked.

A hold is a promise among clients, as flock(2) is, and no check of writes: those compare versions. It lasts as long as
its call, so a client that is killed holds nothing; it lives in this manager's memory, and one that was restarted knows
of none.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass, field

from pycompose.proto.v1 import control_pb2


@dataclass(eq=False)
class _Claim:
    """One call that holds, or waits."""

    holder: control_pb2.ProjectHolder
    wake: asyncio.Event = field(default_factory=asyncio.Event)


class Holds:
    """Per project, the claims in the order in which they came; the first one holds.

    Args:
        clock: seconds since the epoch.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._claims: dict[str, list[_Claim]] = {}

    async def take(
        self, project: str, holder: control_pb2.ProjectHolder
    ) -> AsyncGenerator[control_pb2.ProjectHolder | None, None]:
        """Yield each one who is waited for, then None when it is held, and stay; closing gives it back."""
        claim = _Claim(holder)
        claims = self._claims.setdefault(project, [])
        claims.append(claim)
        self._mark(claims)
        told: _Claim | None = None
        try:
            while True:
                claim.wake.clear()
                if claims[0] is not told:
                    told = claims[0]
                    yield None if told is claim else told.holder
                await claim.wake.wait()
        finally:
            claims.remove(claim)
            self._mark(claims)
            for other in claims:
                other.wake.set()
            if not claims:
                del self._claims[project]

    def _mark(self, claims: list[_Claim]) -> None:
        """Write down since when the first one holds."""
        if claims and not claims[0].holder.HasField("since"):
            claims[0].holder.since.FromNanoseconds(int(self._clock() * 1e9))
