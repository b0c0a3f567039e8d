"""Who runs the control loops. On SQLite there is one manager and it always leads; etcd's election fits behind this."""

from __future__ import annotations

from typing import Protocol

from pycompose.manager.store import Compare


class Leadership(Protocol):
    """The right to run the control loops."""

    async def acquire(self) -> None:
        """Wait until this manager leads."""
        ...

    def fence(self) -> tuple[Compare, ...]:
        """Return comparisons for each write of a loop: they fail once another manager leads."""
        ...

    async def lost(self) -> None:
        """Wait until this manager no longer leads."""
        ...


class AlwaysLeader:
    """Leadership of the only manager."""

    async def acquire(self) -> None:
        """Lead at once."""

    def fence(self) -> tuple[Compare, ...]:
        """Nobody else writes."""
        return ()

    async def lost(self) -> None:
        """Never."""
        import asyncio

        await asyncio.Event().wait()
