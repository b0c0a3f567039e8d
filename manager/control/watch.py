"""Watch: objects as they are, then each change, in the store's order and without a gap."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable

from pycompose.manager.cache import Change, Changes
from pycompose.manager.control.api import Api, ServicerContext, project_of, refuse, without_data
from pycompose.manager.control.services import counted
from pycompose.manager.errors import ApiError, HistoryError
from pycompose.manager.model import KINDS, PROJECT, SECRET, SERVICE, TASK, Kind, Object
from pycompose.manager.store import CompactedError, Revision
from pycompose.proto.v1 import control_pb2, meta_pb2

PIECE = 200
BACKLOG = 20_000


def passes(request: control_pb2.WatchRequest) -> Callable[[Kind, Object], bool]:
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

    def _event(self, kind: Kind, item: Object, event_type: int) -> control_pb2.ObjectEvent:
        event = control_pb2.ObjectEvent(type=event_type)  # type: ignore[arg-type]
        if kind is SECRET:
            item = without_data(item)
        elif kind is SERVICE:
            item = counted(self.api.cache, item)
        getattr(event, kind.name).CopyFrom(item)
        return event

    def _events(self, changes: Iterable[Change], test: Callable[[Kind, Object], bool]) -> list[control_pb2.ObjectEvent]:
        events = []
        for change in changes:
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

    async def Watch(
        self, request: control_pb2.WatchRequest, context: ServicerContext
    ) -> AsyncIterator[control_pb2.WatchResponse]:
        """Send what is, then what changes, until the client leaves."""
        try:
            async for response in self._watch(request):
                yield response
        except ApiError as error:
            await refuse(context, error)

    async def _watch(self, request: control_pb2.WatchRequest) -> AsyncIterator[control_pb2.WatchResponse]:
        api = self.api
        await api.fresh()
        test = passes(request)
        arrived: list[Changes] = []
        wake = asyncio.Event()

        def hear(changes: Changes) -> None:
            arrived.append(changes)
            wake.set()

        first = self._start(request, test, arrived)
        stop = api.cache.listen(hear)
        try:
            for response in first:
                yield response
            while True:
                if not arrived:
                    wake.clear()
                    await wake.wait()
                if len(arrived) > BACKLOG:
                    raise HistoryError("this client reads too slowly; watch anew from the present")
                batch, arrived[:] = list(arrived), []
                events = self._events((change for changes in batch for change in changes.items), test)
                version = meta_pb2.Version(epoch=api.store.epoch, number=batch[-1].revision)
                for start in range(0, len(events), PIECE):
                    last = start + PIECE >= len(events)
                    part = events[start : start + PIECE]
                    yield control_pb2.WatchResponse(events=part, version=version if last else None)
        finally:
            stop()

    def _start(
        self, request: control_pb2.WatchRequest, test: Callable[[Kind, Object], bool], arrived: list[Changes]
    ) -> list[control_pb2.WatchResponse]:
        """Return the first answers: a snapshot, or nothing but the changes since (put into `arrived`)."""
        api = self.api
        if request.HasField("after"):
            try:
                arrived.extend(api.cache.since(Revision(request.after.epoch, request.after.number)))
            except CompactedError as error:
                raise HistoryError(f"{error}; watch anew from the present") from error
            return [control_pb2.WatchResponse(version=request.after, synchronized=True)]
        version = api.version()
        events = [
            self._event(kind, item, control_pb2.EVENT_TYPE_EXISTING)
            for kind in KINDS.values()
            for item in api.cache.all(kind)
            if test(kind, item)
        ]
        pieces = [events[start : start + PIECE] for start in range(0, len(events), PIECE)] or [[]]
        responses = [control_pb2.WatchResponse(events=piece) for piece in pieces]
        responses[-1].version.CopyFrom(version)
        responses[-1].synchronized = True
        return responses
