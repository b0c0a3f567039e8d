"""What this machine is in a cluster: ``STATE/node/node.json``, beside the files of the node's identity.

Without the file the machine is a node by itself. The agent alone writes it; the supervisor and the manager read it.
The identity's files come first, and the file last: where it is, the machine is a node of the cluster.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Self

FILE = "node.json"


@dataclass(frozen=True)
class Membership:
    """A node's place in a cluster.

    Attributes:
        cluster_id, cluster_name: the cluster.
        node_id: this node.
        role: "worker", or "manager" for a machine that runs a manager too.
        advertise: the address at which other nodes reach this one.
        managers: "HOST:PORT" of each manager.
        port: where the node's worker listens.
    """

    cluster_id: str
    cluster_name: str
    node_id: str
    role: str
    advertise: str
    managers: Sequence[str]
    port: int

    @classmethod
    def load(cls, state: Path) -> Self | None:
        """Read a node's membership; None: it is a node by itself. Raises ValueError: the file is damaged."""
        path = state / "node" / FILE
        try:
            row = json.loads(path.read_text())
            known = {name: row[name] for name in cls.__dataclass_fields__}
        except FileNotFoundError:
            return None
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(
                f"{path} is damaged ({error}); restore it, or remove {path.parent} and join again"
            ) from None
        return cls(**known)

    def store(self, state: Path) -> None:
        """Write it, whole or not at all. Raises OSError."""
        folder = state / "node"
        beside = folder / f".{FILE}.new"
        with beside.open("w") as file:
            json.dump(asdict(self), file, indent=1)
            file.flush()
            os.fsync(file.fileno())
        os.rename(beside, folder / FILE)


def forget(state: Path) -> None:
    """Be a node by itself again: the file goes first, then the identity. Raises OSError."""
    folder = state / "node"
    (folder / FILE).unlink(missing_ok=True)
    shutil.rmtree(folder, ignore_errors=True)
