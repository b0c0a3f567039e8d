"""Keeps networks' VXLAN devices and their entries as a view says, by difference.

What is there is read from the kernel once, when a network is first seen by this process, so that a restarted daemon
takes nothing away that carries connections.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Iterable
from pathlib import Path
from typing import Any

from pycompose.worker.network import overlay
from pycompose.worker.network.model import NetworkSpec, NetworkView
from pycompose.worker.network.overlay import Entry
from pycompose.worker.network.spanning import Spanning

Do = Callable[..., Awaitable[Any]]
"""Runs blocking work in the thread that changes namespaces."""


class Tunnels:
    """Args:
    spanning: does the kernel's part.
    do: runs it.
    path: of a network's namespace, by its id.
    uplink: name of the machine's end of a network's way out, by its id.
    plugged: (namespace, interface) of each container on a network, by its id.
    """

    def __init__(
        self,
        spanning: Spanning,
        do: Do,
        path: Callable[[str], Path],
        uplink: Callable[[str], str],
        plugged: Callable[[str], Iterable[tuple[Path, str]]],
    ) -> None:
        self._spanning, self._do, self._path = spanning, do, path
        self._uplink, self._plugged = uplink, plugged
        #: Network id -> what its namespace has.
        self._there: dict[str, frozenset[Entry]] = {}
        #: Networks of which this process has looked whether they have a device.
        self._looked: set[str] = set()

    async def apply(self, view: NetworkView, here: Collection[str]) -> dict[str, str]:
        """Make devices and entries of the networks that are here; return id -> why not, for those that failed."""
        wanted = overlay.entries(view)
        failed: dict[str, str] = {}
        for spec in view.networks:
            if spec.id not in here:
                continue
            try:
                await self._one(spec, view, wanted.get(spec.id))
            except Exception as error:  # others go on; this one is tried again
                self.forget(spec.id)
                failed[spec.id] = f"network {spec.name} cannot reach other nodes: {error}"
        return failed

    async def check(self) -> list[str]:
        """Look at the kernel; return the networks where another program changed something: ``apply`` puts it right."""
        wrong = []
        for network_id, there in list(self._there.items()):
            path = self._path(network_id)
            found = await self._do(self._spanning.read, path)
            if not await self._do(self._spanning.has_device, path):
                del self._there[network_id]
            elif found != there:
                self._there[network_id] = found
            else:
                continue
            wrong.append(network_id)
        return wrong

    def forget(self, network_id: str) -> None:
        """A network's namespace has gone, or must be looked at again."""
        self._there.pop(network_id, None)
        self._looked.discard(network_id)

    async def _one(self, spec: NetworkSpec, view: NetworkView, wanted: frozenset[Entry] | None) -> None:
        path = self._path(spec.id)
        if wanted is None and view.underlay is None:
            return
        if spec.id not in self._looked:
            await self._fit(spec, path)
            if await self._do(self._spanning.has_device, path):
                self._there[spec.id] = await self._do(self._spanning.read, path)
            self._looked.add(spec.id)
        there = self._there.get(spec.id)
        if wanted is None or view.underlay is None:
            if there is not None:
                await self._do(self._spanning.remove, path, there)
                del self._there[spec.id]
            return
        if there is None:
            await self._do(self._spanning.make, path, spec, view.underlay)
            there = frozenset()
        if wanted != there:
            await self._do(self._spanning.change, path, *overlay.difference(wanted, there))
        self._there[spec.id] = wanted

    async def _fit(self, spec: NetworkSpec, path: Path) -> None:
        """A network that was made while the node was alone has longer frames than fit between nodes."""
        if spec.mtu and await self._do(self._spanning.mtu, path) != spec.mtu:
            plugged = list(self._plugged(spec.id))
            await self._do(self._spanning.fit, path, spec.mtu, self._uplink(spec.id), plugged)
