"""What all calls of the control API share.

Reads come from the cache once it has caught up with the store. Writes compare the version that was read, so that
a lost update is refused and not repaired. Refusals are raised; `proto.guard` turns them into statuses with details.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

import grpc

from pycompose.manager import ids
from pycompose.manager.cache import Cache
from pycompose.manager.control.holding import Holds
from pycompose.manager.control.paging import Key, page
from pycompose.manager.model import (
    NAMES,
    NODE,
    SECRET,
    SERVICE,
    TASK,
    Codec,
    Kind,
    Object,
    name_key,
    object_key,
)
from pycompose.manager.store import Compare, Operation, Put, Store
from pycompose.proto.refusal import BlockedError, ExistsError, InvalidError, LostUpdateError, NotFoundError
from pycompose.proto.v1 import meta_pb2

if TYPE_CHECKING:
    from pycompose.manager.members.managing import Managing

ServicerContext = grpc.aio.ServicerContext[Any, Any]
RETRIES = 50


def name_of(kind: Kind, message: Object) -> str:
    """Return what people call the object."""
    if kind is TASK:
        return str(message.name)
    if kind is NODE:
        return str(message.description.hostname)
    return str(message.spec.name)


def project_of(kind: Kind, message: Object) -> str:
    """Return the object's project; "" when it has none."""
    if kind is TASK:
        return str(message.project)
    return str(getattr(message.spec, "project", "")) if hasattr(message, "spec") else ""


def order_of(kind: Kind, item: Object) -> Key:
    """Return an object's place in lists; no two are the same."""
    if kind is TASK:
        return (item.project, item.service_name, item.slot, item.id)
    return (project_of(kind, item), name_of(kind, item), item.id)


class Api:
    """Store, cache and clock; one per manager.

    `new_id` gives ids of new objects; `own` this machine's node's id, "" when its worker has never started.
    """

    def __init__(
        self,
        store: Store,
        cache: Cache,
        codec: Codec,
        clock: Callable[[], float] = time.time,
        new_id: Callable[[], str] = ids.object_id,
        own: Callable[[], str] = lambda: "",
        managing: Managing | None = None,
    ) -> None:
        #: The managers, where they can be several.
        self.managing = managing
        self.store, self.cache, self.codec, self.clock, self.new_id = store, cache, codec, clock, new_id
        self.own = own
        #: Held while a change is checked against other objects and written.
        self.checking = asyncio.Lock()
        #: Clients that change a project, or wait to.
        self.holds = Holds(clock)

    # Reading.

    async def fresh(self, stale_ok: bool = False) -> None:
        """Wait until the cache has all that was committed before."""
        if not stale_ok:
            await self.cache.synchronize()

    def version(self) -> meta_pb2.Version:
        """Return what the cache is as of."""
        now = self.cache.version
        return meta_pb2.Version(epoch=now.epoch, number=now.number)

    def find(self, kind: Kind, text: str) -> Object:
        """Return the object with that id, unique id prefix or name. Raises NotFoundError, InvalidError."""
        found = self.match(kind, text)
        if not found:
            raise NotFoundError(kind.name, text or "(no name given)")
        if len(found) > 1:
            names = ", ".join(sorted(f"{name_of(kind, item)} ({item.id[:12]})" for item in found)[:5])
            raise InvalidError([(kind.name, f"{text!r} is ambiguous: it fits {names}; give more of the id")])
        return found[0]

    def match(self, kind: Kind, text: str) -> list[Object]:
        """Return objects by id, else by name, else by id prefix."""
        if not text:
            return []
        exact = self.cache.get(kind, text)
        if exact is not None:
            return [exact]
        if kind is SERVICE:
            named = [s for s in self.cache.all(SERVICE) if text in (s.spec.name, f"{s.spec.project}/{s.spec.name}")]
        else:
            named = [item for item in self.cache.all(kind) if name_of(kind, item) == text]
        return named or [item for item in self.cache.all(kind) if item.id.startswith(text)]

    def require(self, kind: Kind, identity: str) -> Object:
        """Return the object with that id. Raises NotFoundError."""
        found = self.cache.get(kind, identity)
        if found is None:
            raise NotFoundError(kind.name, identity or "(no id given)")
        return found

    def list(
        self,
        kind: Kind,
        request: Any,
        labels: Callable[[Object], Any] = lambda item: item.spec.labels,
        test: Callable[[Object], bool] = lambda item: True,
    ) -> tuple[list[Object], str]:
        """Return the page that a List request asks for, and the token of the next. Raises InvalidError.

        `labels`: what the filter's labels are looked for in; `test`: further conditions.
        """
        wanted = request.filter
        items: Iterable[Object] = self.cache.all(kind)
        if wanted.names:
            items = {item.id: item for text in wanted.names for item in self.match(kind, text)}.values()
        if wanted.project:
            items = [item for item in items if project_of(kind, item) == wanted.project]
        if wanted.labels:
            pairs = wanted.labels.items()
            items = [item for item in items if all(k in (of := labels(item)) and v in ("", of[k]) for k, v in pairs)]
        found = [without_data(item) if kind is SECRET else item for item in items if test(item)]
        return page(found, lambda item: order_of(kind, item), request.page_size, request.page_token)

    # Writing.

    async def commit(self, compares: Sequence[Compare], operations: Sequence[Operation]) -> tuple[str, ...] | None:
        """Write; returns the keys whose comparison failed, or None when all is durable and in the cache."""
        result = await self.store.transact(compares, operations)
        await self.cache.wait(result.revision.number)
        return None if result.succeeded else result.failed or ("",)

    def stamp(self, message: Object, *, new: bool) -> None:
        """Write down when it was changed."""
        nanoseconds = int(self.clock() * 1e9)
        message.meta.updated_at.FromNanoseconds(nanoseconds)
        if new:
            message.meta.created_at.FromNanoseconds(nanoseconds)

    async def create(self, kind: Kind, message: Object, extra: Sequence[Operation] = ()) -> Object:
        """Store a new object with its name. Raises ExistsError."""
        self.stamp(message, new=True)
        compares = [Compare(object_key(kind, message.id), 0)]
        operations: list[Operation] = [self.codec.put(kind, message.id, message), *extra]
        if kind.unique is not None:
            key = name_key(kind, kind.unique(message))
            held = await self.store.get(key)
            if held is not None:
                # another manager may have created it just now: this cache must have come as far
                await self.cache.wait(held.mod_revision)
            # A manager that was killed may have removed an object and not yet its name: that name is free.
            free = held is not None and self.cache.get(kind, held.value.decode()) is None
            compares.append(Compare(key, held.mod_revision if held is not None and free else 0))
            operations.append(Put(key, message.id.encode()))
        if await self.commit(compares, operations) is not None:
            raise ExistsError(kind.name, name_of(kind, message))
        return self.require(kind, message.id)

    async def update(
        self, kind: Kind, identity: str, version: meta_pb2.Version, change: Callable[[Object], Sequence[Operation]]
    ) -> Object:
        """Change an object whose spec is as it was at `version`; what the manager wrote since then is kept.

        Args:
            kind, identity: the object.
            version: what the change was made from.
            change: changes the copy that it is given, and returns operations to commit with it; may be called again.

        Raises:
            LostUpdateError: the spec was changed after `version`.
            NotFoundError, InvalidError, BlockedError: there is no such object, or no version, or no end of conflicts.
        """
        for _ in range(RETRIES):
            current = self.require(kind, identity)
            self.expect(kind, current, version)
            copy = kind.message()
            copy.CopyFrom(current)
            extra = change(copy)
            if copy == current and not extra:
                return current
            if copy.spec != current.spec:
                copy.meta.spec_after = current.meta.version.number
            self.stamp(copy, new=False)
            operations = [self.codec.put(kind, identity, copy), *extra]
            compare = Compare(object_key(kind, identity), current.meta.version.number)
            if await self.commit([compare], operations) is None:
                return self.require(kind, identity)
        raise BlockedError(f"the {kind.name} keeps being changed by others; try again", "CHANGED", identity)

    def expect(self, kind: Kind, current: Object, version: meta_pb2.Version) -> None:
        """Compare the version that an update was made from. Raises LostUpdateError, InvalidError."""
        if not version.epoch and not version.number:
            text = "is needed: meta.version of the object that the update was made from"
            raise InvalidError([("version", text)])
        now, after = current.meta.version, current.meta.spec_after
        if version.epoch != now.epoch or not after < version.number <= now.number:
            raise LostUpdateError(kind.name, name_of(kind, current), *(f"{v.epoch}/{v.number}" for v in (now, version)))

    async def edit(self, kind: Kind, identities: Sequence[str], change: Callable[[Object], bool]) -> meta_pb2.Version:
        """Change objects whatever their version is; `change` says whether it changed the copy.

        Raises:
            NotFoundError: one of them is not there; then none was changed.
            BlockedError: others change them faster than we can.
        """
        for identity in identities:
            self.require(kind, identity)
        size = self.store.max_operations
        for start in range(0, len(identities), size):
            await self._edit(kind, identities[start : start + size], change)
        return self.version()

    async def _edit(self, kind: Kind, identities: Sequence[str], change: Callable[[Object], bool]) -> None:
        for _ in range(RETRIES):
            compares, operations = [], []
            for identity in identities:
                current = self.cache.get(kind, identity)
                if current is None:
                    continue
                copy = kind.message()
                copy.CopyFrom(current)
                if change(copy):
                    self.stamp(copy, new=False)
                    compares.append(Compare(object_key(kind, identity), current.meta.version.number))
                    operations.append(self.codec.put(kind, identity, copy))
            if not operations or await self.commit(compares, operations) is None:
                return
        raise BlockedError(f"the {kind.name} objects keep being changed by others; try again", "CHANGED")


def without_data(secret: Object) -> Object:
    """Return a secret without what it hides."""
    copy = SECRET.message()
    copy.CopyFrom(secret)
    copy.spec.ClearField("data")
    return copy


__all__ = ["NAMES", "Api", "ServicerContext", "name_of", "project_of", "without_data"]
