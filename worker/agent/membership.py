"""What this node is: `STATE/node/node.json`; without that file it is a single node, its manager is on this machine.

The file says the cluster, the node's role in it, its address and its managers' addresses. What a manager tells of
the managers is written back, so that a node that was off for a while finds those that are there by then.
"""

from __future__ import annotations

import contextlib
import json
import logging
import random
from collections.abc import Callable, Mapping, MutableSequence, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Self

import grpc

from pycompose.proto import ports
from pycompose.proto.files import replace
from pycompose.proto.tls import Identity, channel_credentials, expecting, name_of

log = logging.getLogger(__name__)
OPTIONS = (("grpc.max_receive_message_length", -1),)
#: For a manager on another machine: a ping after 2 s of silence, and 3 s for its answer.
ALIVE = (
    ("grpc.keepalive_time_ms", 2000),
    ("grpc.keepalive_timeout_ms", 3000),
    ("grpc.http2.max_pings_without_data", 0),
)


def folder(state: Path) -> Path:
    """Return where a node keeps what it is, and its certificate."""
    return state / "node"


@dataclass(frozen=True)
class Membership:
    """A node's place in a cluster.

    Attributes:
        role: "single", "worker" or "manager".
        cluster_id, cluster_name: "" on a single node.
        node_id: as its certificate has it.
        advertise: its address for others; `listen`: the one it listens on, "" for all.
        ports: by their names: "worker", "vxlan".
    """

    role: str = "single"
    cluster_id: str = ""
    node_id: str = ""
    advertise: str = ""
    ports: Mapping[str, int] = field(default_factory=dict)
    cluster_name: str = ""
    listen: str = ""

    @classmethod
    def load(cls, state: Path) -> Self:
        """Read it; a file that is missing or cannot be read makes a single node."""
        row = _row(state)
        return cls(**{name: row[name] for name in cls.__dataclass_fields__ if name in row})

    def store(self, state: Path, managers: Sequence[str]) -> None:
        """Write it, with the managers' addresses, whole or not at all. Raises OSError.

        The node's certificate comes first, and this last: where the file is, the machine is a node of the cluster.
        """
        row = asdict(self) | {"managers": sorted(managers)}
        replace(folder(state) / "node.json", json.dumps(row).encode(), 0o644)

    @property
    def worker_port(self) -> int:
        """Port of this node's task access for managers and other nodes."""
        return int(self.ports.get("worker", ports.WORKER))

    @property
    def data_port(self) -> int:
        """UDP port of this node's for networks' frames."""
        return int(self.ports.get("vxlan", ports.VXLAN))


class Managers:
    """Where this node's managers are.

    Args:
        state, run: the node's directories.
        shuffle: puts a list into any order.
    """

    def __init__(
        self, state: Path, run: Path, shuffle: Callable[[MutableSequence[str]], None] = random.shuffle
    ) -> None:
        self._state, self._socket, self._shuffle = state, f"unix:{run}/api.sock", shuffle

    def targets(self) -> list[str]:
        """Return where to try for a session, best first: gRPC targets ("unix:PATH", "HOST:PORT").

        A manager node asks its own manager first, a worker any.
        """
        row = _row(self._state)
        role = row.get("role", "single")
        if role == "single":
            return [self._socket]
        addresses = self.addresses()
        if role == "manager":
            own = str(row.get("advertise", ""))
            return [self._socket, *(each for each in addresses if each.rpartition(":")[0] != own)]
        return addresses

    def addresses(self) -> list[str]:
        """Return where managers are, "HOST:PORT" each, in any order."""
        found = list(map(str, _row(self._state).get("managers", ())))
        self._shuffle(found)
        return found

    def heard(self, addresses: Sequence[str]) -> None:
        """Write down where managers are now."""
        row = _row(self._state)
        if not addresses or not row or sorted(addresses) == row.get("managers"):
            return
        told = json.dumps(row | {"managers": sorted(addresses)}).encode()
        try:
            replace(folder(self._state) / "node.json", told, 0o644)
        except OSError as error:
            log.warning("where the managers are cannot be written down: %s", error)

    def become(self, role: str) -> None:
        """Write down what this node is from now on."""
        row = _row(self._state)
        replace(folder(self._state) / "node.json", json.dumps(row | {"role": role}).encode(), 0o644)

    def connect(self, target: str) -> grpc.aio.Channel:
        """Return a channel to a manager: on this machine as it is, elsewhere by this node's certificate.

        Raises OSError: there is no certificate.
        """
        if target.startswith("unix:"):
            return grpc.aio.insecure_channel(target, options=OPTIONS)
        credentials = channel_credentials(Identity.load(folder(self._state)))
        return grpc.aio.secure_channel(target, credentials, options=(*OPTIONS, *ALIVE, expecting(name_of("manager"))))


def _row(state: Path) -> dict[str, Any]:
    with contextlib.suppress(OSError, ValueError):
        row = json.loads((folder(state) / "node.json").read_text())
        if isinstance(row, dict):
            return row
    return {}
