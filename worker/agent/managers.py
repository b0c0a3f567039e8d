"""Where this node's managers are: `STATE/node/node.json`, or the one on this machine where there is no such file.

On a node of a cluster the file names the managers' addresses; what a manager tells of them is written back, so that a
node that was off for a while finds those that are there by then. A manager node asks its own manager first.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import random
from collections.abc import Callable, MutableSequence, Sequence
from pathlib import Path
from typing import Any

log = logging.getLogger(__name__)


class Managers:
    """Args: state, run: the node's directories; shuffle: puts a list into any order."""

    def __init__(
        self, state: Path, run: Path, shuffle: Callable[[MutableSequence[str]], None] = random.shuffle
    ) -> None:
        self._file, self._socket, self._shuffle = state / "node" / "node.json", f"unix:{run}/api.sock", shuffle

    def targets(self) -> list[str]:
        """Return where to try for a session, best first: gRPC targets ("unix:PATH", "HOST:PORT")."""
        row = self._row()
        role = row.get("role", "single")
        if role == "single":
            return [self._socket]
        addresses = list(map(str, row.get("managers", ())))
        self._shuffle(addresses)
        if role == "manager":
            own = str(row.get("advertise", ""))
            return [self._socket, *(each for each in addresses if each.rpartition(":")[0] != own)]
        return addresses

    def heard(self, addresses: Sequence[str]) -> None:
        """Write down where managers are now."""
        row = self._row()
        if not addresses or not row or sorted(addresses) == row.get("managers"):
            return
        temporary = self._file.with_suffix(".new")
        try:
            temporary.write_text(json.dumps(row | {"managers": sorted(addresses)}))
            os.rename(temporary, self._file)
        except OSError as error:
            log.warning("where the managers are cannot be written down: %s", error)

    def _row(self) -> dict[str, Any]:
        with contextlib.suppress(OSError, ValueError):
            row = json.loads(self._file.read_text())
            if isinstance(row, dict):
                return row
        return {}
