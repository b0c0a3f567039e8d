"""Where each node's worker is, and a connection to it, opened once and kept."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterable
from pathlib import Path

import grpc

from pycompose.manager.cache import Cache
from pycompose.manager.model import NODE, TASK
from pycompose.proto.refusal import NotFoundError, UnreachableError
from pycompose.proto.tls import Identity, channel_credentials, expecting
from pycompose.proto.v1 import image_pb2, node_pb2

WORKER_SECONDS = 10.0
"""How long a call waits for a worker of this machine that is just starting, or starting anew."""
REMOTE_SECONDS = 3.0
OPTIONS = (
    ("grpc.max_receive_message_length", -1),
    ("grpc.max_send_message_length", -1),
    ("grpc.initial_reconnect_backoff_ms", 50),
    ("grpc.min_reconnect_backoff_ms", 50),
    ("grpc.max_reconnect_backoff_ms", 500),
)
"""No limit of size, and soon connected again."""
ALIVE = (
    ("grpc.keepalive_time_ms", 5000),
    ("grpc.keepalive_timeout_ms", 5000),
)
"""A worker that is cut off ends the calls to it."""

#: Makes a channel to (address "HOST:PORT", node id).
Connect = Callable[[str, str], grpc.aio.Channel]


def by_identity(folder: Path) -> Connect:
    """Return what connects to other nodes' workers by the identity in a folder: each must prove its node id.

    Of what it returns, a call raises UnreachableError when there is no identity.
    """

    def connect(address: str, node_id: str) -> grpc.aio.Channel:
        try:
            credentials = channel_credentials(Identity.load(folder))
        except OSError as error:
            raise UnreachableError(f"this manager cannot reach {address}: it has no certificate ({error})") from None
        return grpc.aio.secure_channel(address, credentials, options=(*OPTIONS, *ALIVE, expecting(node_id)))

    return connect


class Workers:
    """All nodes' workers.

    Args:
        cache: knows nodes and tasks.
        own: gRPC target of this machine's worker.
        node_id_file: has this machine's node id, once its worker has started for the first time.
        connect: makes channels to other nodes.
    """

    def __init__(self, cache: Cache, own: str, node_id_file: Path, connect: Connect) -> None:
        self._cache, self._own, self._file, self._connect = cache, own, node_id_file, connect
        self._channels: dict[str, grpc.aio.Channel] = {}
        self._left: list[grpc.aio.Channel] = []

    def _own_id(self) -> str:
        with contextlib.suppress(OSError):
            return self._file.read_text()
        return ""

    def name(self, node_id: str) -> str:
        """Return what people call a node."""
        node: node_pb2.Node | None = self._cache.get(NODE, node_id)
        return str(node.description.hostname) if node is not None else node_id or "this machine"

    async def of_tasks(self, task_ids: Iterable[str]) -> dict[str, list[str]]:
        """Return the tasks by the id of their node; "": this machine's, also for tasks that nobody knows."""
        await self._cache.synchronize()
        found: dict[str, list[str]] = {}
        for task_id in task_ids:
            task = self._cache.get(TASK, task_id)
            found.setdefault(self._short(task.node_id) if task is not None else "", []).append(task_id)
        return found

    def node(self, name: str) -> str:
        """Return a node's id by id or host name; "" for this machine. Raises NotFoundError."""
        if not name or name == self._own_id():
            return ""
        for node in self._cache.all(NODE):
            if name in (node.id, node.description.hostname):
                return self._short(node.id)
        raise NotFoundError("node", name)

    def answering(self) -> list[str]:
        """Return the ids of all nodes that are connected; "" for this machine's, which always is among them."""
        ready = [node.id for node in self._cache.all(NODE) if node.status.state == node_pb2.NODE_STATE_READY]
        return sorted({"", *map(self._short, ready)})

    def using(self, image_id: str) -> list[str]:
        """Return the ids of nodes with tasks that use an image."""
        tasks = self._cache.all(TASK)
        return [self._short(task.node_id) for task in tasks if image_id and task.status.image_digest == image_id]

    def holder(self, node_id: str) -> image_pb2.Holder:
        """Return a node as other nodes find it."""
        node: node_pb2.Node | None = self._cache.get(NODE, node_id or self._own_id())
        address = node.description.access_address if node is not None else ""
        return image_pb2.Holder(node_id=node_id or self._own_id(), address=address)

    def is_down(self, node_id: str) -> bool:
        """Return whether a node has not been heard of for its grace time."""
        node: node_pb2.Node | None = self._cache.get(NODE, node_id)
        return node is not None and node.status.state == node_pb2.NODE_STATE_DOWN

    def _short(self, node_id: str) -> str:
        """Return "" for this machine's node."""
        node: node_pb2.Node | None = self._cache.get(NODE, node_id)
        local = node is None or node.description.access_address.startswith("unix:") or not node_id
        return "" if local or node_id == self._own_id() else node_id

    async def channel(self, node_id: str) -> grpc.aio.Channel:
        """Return a connection to a node's worker; a little is waited for one that is not there yet."""
        target = self._own
        if node_id:
            node: node_pb2.Node | None = self._cache.get(NODE, node_id)
            if node is None:
                raise NotFoundError("node", node_id)
            target = node.description.access_address
        key = f"{node_id} {target}"
        channel = self._channels.get(key)
        if channel is None:
            made = self._connect(target, node_id) if node_id else grpc.aio.insecure_channel(target, options=OPTIONS)
            channel = self._channels[key] = made
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(channel.channel_ready(), REMOTE_SECONDS if node_id else WORKER_SECONDS)
        return channel

    def forget(self) -> None:
        """Make each connection to another node anew when it is asked for: this manager's certificate is another.

        Calls that run go on over the connections that they have.
        """
        for key in [key for key in self._channels if not key.startswith(" ")]:
            self._left.append(self._channels.pop(key))

    async def close(self) -> None:
        """Close all connections."""
        for channel in (*self._channels.values(), *self._left):
            await channel.close()
