"""One life of the manager: the store that ``backend.json`` names, the loops over it, and the doors before it.

A life ends with the process (SIGTERM), with a loop that failed, or because the store is another from now on: moved to
etcd or back, restored, or so far ahead that the history which the cache needs is gone (CompactedError). In the
latter cases the next life begins at once, in the same process, with everything read anew.
"""

from __future__ import annotations

import asyncio
import json
import logging
import secrets
import time
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import grpc

from pycompose.manager import moving, waiting
from pycompose.manager.allocator import Pools
from pycompose.manager.backend import Backend
from pycompose.manager.backup.calls import Backups
from pycompose.manager.cache import Cache
from pycompose.manager.cluster import add_cluster, cluster_parts
from pycompose.manager.cluster.identity import Trusted
from pycompose.manager.cluster.listening import Listening
from pycompose.manager.control import Api, add_control
from pycompose.manager.dispatcher import Absence, Dispatcher, ManagerId, Presence, add_dispatcher
from pycompose.manager.doors import Calls, Door, LocalDoor
from pycompose.manager.engine import Engine
from pycompose.manager.leadership import Leadership
from pycompose.manager.locking import KEY, is_locked, opened
from pycompose.manager.member import FILE as MEMBER
from pycompose.manager.member import Addresses, Settings
from pycompose.manager.members import fellows, recovering
from pycompose.manager.members.becoming import ANSWER_SECONDS, Becoming, is_to_be
from pycompose.manager.members.parts import OneOfSeveral
from pycompose.manager.members.quorum import Handshake, QuorumCheck, explain
from pycompose.manager.model import Codec
from pycompose.manager.routing import Holders, Workers, add_router, by_identity
from pycompose.manager.sealing import Sealer
from pycompose.manager.store import CompactedError, Put, Store, StoreUnavailableError
from pycompose.manager.store.etcd import EtcdStore
from pycompose.manager.store.gate import Gate
from pycompose.proto import ports
from pycompose.proto.refusal import BlockedError
from pycompose.proto.v1 import access_pb2, build_pb2, cluster_pb2, control_pb2, dispatcher_pb2, image_pb2

if TYPE_CHECKING:
    from pycompose.manager.backup.restoring import Restored

log = logging.getLogger("pycompose.manager")
#: With the files that declare them: reflection finds what is loaded.
SERVICES = {
    f"pycompose.v1.{name}": file.DESCRIPTOR
    for file in (control_pb2, cluster_pb2, dispatcher_pb2, access_pb2, image_pb2, build_pb2)
    for name in file.DESCRIPTOR.services_by_name
}
#: How often it is looked whether the node is to be a manager of a cluster.
LOOK_SECONDS = 0.5
Loop = Coroutine[Any, Any, Any]
Result = TypeVar("Result")


def place_of(state: Path) -> dict[str, Any]:
    """Return what this node is in a cluster (`STATE/node/node.json`, which its agent writes); {} for a single node."""
    try:
        row = json.loads((state / "node" / "node.json").read_text())
    except (OSError, ValueError):
        return {}
    return row if isinstance(row, dict) else {}


def address_of(state: Path) -> str:
    """Return where workers and clients reach this node's manager, "HOST:PORT"; "" on a single node."""
    listening = Listening.load(state / "manager")
    if listening is not None:
        return listening.reached
    here = place_of(state)
    return f"{here['advertise']}:{here.get('ports', {}).get('api', ports.API)}" if here.get("advertise") else ""


def recover_handler(call: Callable[[cluster_pb2.RecoverRequest], Awaitable[Any]]) -> grpc.GenericRpcHandler:
    """Return what serves `Recover` alone, while there is no store to serve anything else from."""

    async def recover(request: cluster_pb2.RecoverRequest, context: Any) -> Any:
        return await call(request)

    made = grpc.unary_unary_rpc_method_handler(
        recover,
        request_deserializer=cluster_pb2.RecoverRequest.FromString,
        response_serializer=cluster_pb2.RecoverResponse.SerializeToString,
    )
    return grpc.method_handlers_generic_handler("pycompose.v1.ClusterService", {"Recover": made})


class Process:
    """The manager of one node.

    Args:
        state: the node's state directory; ours is ``manager`` in it.
        run: where the sockets are.
    """

    def __init__(self, state: Path, run: Path) -> None:
        self.state, self.run_dir, self.folder = state, run, state / "manager"
        self._stopping, self._renewing = asyncio.Event(), asyncio.Event()
        self._moving = asyncio.Lock()
        #: Why the store did not answer the last life; "" when it did.
        self._missing = ""
        #: Of secrets, once it is known: a later life of this process need not be unlocked again.
        self._data_key: bytes | None = None
        self._store: Gate
        self._codec: Codec

    def stop(self) -> None:
        """End this life, and begin no other."""
        self._stopping.set()

    def renew(self) -> None:
        """End this life and begin the next: the store is another now."""
        self._renewing.set()

    async def use_etcd(self, name: str, cluster: str, addresses: Addresses, more: Sequence[Put] = ()) -> None:
        """Move the store to an etcd of this manager's own (see `moving.to_etcd`), and begin anew with it."""
        async with self._moving:
            await moving.to_etcd(self.folder, self._store, self._codec, name, cluster, addresses, more)
        self.renew()

    async def use_sqlite(self) -> None:
        """Move the store back into a file (see `moving.to_sqlite`), and begin anew with it."""
        async with self._moving:
            await moving.to_sqlite(self.folder, self._store, self._codec)
        self.renew()

    async def recover(self, request: cluster_pb2.RecoverRequest) -> cluster_pb2.RecoverResponse:
        """Give the other managers up (see `recovering`), and begin anew alone."""
        async with self._moving:
            given_up = await recovering.others(self.folder)
            if not request.check_only:
                recovering.decide(self.folder)
        if not request.check_only:
            self.renew()
        return cluster_pb2.RecoverResponse(given_up=sorted(each.label for each in given_up))

    async def _use_restored(self, restored: Restored) -> None:
        """Put what a backup had in the store's place, and begin anew with it."""
        async with self._moving, self._store.closed():
            restored.commit()
        self.renew()

    async def run(self) -> int:
        """Live until `stop`; returns the exit status. Raises StoreError, SealError, OSError: it cannot begin."""
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.run_dir.mkdir(parents=True, exist_ok=True, mode=0o755)
        while True:
            self._renewing.clear()
            failed = await self._live()
            self._missing = str(failed) if isinstance(failed, StoreUnavailableError) else ""
            if self._stopping.is_set():
                return 0
            if isinstance(failed, CompactedError):
                log.warning("the store's history is another (%s); everything is read anew", failed)
            elif isinstance(failed, StoreUnavailableError):
                log.warning("the store does not answer (%s); beginning anew", failed)
            elif failed is not None:
                log.error("a loop ended: %s: %s; starting anew", type(failed).__name__, failed)
                return 1

    async def _live(self) -> BaseException | None:
        """One life; returns the error that ended it."""
        moving.adopt(self.folder)
        await recovering.begin(self.folder)
        if not await self._became():
            return None
        backend = Backend.load(self.folder)
        await moving.tidy(self.folder, backend)
        sealer = await self._sealer()
        if sealer is None:
            return None
        codec = Codec(sealer)
        raw = await self._opened(backend)
        if raw is None:
            return None
        if isinstance(raw, EtcdStore):
            await recovering.finish(self.folder, raw)
        store = self._store = Gate(raw)
        self._codec = codec
        leadership = backend.leadership(store)
        opened: list[Door] = []
        running: list[asyncio.Task[Any]] = []
        closers: list[Callable[[], Coroutine[Any, Any, Any]]] = []
        try:
            cache = Cache(store, codec)
            await cache.load()
            member = self._as_member(backend, raw, store, cache, codec) if isinstance(raw, EtcdStore) else None
            doors, calls, loops = self._parts(backend, store, cache, codec, leadership, closers, member)
            if member is not None:
                calls = replace(calls, checks=[QuorumCheck(member.quorum)])
                loops += member.loops(leadership)
            for door in doors:
                opened.append(door)
                await door.open(calls)
            log.info("serving on %s, store: %s", self.run_dir / "api.sock", backend.store)
            running = [
                asyncio.create_task(loop)
                for loop in (*loops, self._until_another(), self._stopping.wait(), self._renewing.wait())
            ]
            done, _ = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
            return next((error for task in done if (error := task.exception())), None)
        finally:
            # The loops run on until no call waits for them.
            for door in reversed(opened):
                await door.close()
            for close in closers:
                await close()
            for task in running:
                task.cancel()
            await asyncio.gather(*running, return_exceptions=True)
            await leadership.resign()
            await store.close()

    async def _opened(self, backend: Backend) -> Store | None:
        """Open the store, and tell whoever calls why, while it does not answer; None: this process is to end."""
        if backend.store == "sqlite":
            return await backend.open(self.folder)

        settings = self.folder / MEMBER
        joins = settings.exists() and Settings.load(self.folder).joins

        async def why() -> str:
            if joins and not fellows.load(self.folder):
                return "this node is a manager since a moment, and its copy of the state is not complete yet"
            return await explain(backend.name, fellows.load(self.folder), Handshake(self.folder), backend.endpoints)

        return await self._waited(lambda: backend.open(self.folder), why, self._missing)

    async def _until_another(self) -> None:
        """Return when this node is to be a manager of a cluster, and this life is a single node's."""
        while not is_to_be(place_of(self.state), self.folder):
            await asyncio.sleep(LOOK_SECONDS)

    async def _became(self) -> bool:
        """Let this node become a manager when it is to be one and is none yet; False: this process is to end."""
        place = place_of(self.state)
        if not is_to_be(place, self.folder):
            return True
        becoming = Becoming(self.state, place)

        async def become() -> bool:
            await becoming()
            return True

        async def why() -> str:
            return becoming.why

        return bool(await self._waited(become, why, becoming.why, ANSWER_SECONDS))

    async def _waited(
        self,
        work: Callable[[], Awaitable[Result]],
        why: Callable[[], Awaitable[str]],
        text: str,
        seconds: float = waiting.FIRST_SECONDS,
    ) -> Result | None:
        doors = [LocalDoor(self.run_dir / "api.sock")]
        calls = [recover_handler(self.recover)]
        opening = asyncio.create_task(waiting.opened(work, why, doors, text, seconds, calls))
        ending = [asyncio.create_task(event.wait()) for event in (self._stopping, self._renewing)]
        try:
            await asyncio.wait([opening, *ending], return_when=asyncio.FIRST_COMPLETED)
            return await opening if opening.done() else None
        finally:
            for task in (opening, *ending):
                task.cancel()
            await asyncio.gather(opening, *ending, return_exceptions=True)

    def _as_member(self, backend: Backend, raw: EtcdStore, store: Store, cache: Cache, codec: Codec) -> OneOfSeveral:
        """Return what a manager has that is one of several."""
        return OneOfSeveral(self.folder, backend, raw, store, cache, codec)

    def _own_node(self) -> str:
        """Return this node's id; "" when its worker has never started."""
        try:
            return self._node_id()
        except BlockedError:
            return ""

    async def _sealer(self) -> Sealer | None:
        """Return what opens secrets; None: the manager is to stop before a person has entered the unlock key."""
        if is_locked(self.folder):
            if self._data_key is None:
                from pycompose.manager.locked import wait_for_key

                log.warning("the manager is locked: it waits for pycompose cluster unlock")
                opener = partial(opened, self.folder)
                self._data_key = await wait_for_key(self.run_dir / "api.sock", opener, self._stopping)
            return None if self._data_key is None else Sealer(self._data_key)
        found = Sealer.from_file(self.folder / KEY)
        self._data_key = found.key
        return found

    def _node_id(self) -> str:
        """Return this node's id. Raises BlockedError: its worker has never started."""
        try:
            return (self.state / "agent" / "node-id").read_text()
        except OSError:
            raise BlockedError("the node's worker has not started yet; try again", "NO_WORKER") from None

    def _parts(
        self,
        backend: Backend,
        store: Store,
        cache: Cache,
        codec: Codec,
        leadership: Leadership,
        closers: list[Callable[[], Coroutine[Any, Any, Any]]],
        member: OneOfSeveral | None,
    ) -> tuple[Sequence[Door], Calls, list[Loop]]:
        """Make the doors, what is served, and what runs."""
        me = ManagerId(backend.name or "single", secrets.token_hex(8))
        managing = member.managing if member is not None else None
        api = Api(store, cache, codec, own=self._own_node, managing=managing)
        workers = Workers(
            cache,
            f"unix:{self.run_dir}/worker.sock",
            self.state / "agent" / "node-id",
            by_identity(self.folder / "tls"),
        )
        closers.append(workers.close)
        dispatcher = Dispatcher(store, cache, codec, time.time, me, Holders(workers).of, Trusted(cache))
        cluster = cluster_parts(
            api,
            self.folder,
            f"unix:{self.run_dir}/worker.sock",
            lambda: place_of(self.state),
            self._node_id,
            lambda: dispatcher.addresses,
            Backups(api, self.folder, self._node_id, lambda: place_of(self.state), self._use_restored),
            leadership,
            workers.forget,
            self.use_etcd,
            self.run_dir / "manager-tls",
            managing,
            self.recover,
        )
        adders = [
            lambda server: add_control(server, api),
            lambda server: add_cluster(server, cluster.calls),
            lambda server: add_dispatcher(server, dispatcher),
            lambda server: add_router(server, workers),
        ]
        engine = Engine(store, cache, codec, leadership, Pools())
        absence = Absence(store, cache, codec, leadership, me, time.time)
        loops: list[Loop] = [cache.follow(), engine.run(), dispatcher.run(), absence.run(), *cluster.loops]
        if backend.store == "etcd":
            loops.append(Presence(store, me, address_of(self.state), dispatcher.managers).run())
        doors: list[Door] = [LocalDoor(self.run_dir / "api.sock"), *cluster.doors]
        return doors, Calls(adders, list(SERVICES)), loops
