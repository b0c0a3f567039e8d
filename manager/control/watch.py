"""Watch: objects as they are, then each change, in the store's order, none left out and none twice.

A watcher is a place in the history, not a buffer: it reads what comes after its place from the cache's short memory,
or, when it lags (or resumes after a restart of the manager), from the store's long one. So a slow client costs
nothing; one that falls behind the store's memory is told to begin anew.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable, Iterable, Iterator

from pycompose.manager.cache import Changes
from pycompose.manager.control.api import Api, ServicerContext, project_of, without_data
from pycompose.manager.control.services import counted
from pycompose.manager.model import KINDS, OBJECTS, PROJECT, SECRET, SERVICE, TASK, Kind, Object, parse_key
from pycompose.manager.store import CompactedError, Event, KeyValue, Revision
from pycompose.proto.refusal import HistoryError, InvalidError
from pycompose.proto.v1 import control_pb2, meta_pb2

PIECE, PIECE_BYTES = 200, 1024 * 1024
PAST = 500
PROGRESS_SECONDS = 10.0
Test = Callable[[Kind, Object], bool]
ObjectEvent = control_pb2.ObjectEvent


def passes(request: control_pb2.WatchRequest) -> Test:
    """Return the test that lets an object of a kind through."""
    kinds, services = set(request.kinds), set(request.service_ids)

    def test(kind: Kind, item: Object) -> bool:
        if not kind.number or (kinds and kind.number not in kinds):
            return False
        if services and kind in (SERVICE, TASK):
            return (item.id if kind is SERVICE else item.service_id) in services
        if not request.project:
            return True
        return bool((item.id if kind is PROJECT else project_of(kind, item)) == request.project)

    return test


class WatchCalls:
    """The Watch call."""

    api: Api

    async def Watch(
        self, request: control_pb2.WatchRequest, context: ServicerContext
    ) -> AsyncIterator[control_pb2.WatchResponse]:
        """Send what is, then what changes, until the client leaves."""
        _check(request)
        api, test = self.api, passes(request)
        await api.fresh()
        wake = asyncio.Event()
        stop = api.cache.listen(lambda _: wake.set())
        try:
            cursor = api.cache.version
            if request.HasField("after"):
                cursor = self._place(request.after)
                yield control_pb2.WatchResponse(version=request.after, synchronized=True)
            else:
                for response in self._snapshot(test):
                    yield response
            told = time.monotonic()
            while True:
                wake.clear()
                async for number, events in self._after(cursor, test):
                    cursor = Revision(cursor.epoch, number)
                    for response in pieces(events, _version(cursor)):
                        yield response
                        told = time.monotonic()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(PROGRESS_SECONDS):
                        await wake.wait()
                if time.monotonic() - told >= PROGRESS_SECONDS:
                    yield control_pb2.WatchResponse(version=_version(cursor))
                    told = time.monotonic()
        finally:
            stop()

    def _place(self, after: meta_pb2.Version) -> Revision:
        """Return where a client goes on. Raises HistoryError."""
        now = self.api.cache.version
        if after.epoch != now.epoch:
            raise HistoryError(f"version {after.epoch}/{after.number} is of another life of the store ({now.epoch})")
        if after.number > now.number:
            raise HistoryError(f"version {after.number} is newer than the store's {now.number}")
        return Revision(after.epoch, after.number)

    def _snapshot(self, test: Test) -> Iterator[control_pb2.WatchResponse]:
        """Return the objects as they are."""
        api = self.api
        events = [
            self._event(kind, item, control_pb2.EVENT_TYPE_EXISTING)
            for kind in KINDS.values()
            for item in api.cache.all(kind)
            if test(kind, item)
        ]
        responses = list(pieces(events, _version(api.cache.version))) or [
            control_pb2.WatchResponse(version=_version(api.cache.version))
        ]
        responses[-1].synchronized = True
        return iter(responses)

    async def _after(self, cursor: Revision, test: Test) -> AsyncIterator[tuple[int, list[ObjectEvent]]]:
        """Yield (revision, events) of what came after a place. Raises HistoryError."""
        while cursor.number < self.api.cache.forgotten:
            try:
                past = await self.api.store.changes(OBJECTS, cursor, PAST)
            except CompactedError as error:
                raise HistoryError(str(error)) from error
            for batch in past.items:
                found = [self._stored(batch.revision.epoch, event) for event in batch.events]
                yield batch.revision.number, [self._event(k, o, kind) for k, o, kind in found if test(k, o)]
            cursor = past.revision
            yield cursor.number, []
        for changes in self.api.cache.since(cursor):
            yield changes.revision, self._events(changes, test)

    def _stored(self, epoch: str, event: Event) -> tuple[Kind, Object, int]:
        """Return kind, object and type of a change in the store."""
        kind, identity = parse_key(event.key)
        data, what = event.value, control_pb2.EVENT_TYPE_UPDATED
        if data is None:
            data, what = event.previous, control_pb2.EVENT_TYPE_REMOVED
        elif event.created:
            what = control_pb2.EVENT_TYPE_CREATED
        if data is None:
            return kind, kind.message(id=identity), what  # type: ignore[call-arg]
        return kind, self.api.codec.decode(kind, epoch, KeyValue(event.key, data, 0, event.mod_revision)), what

    def _events(self, changes: Changes, test: Test) -> list[ObjectEvent]:
        events = []
        for change in changes.items:
            sample = change.new if change.new is not None else change.old
            if sample is None or not test(change.kind, sample):
                continue
            kind = control_pb2.EVENT_TYPE_UPDATED
            if change.new is None:
                kind = control_pb2.EVENT_TYPE_REMOVED
            elif change.old is None:
                kind = control_pb2.EVENT_TYPE_CREATED
            events.append(self._event(change.kind, sample, kind))
        return events

    def _event(self, kind: Kind, item: Object, event_type: int) -> ObjectEvent:
        event = ObjectEvent(type=event_type)  # type: ignore[arg-type]
        if kind is SECRET:
            item = without_data(item)
        elif kind is SERVICE:
            item = counted(self.api.cache, item)
        getattr(event, kind.name).CopyFrom(item)
        return event


def _check(request: control_pb2.WatchRequest) -> None:
    """Raises InvalidError."""
    known = {kind.number for kind in KINDS.values() if kind.number}
    for index, number in enumerate(request.kinds):
        if number not in known:
            raise InvalidError([(f"kinds[{index}]", f"{number} is no kind of object; leave kinds out for all")])


def _version(revision: Revision) -> meta_pb2.Version:
    return meta_pb2.Version(epoch=revision.epoch, number=revision.number)


def pieces(events: Iterable[ObjectEvent], version: meta_pb2.Version) -> Iterator[control_pb2.WatchResponse]:
    """Yield answers of a bounded size; the last one carries the version. Nothing for no events."""
    part: list[ObjectEvent] = []
    size = 0
    for event in events:
        if len(part) == PIECE or (part and size + event.ByteSize() > PIECE_BYTES):
            yield control_pb2.WatchResponse(events=part)
            part, size = [], 0
        part.append(event)
        size += event.ByteSize()
    if part:
        yield control_pb2.WatchResponse(events=part, version=version)
