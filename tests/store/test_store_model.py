"""Random steps on a store and on a model of thirty lines of dictionaries: at every step they say the same."""

from __future__ import annotations

import asyncio
import contextlib
import tempfile
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from store.conftest import BACKENDS

from pycompose.manager.store import (
    Batch,
    CompactedError,
    Compare,
    Delete,
    Event,
    Put,
    Revision,
    Store,
    TransactionResult,
)

T = TypeVar("T")
KEYS = ["/a", "/a/b", "/a0", "/b/x", "/b/y", "/c"]
PREFIXES = ["/", "/a", "/a/", "/b/", "/nothing"]
keys = st.sampled_from(KEYS)
values = st.binary(max_size=4)
changes = st.dictionaries(keys, st.none() | values, min_size=0, max_size=4)
#: For each key compared: whether the comparison will be the right one.
guesses = st.dictionaries(keys, st.booleans(), max_size=2)


@dataclass
class Item:
    value: bytes
    created: int
    modified: int
    lease: int = 0


@dataclass
class Model:
    """What a store is."""

    number: int = 0
    compacted: int = 0
    items: dict[str, Item] = field(default_factory=dict)
    log: list[tuple[int, list[Event]]] = field(default_factory=list)
    leases: dict[int, tuple[float, float]] = field(default_factory=dict)

    def apply(self, writes: dict[str, bytes | None], lease: int = 0) -> None:
        number = self.number + 1
        events = []
        for key, value in writes.items():
            old = self.items.get(key)
            if value is None:
                if old is not None:
                    del self.items[key]
                    events.append(Event(key, None, number, previous=old.value))
                continue
            self.items[key] = Item(value, old.created if old else number, number, lease)
            events.append(Event(key, value, number, created=old is None))
        if events:
            self.number = number
            self.log.append((number, events))

    def end(self, lease: int) -> None:
        if self.leases.pop(lease, None) is not None:
            self.apply({key: None for key, item in sorted(self.items.items()) if item.lease == lease})

    def expire(self, now: float) -> None:
        for lease in [lease for lease, (deadline, _) in self.leases.items() if deadline <= now]:
            self.end(lease)

    def after(self, number: int, prefix: str) -> list[tuple[int, list[Event]]]:
        parts = [(n, [e for e in events if e.key.startswith(prefix)]) for n, events in self.log if n > number]
        return [(n, events) for n, events in parts if events]


class StoreMachine(RuleBasedStateMachine):
    backend = "sqlite"

    @property
    def own_clock(self) -> bool:
        """Whether leases end by the test's clock; etcd has its own, so there none ends while a test runs."""
        return self.backend == "sqlite"

    @initialize()
    def begin(self) -> None:
        self.now = 1000.0
        self.runner = asyncio.Runner()
        self.folder = tempfile.TemporaryDirectory()
        self.model = Model()
        self.store: Store = self.run(self.open())
        self.epoch = self.store.epoch
        # etcd's revisions go on from those of its other stores; the model's history begins here.
        self.model.number = self.model.compacted = self.run(self.store.revision()).number
        self.run(self.store.compact(self.model.number))

    async def open(self) -> Store:
        return await BACKENDS[self.backend](Path(self.folder.name), clock=lambda: self.now)

    def run(self, work: Awaitable[T]) -> T:
        async def limited() -> T:
            async with asyncio.timeout(20):
                return await work

        return self.runner.run(limited())

    def teardown(self) -> None:
        if hasattr(self, "store"):
            self.run(self.store.close())
            self.runner.close()
            self.folder.cleanup()

    def compares(self, guessed: dict[str, bool]) -> tuple[list[Compare], list[str]]:
        """Comparisons, and the keys whose comparison must fail."""
        found, wrong = [], []
        for key, right in guessed.items():
            item = self.model.items.get(key)
            number = item.modified if item else 0
            found.append(Compare(key, number if right else number + 1))
            if not right:
                wrong.append(key)
        return found, wrong

    @rule(writes=changes, guessed=guesses, chosen=st.integers(0, 3))
    def transact(self, writes: dict[str, bytes | None], guessed: dict[str, bool], chosen: int) -> None:
        lease = sorted(self.model.leases)[chosen % len(self.model.leases)] if self.model.leases and chosen else 0
        compares, wrong = self.compares(guessed)
        operations = [Delete(k) if v is None else Put(k, v, lease) for k, v in writes.items()]
        result = self.run(self.store.transact(compares, operations))
        if not wrong:
            self.model.apply(writes, lease)
        assert (result.succeeded, list(result.failed)) == (not wrong, wrong)
        assert result.revision == Revision(self.epoch, self.model.number)

    @rule(many=st.lists(changes, min_size=2, max_size=6), start=st.integers(0, 200))
    def transact_together_with_a_watch(self, many: list[dict[str, bytes | None]], start: int) -> None:
        """Transactions that are committed as a group, and a watch begun among them."""
        after = self.model.compacted + start % (self.model.number - self.model.compacted + 1)

        async def work() -> list[Batch]:
            seen: list[Batch] = []
            writes = [
                self.store.transact([], [Delete(k) if v is None else Put(k, v) for k, v in one.items()]) for one in many
            ]
            half = len(writes) // 2
            results = await self.together(writes[:half])
            watch = asyncio.ensure_future(self.read("/", after, seen))
            results += await self.together(writes[half:])
            assert all(result.succeeded for result in results)
            while len(seen) < len(expected):
                await asyncio.sleep(0)
            watch.cancel()
            await asyncio.gather(watch, return_exceptions=True)
            return seen

        for one in many:
            self.model.apply(one)
        expected = self.model.after(after, "/")
        seen = self.run(work())
        assert [(batch.revision.number, list(batch.events)) for batch in seen] == expected

    async def together(self, writes: list[Awaitable[TransactionResult]]) -> list[TransactionResult]:
        """All at once where they are done in the order in which they were asked for; etcd does them in any."""
        if self.backend == "sqlite":
            return await asyncio.gather(*writes)
        return [await write for write in writes]

    async def read(self, prefix: str, after: int, seen: list[Batch]) -> None:
        async with contextlib.aclosing(self.store.watch(prefix, Revision(self.epoch, after))) as batches:
            async for batch in batches:
                seen += [batch]

    @rule(prefix=st.sampled_from(PREFIXES), start=st.integers(0, 200), limit=st.integers(1, 5))
    def look_back(self, prefix: str, start: int, limit: int) -> None:
        number = start % (self.model.number + 1)
        if number < self.model.compacted:
            with pytest.raises(CompactedError):
                self.run(self.store.changes(prefix, Revision(self.epoch, number), limit))
            return
        found: list[tuple[int, list[Event]]] = []
        while True:
            past = self.run(self.store.changes(prefix, Revision(self.epoch, number), limit))
            found += [(batch.revision.number, list(batch.events)) for batch in past.items]
            number = past.revision.number
            if not past.more:
                break
        assert found == self.model.after(start % (self.model.number + 1), prefix)
        assert number == self.model.number

    @rule(prefix=st.sampled_from(PREFIXES), limit=st.integers(0, 3))
    def range(self, prefix: str, limit: int) -> None:
        after, found = "", []
        while True:
            part = self.run(self.store.range(prefix, after=after, limit=limit))
            found += [item.key for item in part.items]
            if not part.more:
                break
            after = part.items[-1].key
        assert found == [key for key in sorted(self.model.items) if key.startswith(prefix)]

    @rule(place=st.integers(0, 200))
    def compact(self, place: int) -> None:
        number = place % (self.model.number + 2)
        self.run(self.store.compact(number))
        self.model.compacted = max(self.model.compacted, min(number, self.model.number))

    @rule(ttl=st.sampled_from([5.0, 10.0, 60.0]))
    def grant(self, ttl: float) -> None:
        ttl = ttl if self.own_clock else 100 * ttl
        lease = self.run(self.store.grant(ttl))
        assert lease > 0
        assert lease not in self.model.leases
        self.model.leases[lease] = (self.now + ttl, ttl)

    @precondition(lambda self: self.model.leases)
    @rule(chosen=st.integers(0, 9), revoke=st.booleans())
    def keep_or_revoke(self, chosen: int, revoke: bool) -> None:
        lease = sorted(self.model.leases)[chosen % len(self.model.leases)]
        if revoke:
            self.run(self.store.revoke(lease))
            self.model.end(lease)
        else:
            assert self.run(self.store.keep_alive(lease))
            ttl = self.model.leases[lease][1]
            self.model.leases[lease] = (self.now + ttl, ttl)

    @precondition(lambda self: self.own_clock)
    @rule(seconds=st.sampled_from([1.0, 6.0, 70.0]))
    def wait(self, seconds: float) -> None:
        self.now += seconds
        gone = [lease for lease, (deadline, _) in self.model.leases.items() if deadline <= self.now]
        self.model.expire(self.now)
        self.run(self.store.get("/"))  # the store looks at its clock when it has something to do
        for lease in gone:
            assert not self.run(self.store.keep_alive(lease))

    @rule()
    def reopen(self) -> None:
        self.run(self.store.close())
        self.store = self.run(self.open())
        self.model.leases = {lease: (self.now + ttl, ttl) for lease, (_, ttl) in self.model.leases.items()}

    @invariant()
    def same(self) -> None:
        if not hasattr(self, "store"):
            return
        items = self.run(self.store.range("/")).items
        found = {i.key: Item(i.value, i.create_revision, i.mod_revision, i.lease) for i in items}
        assert found == self.model.items
        assert self.run(self.store.revision()) == Revision(self.epoch, self.model.number)


@pytest.mark.timeout(600)
@pytest.mark.parametrize("backend", sorted(BACKENDS))
def test_soak_a_store_is_what_the_model_says(backend: str, many: Callable[[int], int]) -> None:
    class Machine(StoreMachine):
        pass

    Machine.backend = backend
    run_state_machine_as_test(
        Machine, settings=settings(max_examples=many(1000), stateful_step_count=30, deadline=None)
    )
